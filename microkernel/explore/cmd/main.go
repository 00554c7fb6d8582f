// Command cmd explores every state of small worlds around the microkernel:
//
//	go run ./microkernel/explore/cmd
//	go run ./microkernel/explore/cmd -setup nested -crashes 2 -faults 1 -most 5000000
package main

import (
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/sluicemesh/sluice/microkernel/explore"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout)) }

// run returns the exit code: 0, 1 for a violation or a world that was not explored to its
// end, 2 for wrong usage.
func run(args []string, stdout io.Writer) int {
	flags := flag.NewFlagSet("explore", flag.ContinueOnError)
	flags.SetOutput(stdout)
	only := flags.String("setup", "", "this world only, empty = every one")
	most := flags.Int("most", 20_000_000, "states of one world before it is given up")
	var left explore.Budget
	flags.IntVar(&left.Crashes, "crashes", 1, "crashes of the control plane on one path")
	flags.IntVar(&left.Faults, "faults", 0, "NACKs, refusals, failed restarts, lost or doubled answers, stale probes on one path")
	flags.IntVar(&left.Timeouts, "timeouts", 0, "timers that beat what was on its way, on one path")
	flags.IntVar(&left.Acts, "acts", 0, "aborts and approvals on one path")
	flags.IntVar(&left.Harms, "harms", 0, "harm verdicts on one path")
	drills := flags.Bool("drills", false, "crash representative plans at every boundary instead, and in every recovery again")
	within := flags.Int("within", 0, "with -drills: events after the first crash before which the second falls, 0 = to the end")
	planted := flags.Bool("planted", false, "plant one bug after the other and say which invariant finds it (build tag planted)")
	bug := flags.String("bug", "", "with -planted: this one only")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	if *planted {
		return hunt(left, *most, *bug, stdout)
	}
	if *drills {
		return drill(*within, stdout)
	}
	return all(*only, left, *most, stdout)
}

func all(only string, left explore.Budget, most int, stdout io.Writer) int {
	debug.SetGCPercent(400) // states are small and many
	code, count := 0, 0
	total := explore.NewResult()
	fmt.Fprintf(stdout, "| world | states | moves | longest path | ends | committed, compensated, frozen, refused | seconds |\n|---|---|---|---|---|---|---|\n")
	for _, setup := range explore.Setups() {
		if only != "" && only != setup.Name {
			continue
		}
		count++
		began := time.Now()
		r := explore.Explore(setup, left, most)
		p := r.Phases
		fmt.Fprintf(stdout, "| %s: %s | %d | %d | %d | %d | %d, %d, %d, %d | %.0f |\n", setup.Name, setup.What, r.States, r.Moves, r.Depth,
			r.Ends, p["committed"], p["compensated"], p["frozen"], p["refused"], time.Since(began).Seconds())
		code = max(code, verdict(&r, stdout))
		total.Add(&r)
	}
	if count == 0 {
		fmt.Fprintf(stdout, "there is no world %q\n", only)
		return 2
	}
	fmt.Fprintf(stdout, "\n%d states, %d moves\n", total.States, total.Moves)
	list(stdout, "evaluations", total.Invariants)
	list(stdout, "moves", total.Seen)
	return code
}

// drill prints what came of crashes at every boundary of representative plans.
func drill(within int, stdout io.Writer) int {
	code := 0
	var sum explore.Boundaries
	fmt.Fprintf(stdout, "| plans | trouble | moves | boundaries | pairs | replays | restarts | overlays | scales, rollbacks | lost | doubled |\n"+
		"|---|---|---|---|---|---|---|---|---|---|---|\n")
	for _, d := range explore.Drills() {
		r := d.Run(within)
		var trouble []string
		for _, c := range d.Cues {
			trouble = append(trouble, c.Take)
		}
		fmt.Fprintf(stdout, "| %s | %s | %d | %d | %d | %d | %d | %d | %d | %d | %d |\n", d.Setup.What, strings.Join(trouble, ", "), r.Line,
			r.Once, r.Twice, r.Replays, r.Restarts, r.Overlays, r.Scales, r.Lost, r.Doubled)
		if r.Violation != "" {
			fmt.Fprintf(stdout, "VIOLATION in %s: %s\n  %s\n", d.Setup.Name, r.Violation, strings.Join(r.Path, "\n  "))
			code = 1
		}
		sum.Once, sum.Twice, sum.Replays = sum.Once+r.Once, sum.Twice+r.Twice, sum.Replays+r.Replays
		sum.Lost, sum.Doubled = sum.Lost+r.Lost, sum.Doubled+r.Doubled
	}
	fmt.Fprintf(stdout, "\n%d boundaries, %d pairs of them, %d replays: %d lost, %d doubled effects\n", sum.Once, sum.Twice, sum.Replays,
		sum.Lost, sum.Doubled)
	return code
}

// verdict prints what a world broke, and the path there.
func verdict(r *explore.Result, stdout io.Writer) int {
	if r.Violation != "" {
		fmt.Fprintf(stdout, "VIOLATION in %s: %s\n  %s\n", r.Setup, r.Violation, strings.Join(r.Path, "\n  "))
		return 1
	}
	if !r.Whole {
		fmt.Fprintf(stdout, "NOT EXPLORED TO ITS END: %s; raise -most\n", r.Setup)
		return 1
	}
	return 0
}

func list(stdout io.Writer, what string, counts map[string]int) {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		out = append(out, fmt.Sprintf("%s %d", name, counts[name]))
	}
	fmt.Fprintf(stdout, "%s: %s\n", what, strings.Join(out, ", "))
}
