// Command testrun runs the tests of the module in parts, cheap parts first, and
// prints the seconds of each and one closing line "N passed, N failed, N skipped".
// With CI=true a skipped test is a failure, except where its message says that
// optional data is absent. It is not for single tests: use go test for those.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"
)

// optional marks the only skips that CI accepts: t.Skip("optional data absent: ...").
const optional = "optional data absent"

// part is a stretch of the run: a command that prints go test's JSON, or plain.
type part struct {
	name  string
	quick bool // part of make test-quick
	whole bool // part of make test
	args  []string
}

// parts returns what there is to run, cheap parts first.
func parts() ([]part, error) {
	race := []string{"go", "test", "-json", "-race", "-shuffle=on"}
	plain := []string{"go", "test", "-json", "-shuffle=on"}
	// One package at a time: each starts Envoys and puts load on two cores.
	serial := []string{"go", "test", "-json", "-count=1", "-p=1", "-timeout=20m"}
	pure := []string{
		"./mesh", "./isa/...", "./topology", "./topology/symptom", "./xds", "./xds/gate",
		"./microkernel", "./microkernel/harm", "./microkernel/sim/...", "./agents/rules", "./internal/rules",
	}
	envoys := []string{"./mesh/envoy", "./xds/server"}
	page, system := []string{"./mesh/dashboard"}, []string{"./e2e/scenario"}
	adapters, err := without(slices.Concat(pure, envoys, page, system))
	if err != nil {
		return nil, err
	}
	return []part{
		{name: "check", whole: true, args: []string{"make", "--no-print-directory", "check"}},
		{name: "pure", quick: true, args: slices.Concat(plain, pure)},
		{name: "envoy smoke", quick: true, args: slices.Concat(serial, []string{"-run=TestLive/a_single", "./xds/server"})},
		{name: "pure, race", whole: true, args: slices.Concat(race, pure)},
		// Whole worlds take minutes with the race detector: "adapters" has them without it.
		{name: "worlds, race", whole: true, args: slices.Concat(race, []string{"-short", "./microkernel/explore", "./topology/generate"})},
		{name: "adapters", whole: true, args: slices.Concat(plain, adapters)},
		{name: "simulation", whole: true, args: []string{"make", "--no-print-directory", "sim", "SEEDS=1000", "OUT=/dev/null"}},
		{name: "envoy", whole: true, args: slices.Concat(serial, envoys)},
		{name: "page", whole: true, args: slices.Concat(serial, page)},
		{name: "system", whole: true, args: slices.Concat(serial, system)},
	}, nil
}

// without returns the packages of the module that no pattern of patterns names, so that
// a new package is tested without being listed.
func without(patterns []string) ([]string, error) {
	named, err := list(patterns)
	if err != nil {
		return nil, err
	}
	all, err := list([]string{"./..."})
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(p string) bool { return slices.Contains(named, p) }), nil
}

// list returns the import paths that patterns name.
func list(patterns []string) ([]string, error) {
	out, err := exec.Command("go", append([]string{"list"}, patterns...)...).Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	return strings.Fields(string(out)), nil
}

// tally counts outcomes.
type tally struct{ passed, failed, skipped int }

func (t *tally) add(u tally) {
	t.passed += u.passed
	t.failed += u.failed
	t.skipped += u.skipped
}

func main() {
	quick := flag.Bool("quick", false, "only the parts for every save")
	flag.Parse()
	strict := os.Getenv("CI") == "true"
	var total tally
	var lines []string
	all, err := parts()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for _, p := range all {
		if *quick && !p.quick || !*quick && !p.whole {
			continue
		}
		start := time.Now()
		fmt.Printf("=== %s\n", p.name)
		got := p.run(strict)
		total.add(got)
		line := fmt.Sprintf("%-14s %6.1f s  %d passed, %d failed, %d skipped",
			p.name, time.Since(start).Seconds(), got.passed, got.failed, got.skipped)
		fmt.Println(line)
		lines = append(lines, line)
	}
	fmt.Printf("\n%s\n\n", strings.Join(lines, "\n"))
	fmt.Printf("%d passed, %d failed, %d skipped\n", total.passed, total.failed, total.skipped)
	if total.failed > 0 {
		os.Exit(1)
	}
}

// run carries the part out and counts; a command that is not go test counts as one.
func (p part) run(strict bool) tally {
	cmd := exec.Command(p.args[0], p.args[1:]...)
	cmd.Stderr = os.Stderr
	if !slices.Contains(p.args, "-json") {
		cmd.Stdout = os.Stdout
		if err := cmd.Run(); err != nil {
			fmt.Printf("FAIL %s: %v\n", p.name, err)
			return tally{failed: 1}
		}
		return tally{passed: 1}
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		fmt.Println("FAIL:", err)
		return tally{failed: 1}
	}
	if err := cmd.Start(); err != nil {
		fmt.Println("FAIL:", err)
		return tally{failed: 1}
	}
	got := count(out, strict)
	if err := cmd.Wait(); err != nil && got.failed == 0 {
		fmt.Printf("FAIL %s: %v\n", p.name, err)
		got.failed++
	}
	return got
}

// event is one line of go test -json.
type event struct {
	Action, Package, Test, Output, ImportPath string
}

// count reads go test's JSON, prints what failed or was skipped, and tallies tests.
func count(r io.Reader, strict bool) tally {
	var t tally
	output := map[string][]string{}
	broken := map[string]bool{} // packages in which a test failed
	scanner := bufio.NewScanner(r)
	scanner.Buffer(nil, 1<<24)
	for scanner.Scan() {
		var ev event
		if json.Unmarshal(scanner.Bytes(), &ev) != nil {
			fmt.Println(scanner.Text())
			continue
		}
		key := ev.Package + " " + ev.Test
		switch ev.Action {
		case "output":
			output[key] = append(output[key], ev.Output)
		case "build-output":
			fmt.Print(ev.Output)
		case "pass", "fail", "skip":
			if ev.Test != "" || !broken[ev.Package] {
				t.finish(ev, output[key], strict)
			}
			broken[ev.Package] = broken[ev.Package] || ev.Action == "fail"
			delete(output, key)
		}
	}
	return t
}

// finish counts one finished test, or a package that failed outside its tests.
func (t *tally) finish(ev event, output []string, strict bool) {
	text := strings.Join(output, "")
	switch {
	case ev.Test == "" && ev.Action == "fail":
		fmt.Printf("%sFAIL %s\n", text, ev.Package)
		t.failed++
	case ev.Test == "":
	case ev.Action == "fail":
		fmt.Print(text)
		t.failed++
	case ev.Action == "skip" && strict && !strings.Contains(text, optional):
		fmt.Printf("%sFAIL %s %s: skipped, and CI=true\n", text, ev.Package, ev.Test)
		t.failed++
	case ev.Action == "skip":
		fmt.Print(text)
		t.skipped++
	default:
		t.passed++
	}
}
