package sim

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/sluicemesh/sluice/microkernel"
)

// pool adds up the reports of runs over different seeds of one build.
func pool(paths []string, out string, stdout io.Writer) int {
	reports, err := readAll(paths)
	if err == nil {
		err = apart(reports)
	}
	if err != nil {
		fmt.Fprintln(stdout, err)
		return 2
	}
	rep := merge(reports)
	if out != "" {
		if err := write(out, rep); err != nil {
			fmt.Fprintln(stdout, err)
			return 2
		}
	}
	return summarise(rep, stdout)
}

func readAll(paths []string) ([]*report, error) {
	var out []*report
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("read a report: %w", err)
		}
		rep := &report{}
		if err := json.Unmarshal(text, rep); err != nil {
			return nil, fmt.Errorf("report %s: %w", path, err)
		}
		out = append(out, rep)
	}
	slices.SortFunc(out, func(a, b *report) int { return cmp.Compare(a.From, b.From) })
	return out, nil
}

// apart reports why the reports cannot be pooled: nothing to pool, another build, or
// seeds that were run twice.
func apart(reports []*report) error {
	if len(reports) == 0 {
		return fmt.Errorf("-pool wants the reports as arguments")
	}
	for i, rep := range reports {
		if rep.Schema != schema || rep.Commit != reports[0].Commit {
			return fmt.Errorf("the report from seed %d is of schema %s, commit %q; the first is of %s, %q", rep.From, rep.Schema,
				rep.Commit, schema, reports[0].Commit)
		}
		if i > 0 && rep.From < reports[i-1].From+uint64(reports[i-1].Seeds) {
			return fmt.Errorf("seed %d is in two reports", rep.From)
		}
	}
	return nil
}

func merge(reports []*report) *report {
	total := newCounts()
	for _, rep := range reports {
		total.add(&Counts{
			Crashes: rep.Crashes, DoubleCrashes: rep.DoubleCrashes, Rejected: rep.Plans.Rejected, Faults: rep.Faults,
			Phases: rep.Phases, CrashPhases: rep.CrashPhases, Invariants: rep.Invariants, Effects: rep.Effects, Principals: rep.Principals,
			Plans: map[microkernel.Phase]int{
				microkernel.Committed: rep.Plans.Committed, microkernel.Compensated: rep.Plans.Compensated,
				microkernel.Frozen: rep.Plans.Frozen,
			},
		})
	}
	out := summary(&total)
	out.Commit, out.Version, out.Started, out.From = reports[0].Commit, reports[0].Version, reports[0].Started, reports[0].From
	out.LeastEvents = reports[0].LeastEvents
	for _, rep := range reports {
		out.Seconds += rep.Seconds
		out.Seeds += rep.Seeds
		out.Events += rep.Events
		out.LeastEvents = min(out.LeastEvents, rep.LeastEvents)
		out.Violations = append(out.Violations, rep.Violations...)
	}
	out.SeedsPerMinute = float64(out.Seeds) / out.Seconds * 60
	out.Zeros = zeros(&total)
	return out
}
