// Command hostile tries every row of the list of attacks, and every benign twin, on a
// real kernel behind its real API, and compares the verdicts with those that are
// written down. Below the kernel's ports the world is in memory: this is about
// verdicts, not about proxies. It is not for load, nor for live faults.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"
)

// version and commit are set by the linker.
var (
	version = "devel"
	commit  = "unknown"
)

// Exit codes: not achieved, wrong usage.
const (
	exitFailed = 1
	exitUsage  = 2
)

// report is hostile.json.
type report struct {
	Schema  string  `json:"schema"`
	Version string  `json:"version"`
	Commit  string  `json:"commit"`
	Started string  `json:"started"`
	Seconds float64 `json:"seconds"`
	Seed    uint64  `json:"seed"`
	Rows    []line  `json:"rows"`
	Benign  []line  `json:"benign"`
}

func main() {
	flags := flag.NewFlagSet("hostile", flag.ContinueOnError)
	rows := flags.String("rows", "", "rows to try, such as `7,12,B3` (default: all)")
	variants := flags.Int("variants", 10, "variants of each attack")
	seed := flags.Uint64("seed", 1, "seed of the variants")
	out := flags.String("out", "hostile.json", "report `FILE`")
	part := flags.String("part", "", "do `K/N` of the work and print it as JSON: how this program calls itself")
	if err := flags.Parse(os.Args[1:]); err != nil || flags.NArg() > 0 || *variants < 1 || *variants > 1000 {
		fmt.Fprintln(os.Stderr, "usage: hostile [-rows 7,12,B3] [-variants 1..1000] [-seed N] [-out FILE]")
		os.Exit(exitUsage)
	}
	o := options{variants: *variants, seed: *seed, parts: processes, progress: os.Stderr}
	for row := range strings.FieldsFuncSeq(*rows, func(r rune) bool { return r == ',' || r == ' ' }) {
		o.rows = append(o.rows, row)
	}
	if len(o.wanted()) == 0 {
		fmt.Fprintf(os.Stderr, "hostile: no row is called %q: want 1-50 or B1-B13\n", *rows)
		os.Exit(exitUsage)
	}
	if *part != "" {
		os.Exit(o.printPart(*part))
	}
	r := makeReport(o)
	table(os.Stdout, r)
	data, err := json.MarshalIndent(r, "", " ")
	if err == nil {
		err = os.WriteFile(*out, append(data, '\n'), 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "hostile: write the report:", err)
		os.Exit(exitFailed)
	}
	if len(failed(r)) > 0 {
		os.Exit(exitFailed)
	}
}

// processes share the work. Most of a variant's time it waits for disk and loopback.
const processes = 3

// printPart does a part, "K/N", of the work and prints each outcome as a line of JSON.
func (o *options) printPart(which string) int {
	var part, parts int
	if n, err := fmt.Sscanf(which, "%d/%d", &part, &parts); n != 2 || err != nil || part < 0 || part >= parts {
		fmt.Fprintf(os.Stderr, "hostile: no part is called %q: want K/N with K < N\n", which)
		return exitUsage
	}
	code, lines := 0, json.NewEncoder(os.Stdout)
	o.try(part, parts, func(out outcome) {
		if err := lines.Encode(out); err != nil {
			code = exitFailed // nobody reads us any more
		}
	})
	return code
}

func makeReport(o options) *report {
	started := time.Now()
	r := &report{
		Schema: "sluice.hostile/1", Version: version, Commit: commit, Started: started.UTC().Format(time.RFC3339),
		Seed: o.seed, Rows: []line{}, Benign: []line{},
	}
	for _, l := range run(o) {
		if strings.HasPrefix(l.Row, "B") {
			r.Benign = append(r.Benign, l)
		} else {
			r.Rows = append(r.Rows, l)
		}
	}
	r.Seconds = time.Since(started).Seconds()
	return r
}

// failed are the lines that did not get what is written.
func failed(r *report) []line {
	var out []line
	for _, list := range [][]line{r.Rows, r.Benign} {
		for _, l := range list {
			if l.Passed != nil && !*l.Passed {
				out = append(out, l)
			}
		}
	}
	return out
}

// summary is what became of the variants of one case.
type summary struct {
	line
	tried, passed int
	bad           *line
}

// table prints a line for each case, and what failed in full.
func table(w io.Writer, r *report) {
	var sums []*summary
	for _, list := range [][]line{r.Rows, r.Benign} {
		for i := range list {
			l := &list[i]
			if n := len(sums); n == 0 || sums[n-1].Row != l.Row || sums[n-1].Case != l.Case {
				sums = append(sums, &summary{line: *l})
			}
			s := sums[len(sums)-1]
			switch {
			case l.Passed == nil:
			case *l.Passed:
				s.tried, s.passed = s.tried+1, s.passed+1
			default:
				s.tried++
				s.bad = l
			}
		}
	}
	out := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(out, "ROW\tCASE\tDOOR\tEXPECTED\tPASSED\tNOTE")
	passed, bad, none := 0, 0, 0
	for _, s := range sums {
		switch {
		case s.Door == nil:
			none++
			fmt.Fprintf(out, "%s\t%s\t-\t%s\tno door\t%s\n", s.Row, s.Case, s.Expected, s.Reason)
		case s.bad != nil:
			bad++
			fmt.Fprintf(out, "%s\t%s\t%s\t%s\t%d/%d\tgot %s: %s\n", s.Row, s.Case, *s.Door, s.Expected, s.passed, s.tried, s.bad.Got, s.bad.Reason)
		default:
			passed++
			fmt.Fprintf(out, "%s\t%s\t%s\t%s\t%d/%d\t\n", s.Row, s.Case, *s.Door, s.Expected, s.passed, s.tried)
		}
	}
	_ = out.Flush() // the report is what counts
	fmt.Fprintf(w, "%d cases passed, %d failed, %d without a door; %.1f s\n", passed, bad, none, r.Seconds)
}
