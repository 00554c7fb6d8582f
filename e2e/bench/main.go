// Command bench measures the figures of the project, each beside a reference that its
// maintainers would sign: the same work on the same input in the same run, in turns. It
// is not a test: a figure that misses its floor is a result, not a failure.
//
//	bench -run 'verdict|journal' -out bench.json
//
// One row, one figure. A Bench (row.go) measures the rows that come of one piece of work;
// benches (rows.go) is the list of them.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
)

// version and commit are set by the linker.
var (
	version = "devel"
	commit  = "unknown"
)

// Exit codes: not measured, wrong usage, interrupted.
const (
	exitFailed      = 1
	exitUsage       = 2
	exitInterrupted = 130
)

func main() {
	if len(os.Args) == 2 && os.Args[1] == gonumCommand {
		gonumLarge()
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string) int {
	if len(args) == 1 && args[0] == fleetCommand {
		return runFleet(ctx)
	}
	if len(args) > 0 && args[0] == rollingCommand {
		return runRolling(ctx, args[1:])
	}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	pattern := flags.String("run", "", "measure the rows whose name matches this `REGEXP` (default: all)")
	runs := flags.Int("runs", 0, "runs of each row (default: the row's own)")
	out := flags.String("out", "bench.json", "report `FILE`")
	list := flags.Bool("list", false, "list the rows and measure nothing")
	page := flags.Bool("markdown", false, "print the table of -out in Markdown and measure nothing")
	if err := flags.Parse(args); err != nil || flags.NArg() > 0 || *runs < 0 || *runs > 1000 {
		fmt.Fprintln(os.Stderr, "usage: bench [-run REGEXP] [-runs 1..1000] [-out FILE] [-list | -markdown]")
		return exitUsage
	}
	if *page {
		return markdown(os.Stdout, *out)
	}
	wanted, err := regexp.Compile(*pattern)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench: -run:", err)
		return exitUsage
	}
	todo := matching(benches(), wanted)
	if len(todo) == 0 {
		fmt.Fprintf(os.Stderr, "bench: no row matches %q; there are: %s\n", *pattern, strings.Join(names(benches()), " "))
		return exitUsage
	}
	if *list {
		fmt.Println(strings.Join(names(todo), "\n"))
		return 0
	}
	o := options{wanted: wanted, runs: *runs, dir: filepath.Dir(*out)}
	r, err := o.measureAll(ctx, todo)
	table(os.Stdout, r)
	if err = errors.Join(err, write(*out, r)); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		if ctx.Err() != nil {
			return exitInterrupted
		}
		return exitFailed
	}
	return 0
}

// matching returns the benches that have a row whose name matches.
func matching(all []Bench, wanted *regexp.Regexp) []Bench {
	var out []Bench
	for _, b := range all {
		for _, r := range b.Rows {
			if wanted.MatchString(r.Name) {
				out = append(out, b)
				break
			}
		}
	}
	return out
}

func names(all []Bench) []string {
	var out []string
	for _, b := range all {
		for _, r := range b.Rows {
			out = append(out, r.Name)
		}
	}
	return out
}
