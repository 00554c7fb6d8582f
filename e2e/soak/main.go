// Command soak is `make soak`: long runs that look for what grows. It is not a test: it
// takes minutes by design and ends with a verdict.
//
//	soak -run telemetry -warm 10 -minutes 10     real exporters feed a real sluiced at its limit
//
// Exit 0 held, 1 did not, 2 wrong usage, 3 something needed is missing.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/sluicemesh/sluice/e2e/rig"
)

// version and commit are set by the linker.
var (
	version = "devel"
	commit  = "unknown"
)

// maxMinutes bounds a run: a day.
const maxMinutes = 24 * 60

// options are the flags.
type options struct {
	run     string
	warm    float64 // minutes
	minutes float64
	out     string
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == serveCommand {
		os.Exit(serveApp(os.Args[2:]))
	}
	o, err := parse(os.Args[1:])
	if err != nil {
		os.Exit(rig.ExitUsage)
	}
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	r, err := telemetry(ctx, o)
	if ctx.Err() != nil {
		err = errors.Join(context.Canceled, err)
	}
	if r != nil {
		err = errors.Join(err, r.write(o.out))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
	}
	cancel()
	os.Exit(rig.Code(err))
}

// parse reads the flags; errors have been printed.
func parse(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("soak", flag.ContinueOnError)
	flags.StringVar(&o.run, "run", "telemetry", "what to run: telemetry")
	flags.Float64Var(&o.warm, "warm", 10, "minutes under load that are not judged: a ring of ten minutes fills by design")
	flags.Float64Var(&o.minutes, "minutes", 10, "minutes that are judged, after those")
	flags.StringVar(&o.out, "out", "soak.json", "report `FILE`")
	if err := flags.Parse(args); err != nil {
		return o, err //nolint:wrapcheck // it was printed
	}
	var err error
	switch {
	case flags.NArg() > 0:
		err = fmt.Errorf("argument %q: want none", flags.Arg(0))
	case o.run != "telemetry":
		err = fmt.Errorf("-run %q: want telemetry", o.run)
	case !(o.minutes >= 0.5 && o.minutes <= maxMinutes):
		err = fmt.Errorf("-minutes %g: want 0.5 to %d", o.minutes, maxMinutes)
	case !(o.warm >= 0.5 && o.warm <= maxMinutes):
		err = fmt.Errorf("-warm %g: want 0.5 to %d", o.warm, maxMinutes)
	}
	if err != nil {
		fmt.Fprintln(flags.Output(), err)
	}
	return o, err
}

// length is how long the load lasts.
func (o *options) length() time.Duration { return minutes(o.warm + o.minutes) }

// minutes returns m minutes.
func minutes(m float64) time.Duration { return time.Duration(m * float64(time.Minute)) }
