package main

import (
	"flag"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/sluicemesh/sluice/microkernel"
)

// maxLimit is the greatest value of --limit.
const maxLimit = 100_000

// limits are those of the policy that the command line sets, by name.
type limits map[string]int

// limitFields maps the names to the fields of a policy.
func limitFields(p *microkernel.Policy) map[string]*int {
	return map[string]*int{
		"restarts-per-service":   &p.RestartsPerService,
		"drains-per-target":      &p.DrainsPerTarget,
		"drains-per-target-hold": &p.DrainsPerTargetHold,
		"plan-services":          &p.MaxPlanServices,
		"agent-services-10m":     &p.AgentServices10m,
		"agent-services-60m":     &p.AgentServices60m,
		"fleet-services-10m":     &p.FleetServices10m,
		"group-size":             &p.MaxGroupSize,
	}
}

// register adds --limit.
func (l *limits) register(flags *flag.FlagSet) {
	*l = limits{}
	flags.Var(l, "limit", "limit of the policy as `NAME=N`, may be repeated; names: "+strings.Join(limitNames(), ", "))
}

// limitNames lists the names, sorted.
func limitNames() []string {
	var p microkernel.Policy
	return slices.Sorted(maps.Keys(limitFields(&p)))
}

// Set implements flag.Value.
func (l *limits) Set(text string) error {
	name, number, _ := strings.Cut(text, "=")
	if !slices.Contains(limitNames(), name) {
		return fmt.Errorf("no such limit: want one of %s", strings.Join(limitNames(), ", "))
	}
	n, err := strconv.Atoi(number)
	if err != nil || n < 1 || n > maxLimit {
		return fmt.Errorf("%s %q: want 1 to %d", name, number, maxLimit)
	}
	(*l)[name] = n
	return nil
}

// String implements flag.Value.
func (l *limits) String() string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(*l)) {
		out = append(out, fmt.Sprintf("%s=%d", name, (*l)[name]))
	}
	return strings.Join(out, " ")
}

// set puts the limits into a policy.
func (l *limits) set(p *microkernel.Policy) {
	fields := limitFields(p)
	for name, n := range *l {
		*fields[name] = n
	}
}
