package sim

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
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
// seeds that were run twice or not at all.
func apart(reports []*report) error {
	if len(reports) == 0 {
		return fmt.Errorf("-pool wants the reports as arguments")
	}
	for i, rep := range reports {
		if rep.Schema != schema || rep.Commit != reports[0].Commit || rep.Build != reports[0].Build {
			return fmt.Errorf("the report from seed %d is of schema %s, commit %q, build %q; the first is of %s, %q, %q", rep.From,
				rep.Schema, rep.Commit, rep.Build, schema, reports[0].Commit, reports[0].Build)
		}
		if i == 0 {
			continue
		}
		switch next := reports[i-1].From + uint64(reports[i-1].Seeds); {
		case rep.From < next:
			return fmt.Errorf("seed %d is in two reports", rep.From)
		case rep.From > next:
			return fmt.Errorf("seeds %d to %d are in no report", next, rep.From-1)
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
	out.Commit, out.Build, out.Version, out.Started, out.From = reports[0].Commit, reports[0].Build, reports[0].Version, reports[0].Started, reports[0].From
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

// partSeeds is how many seeds one part of a long run has.
const partSeeds = 10_000

// inParts runs the seeds, in parts whose reports go to dir; without a dir in one go. A part
// of the same build that is there already is not run again.
func inParts(dir string, from uint64, seeds int, stdout io.Writer) (*report, error) {
	if dir == "" {
		return runAll(from, seeds), nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("folder for the parts: %w", err)
	}
	var reports []*report
	for done := 0; done < seeds; done += partSeeds {
		rep, err := part(dir, from+uint64(done), min(partSeeds, seeds-done))
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(stdout, "seeds %d to %d: %d violations\n", rep.From, rep.From+uint64(rep.Seeds)-1, len(rep.Violations))
		reports = append(reports, rep)
	}
	return merge(reports), nil
}

// part returns the report on some seeds: the one that is in dir, or else a new one.
func part(dir string, from uint64, seeds int) (*report, error) {
	path := filepath.Join(dir, fmt.Sprintf("part-%d.json", from))
	if have, err := readAll([]string{path}); err == nil {
		if rep := have[0]; rep.Schema == schema && rep.Build == build() && rep.From == from && rep.Seeds == seeds {
			return rep, nil
		}
	}
	rep := runAll(from, seeds)
	if err := write(path+".new", rep); err != nil {
		return nil, err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return nil, fmt.Errorf("write a part: %w", err)
	}
	return rep, nil
}
