package rules

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/isa/compose"
	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/topology"
)

// Bounds of plans.
const (
	MaxID     = 64 // bytes of a plan's id
	MaxNumber = 64 // proposals of one incident that resume looks for
)

// wanted is one rung: what to restart.
type wanted struct {
	part   isa.Target     // of set[0]: the instance, version or zone to restart; zero = all
	set    []mesh.Service // restart set, sorted
	group  topology.Group // orders of set
	epoch  string
	reason string
}

// String identifies w for the settling of a diagnosis.
func (w *wanted) String() string {
	names := make([]string, 0, len(w.set)+1)
	for _, service := range w.set {
		names = append(names, string(service))
	}
	return strings.Join(append(names, w.part.Instance+w.part.Version+w.part.Zone), " ")
}

// rungs lists what to restart, from the least to the whole group.
func rungs(settings Settings, o Observation, symptom Symptom) []wanted {
	group := symptom.Group
	if len(group.Suspects) == 0 || len(group.RestartSet) == 0 {
		return nil
	}
	culprit := group.Suspects[0]
	base := wanted{set: group.RestartSet, group: group, epoch: group.Epoch, reason: culprit.Reason}
	var ladder []wanted
	if culprit.Level != topology.LevelService && len(group.RestartSet) == 1 && o.Facts[culprit.Service].Instances > 1 {
		some := base
		some.part = isa.Target{
			Service: culprit.Service, Instance: culprit.Instance, Version: culprit.Version, Zone: culprit.Zone,
		}
		if some.part.Instance+some.part.Version+some.part.Zone != "" {
			ladder = append(ladder, some)
		}
	}
	ladder = append(ladder, base)
	var strong, all []mesh.Service
	for _, suspect := range group.Suspects {
		if suspect.Score >= settings.StrongFrom || suspect.Service == culprit.Service {
			strong = append(strong, suspect.Service)
		}
	}
	for _, member := range group.Members {
		if member.Service.Namespace() != mesh.OutsideNamespace {
			all = append(all, member.Service)
		}
	}
	if o.Graph == nil {
		return ladder
	}
	for _, targets := range [][]mesh.Service{strong, all} {
		wider := o.Graph.Planned(targets)
		if len(wider.RestartSet) > len(ladder[len(ladder)-1].set) {
			next := base
			next.set, next.group = wider.RestartSet, wider
			ladder = append(ladder, next)
		}
	}
	return ladder
}

// program composes the plan of w.
func (w *wanted) program(id string, o Observation) isa.Program {
	if w.part.Service != "" {
		return w.partProgram(id)
	}
	return compose.Restart(id, compose.Orders{
		RestartSet: w.set, Drain: w.group.DrainOrder, Restart: w.group.RestartOrder,
		Restore: w.group.RestoreOrder, Epoch: w.epoch,
	}, o.Facts)
}

// partProgram drains, restarts and restores one instance of several, or those of a version
// or zone.
func (w *wanted) partProgram(id string) isa.Program {
	target := w.part
	return isa.Program{
		ID: id, Epoch: w.epoch,
		Steps: []isa.Step{
			{ID: "d1", Action: isa.Drain{Target: target, Share: 100}},
			{ID: "r1", After: []isa.StepID{"d1"}, Action: isa.Restart{Target: target, Drain: "d1"}},
			{ID: "t1", After: []isa.StepID{"r1"}, Action: isa.RestoreTraffic{Drain: "d1"}},
		},
		Verify: []isa.Check{{Service: w.set[0], For: compose.VerifyFor}},
	}
}

// planID names the n-th plan for the symptom of service since onset: readable while it
// fits, always unique, within the alphabet and length of ids.
func planID(service mesh.Service, onset time.Time, n int) string {
	tail := fmt.Sprintf("-%d-%d", onset.Unix(), n)
	name := service.Namespace() + "-" + service.Name()
	// A hyphen in the namespace would let two services share a name: a-b/c and a/b-c.
	if len(name)+len(tail) <= MaxID && !strings.Contains(service.Namespace(), "-") {
		return clean(name) + tail
	}
	sum := sha256.Sum256([]byte(service))
	short := hex.EncodeToString(sum[:6])
	return clean(name[:min(len(name), MaxID-len(tail)-len(short)-1)]) + "-" + short + tail
}

// clean keeps an id within its alphabet even if a name is not valid.
func clean(name string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' {
			return r
		}
		return 'x'
	}, name)
}

// Services lists the services whose groups a planner asks for: at most MaxSymptoms,
// sorted.
func Services(symptoms []mesh.Service) []mesh.Service {
	sorted := slices.Compact(slices.Sorted(slices.Values(symptoms)))
	return sorted[:min(len(sorted), MaxSymptoms)]
}
