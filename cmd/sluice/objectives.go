package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	sluicev1 "github.com/sluicemesh/sluice/api/sluice/v1"
	"github.com/sluicemesh/sluice/topology"
	"github.com/sluicemesh/sluice/topology/symptom"
)

// objectivesView is the JSON of `sluice objectives suggest`.
type objectivesView struct {
	header
	From     string           `json:"from"` // RFC 3339, first second that it rests on
	Covered  int64            `json:"covered_s"`
	Services []suggestionView `json:"services"`
}

// suggestionView is a service; what is not suggested or promised is null.
type suggestionView struct {
	Service  string    `json:"service"`
	Requests uint64    `json:"requests"`
	Windows  int       `json:"windows"`
	Breached int       `json:"windows_breached"`
	P99      float64   `json:"p99_s"`
	Errors   float64   `json:"errors"`
	Suggests *promised `json:"suggested"`
	Promises *promised `json:"present"`
}

// promised is an objective; a part that is null is none.
type promised struct {
	P99    *float64 `json:"p99_s"`
	Errors *float64 `json:"errors"`
}

func (a *app) objectivesCommand() *cobra.Command {
	command := &cobra.Command{Use: "objectives", Short: "Suggest what services could promise",
		Example: "  sluice objectives suggest"}
	command.AddCommand(&cobra.Command{
		Use: "suggest [SERVICE...]", Short: "Suggest objectives that services would have kept in the last ten minutes",
		Long: `Suggest objectives from what callers saw of each service, second by second, in the last ten
minutes: a p99 a quarter above that of all but the worst hundredth of its windows, and twice the
share of failures that it may have had. A service with too few requests gets none: it is only
observed. If something was broken meanwhile, so is the suggestion.`,
		Example: "  sluice objectives suggest\n  sluice objectives suggest shop/cart -o json",
		RunE: func(c *cobra.Command, args []string) error {
			view, err := a.suggest(c.Context(), args)
			if err != nil {
				return err
			}
			return a.print(view, view.table)
		},
	})
	return command
}

// suggest asks for the past of all services, or of those named.
func (a *app) suggest(ctx context.Context, names []string) (*objectivesView, error) {
	graph, err := a.graph(ctx)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if !slices.ContainsFunc(graph.GetServices(), func(s *sluicev1.Service) bool { return s.GetName() == name }) {
			return nil, usage("no service %q: see `sluice topology`", name)
		}
	}
	past, from, err := a.past(ctx)
	if err != nil {
		return nil, err
	}
	view := &objectivesView{header: a.header("objectives"), From: time.Unix(from, 0).UTC().Format(time.RFC3339)}
	for _, s := range graph.GetServices() {
		ticks := past[s.GetName()]
		view.Covered = max(view.Covered, int64(len(ticks)))
		if len(names) == 0 || slices.Contains(names, s.GetName()) {
			view.Services = append(view.Services, suggestionOf(s, symptom.Suggest(ticks)))
		}
	}
	slices.SortFunc(view.Services, func(x, y suggestionView) int { return cmp.Compare(x.Service, y.Service) })
	return view, nil
}

// past asks for the seconds of all services that are kept, oldest first, and from when on.
func (a *app) past(ctx context.Context) (past map[string][]topology.Tick, from int64, err error) {
	api, server, err := a.connect()
	if err != nil {
		return nil, 0, err
	}
	ctx, cancel := a.within(ctx, callTimeout)
	defer cancel()
	past = map[string][]topology.Tick{}
	for next, have := int64(0), 0; ; {
		answer, err := api.GetStatistics(ctx, connect.NewRequest(&sluicev1.GetStatisticsRequest{From: next}))
		if err != nil {
			return nil, 0, apiError(server, err)
		}
		part := answer.Msg
		if have == 0 {
			from = part.GetFrom()
		}
		if part.GetSeconds() == 0 || have > 2*int(topology.Retention/time.Second) {
			pad(past, have)
			return past, from, nil
		}
		for _, track := range part.GetTracks() {
			if track.GetCaller() == "" {
				past[track.GetCallee()] = appendTicks(past[track.GetCallee()], have, track.GetTicks())
			}
		}
		have += int(part.GetSeconds())
		next = part.GetFrom() + int64(part.GetSeconds())
	}
}

// appendTicks adds ticks whose seconds count from the one numbered start; those without
// one had no request.
func appendTicks(to []topology.Tick, start int, ticks []*sluicev1.Tick) []topology.Tick {
	for _, t := range ticks {
		for len(to) < start+int(t.GetSecond()) {
			to = append(to, topology.Tick{})
		}
		hist := &topology.Histogram{}
		for i, n := range t.GetCounts()[:min(len(t.GetCounts()), len(t.GetLatencies()))] {
			hist.AddN(time.Duration(t.GetLatencies()[i]), n)
		}
		to = append(to, topology.Tick{Requests: t.GetRequests(), Errors: t.GetErrors(), Hist: hist})
	}
	return to
}

// pad gives all services the same seconds.
func pad(past map[string][]topology.Tick, n int) {
	for service, ticks := range past {
		for len(ticks) < n {
			ticks = append(ticks, topology.Tick{})
		}
		past[service] = ticks
	}
}

func suggestionOf(s *sluicev1.Service, found symptom.Suggestion) suggestionView {
	view := suggestionView{Service: s.GetName(), Requests: found.Requests, Windows: found.Windows, Breached: found.Breached,
		P99: found.P99.Seconds(), Errors: found.Errors, Promises: promisedOf(s.GetObjectiveP99Seconds(), s.GetObjectiveErrors())}
	view.Suggests = promisedOf(found.Objective.P99.Seconds(), found.Objective.Errors)
	return view
}

func promisedOf(p99, errors float64) *promised {
	if p99 == 0 && errors == 0 {
		return nil
	}
	p := &promised{}
	if p99 > 0 {
		p.P99 = &p99
	}
	if errors > 0 {
		p.Errors = &errors
	}
	return p
}

func (v *objectivesView) table(w io.Writer) {
	out := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(out, "SERVICE\tREQUESTS\tP99\tERRORS\tSUGGESTED\tWOULD HAVE BROKEN IT\tPRESENT")
	for i := range v.Services {
		s := &v.Services[i]
		broken := "-"
		if s.Suggests != nil {
			broken = fmt.Sprintf("%d of %d windows", s.Breached, s.Windows)
		}
		fmt.Fprintf(out, "%s\t%d\t%s\t%.2f%%\t%s\t%s\t%s\n", s.Service, s.Requests, inMilliseconds(s.P99), 100*s.Errors,
			s.Suggests.spell("none: too little is known"), broken, s.Promises.spell("none"))
	}
	_ = out.Flush()
}

// spell writes an objective as a mesh file has it.
func (p *promised) spell(none string) string {
	switch {
	case p == nil:
		return none
	case p.P99 == nil:
		return fmt.Sprintf("{errors: %.2g%%}", 100**p.Errors)
	case p.Errors == nil:
		return fmt.Sprintf("{p99: %s}", inMilliseconds(*p.P99))
	}
	return fmt.Sprintf("{p99: %s, errors: %.2g%%}", inMilliseconds(*p.P99), 100**p.Errors)
}

func inMilliseconds(s float64) string { return fmt.Sprintf("%.4gms", 1000*s) }
