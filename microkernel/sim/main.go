package sim

import (
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluicemesh/sluice/microkernel"
)

// schema names the form of a report.
const schema = "sluice.sim/1"

// report is sim.json.
type report struct {
	Schema         string         `json:"schema"`
	Version        string         `json:"version"`
	Commit         string         `json:"commit"`
	Build          string         `json:"build"` // SHA-256 of the program, hex
	Started        time.Time      `json:"started"`
	Seconds        float64        `json:"seconds"`
	From           uint64         `json:"from"` // first seed
	Seeds          int            `json:"seeds"`
	Events         int            `json:"events"`
	LeastEvents    int            `json:"least_events"` // of one seed
	Violations     []Violation    `json:"violations"`
	SeedsPerMinute float64        `json:"seeds_per_minute"`
	Crashes        int            `json:"crashes"`
	DoubleCrashes  int            `json:"double_crashes"`
	Plans          plans          `json:"plans"`
	Faults         map[string]int `json:"faults"`
	Phases         map[string]int `json:"phases"`
	CrashPhases    map[string]int `json:"crash_phases"`
	Invariants     map[string]int `json:"invariants"`
	Effects        map[string]int `json:"effects"`
	Principals     map[string]int `json:"principals"`
	Zeros          []string       `json:"zeros"` // what had to be met and was not
}

type plans struct {
	Committed   int            `json:"committed"`
	Compensated int            `json:"compensated"`
	Frozen      int            `json:"frozen"`
	Rejected    map[string]int `json:"rejected"`
}

// Main runs the command: seeds -from .. -from+-seeds-1 on GOMAXPROCS workers, a report
// to -out, a summary to stdout. With -replay it prints the run of seed -from. It returns
// the exit code: 0, 1 for a violation or a zero among the counts, 2 for wrong usage.
func Main(args []string, stdout io.Writer) int {
	flags := flag.NewFlagSet("sim", flag.ContinueOnError)
	flags.SetOutput(stdout)
	seeds := flags.Int("seeds", 1000, "number of seeds")
	from := flags.Uint64("from", 1, "first seed")
	out := flags.String("out", "", "file for the report, empty = none")
	replay := flags.Bool("replay", false, "print the run of seed -from")
	events := flags.Int("events", 0, "with -replay: kernel events before nothing fails any more, 0 = 500")
	keep := flags.String("keep", "", "with -replay: the only choices that are taken, as -shrink prints them")
	shrink := flags.Bool("shrink", false, "make the failing run of seed -from as short as it gets, and print it")
	same := flags.Bool("digest", false, "print one digest of all that the seeds did, to compare two builds")
	parts := flags.String("parts", "", "folder to which the seeds go in parts: what is there already is not run again")
	pooled := flags.Bool("pool", false, "add up the reports that are named as arguments, of runs over other seeds")
	planted := flags.Bool("planted", false, "plant one bug after the other and say which invariant finds it (build tag planted)")
	bug := flags.String("bug", "", "with -planted: this one only")
	limit := flags.Int("limit", 2000, "with -planted: seeds before a bug counts as not found")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	if *pooled {
		return pool(flags.Args(), *out, stdout)
	}
	if *planted {
		return hunt(*from, *limit, *bug, stdout)
	}
	if *shrink {
		return small(*from, stdout)
	}
	if *replay {
		o, err := options(*events, *keep)
		if err != nil {
			fmt.Fprintln(stdout, err)
			return 2
		}
		o.Trace = stdout
		result := Run(*from, o)
		fmt.Fprintf(stdout, "seed %d: %d events, %d violations\n", *from, result.Events, len(result.Violations))
		return min(len(result.Violations), 1)
	}
	if *seeds < 1 {
		fmt.Fprintln(stdout, "-seeds must be 1 or more")
		return 2
	}
	if *same {
		return digest(*from, *seeds, stdout)
	}
	rep, err := inParts(*parts, *from, *seeds, stdout)
	if err == nil && *out != "" {
		err = write(*out, rep)
	}
	if err != nil {
		fmt.Fprintln(stdout, err)
		return 2
	}
	return summarise(rep, stdout)
}

// runAll runs the seeds on all processors. Results are added up in the order of seeds.
func runAll(from uint64, seeds int) *report {
	defer debug.SetGCPercent(debug.SetGCPercent(1600)) // a run's garbage is small and short-lived
	started := time.Now()
	var (
		mu     sync.Mutex
		next   atomic.Uint64
		wait   sync.WaitGroup
		total  = newCounts()
		events int
		least  = int(^uint(0) >> 1)
		broken = []Violation{}
	)
	for range runtime.GOMAXPROCS(0) {
		wait.Go(func() {
			for i := next.Add(1) - 1; i < uint64(seeds); i = next.Add(1) - 1 {
				result := Run(from+i, Options{})
				mu.Lock()
				events += result.Events
				least = min(least, result.Events)
				total.add(&result.Counts)
				broken = append(broken, result.Violations...)
				mu.Unlock()
			}
		})
	}
	wait.Wait()
	slices.SortFunc(broken, func(a, b Violation) int { return cmp.Compare(a.Seed, b.Seed) })
	rep := summary(&total)
	rep.Started, rep.Seconds = started.UTC(), time.Since(started).Seconds()
	rep.From = from
	rep.Seeds, rep.Events, rep.LeastEvents, rep.Violations = seeds, events, least, broken
	rep.SeedsPerMinute = float64(seeds) / rep.Seconds * 60
	rep.Zeros = zeros(&total)
	return rep
}

func summary(c *Counts) *report {
	rep := &report{
		Schema: schema, Version: "dev", Build: build(), Crashes: c.Crashes, DoubleCrashes: c.DoubleCrashes, Violations: []Violation{},
		Faults: c.Faults, Phases: c.Phases, CrashPhases: c.CrashPhases, Invariants: c.Invariants, Effects: c.Effects,
		Principals: c.Principals,
		Plans: plans{
			Committed: c.Plans[microkernel.Committed], Compensated: c.Plans[microkernel.Compensated],
			Frozen: c.Plans[microkernel.Frozen], Rejected: c.Rejected,
		},
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				rep.Commit = s.Value
			}
		}
	}
	return rep
}

// build is the SHA-256 of this program, "" if it cannot be read: another kernel, or another
// world, is another program.
func build() string {
	path, err := os.Executable()
	if err != nil {
		return ""
	}
	program, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return fmt.Sprintf("%x", sha256.Sum256(program))
}

func write(path string, rep *report) error {
	text, err := json.MarshalIndent(rep, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the report: %w", err)
	}
	if err := os.WriteFile(path, append(text, '\n'), 0o644); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}

func summarise(rep *report, stdout io.Writer) int {
	fmt.Fprintf(stdout, "%d seeds, %d events (least %d a seed), %d crashes (%d double), %.0f seeds a minute\n",
		rep.Seeds, rep.Events, rep.LeastEvents, rep.Crashes, rep.DoubleCrashes, rep.SeedsPerMinute)
	fmt.Fprintf(stdout, "plans: %d committed, %d compensated, %d frozen; rejected %v\n",
		rep.Plans.Committed, rep.Plans.Compensated, rep.Plans.Frozen, rep.Plans.Rejected)
	for i, v := range rep.Violations {
		if i == 10 {
			fmt.Fprintf(stdout, "... and %d more\n", len(rep.Violations)-i)
			break
		}
		fmt.Fprintf(stdout, "VIOLATION seed %d event %d: %s\n", v.Seed, v.Event, v.Invariant)
		fmt.Fprintf(stdout, "  go run ./microkernel/sim/cmd -shrink -from %d\n", v.Seed)
	}
	for _, zero := range rep.Zeros {
		fmt.Fprintf(stdout, "NEVER MET %s\n", zero)
	}
	if len(rep.Violations) > 0 || len(rep.Zeros) > 0 {
		return 1
	}
	return 0
}
