// Command recording records what the services of the demo mesh do, second by second, while
// nothing is wrong with them (A/A), and replays such recordings through the harm monitor:
// each alarm is then a false one. It injects no fault and changes nothing in a mesh.
//
//	recording record -minutes 120 -dir recordings    parts of at most 30 minutes; run again to add more
//	recording replay -dir recordings -out alarms.json
//
// The monitor that is replayed is that of package microkernel/harm, as sluiced runs it, but
// without its clock: baselines, controls and ticks come of the recording.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/sluicemesh/sluice/e2e/rig"
)

// version and commit are set by the linker.
var (
	version = "devel"
	commit  = "unknown"
)

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	if ctx.Err() != nil {
		err = errors.Join(context.Canceled, err)
	}
	cancel()
	if err != nil {
		fmt.Fprintln(os.Stderr, "recording:", err)
	}
	os.Exit(rig.Code(err))
}

func run(ctx context.Context, args []string) error {
	if len(args) > 0 {
		switch args[0] {
		case "record":
			return runRecord(ctx, args[1:])
		case "replay":
			return runReplay(ctx, args[1:])
		}
	}
	return usage(errors.New("want record or replay"))
}

func usage(err error) error { return &rig.Error{Code: rig.ExitUsage, Err: err} }

func runRecord(ctx context.Context, args []string) error {
	var s recordSettings
	flags := flag.NewFlagSet("recording record", flag.ContinueOnError)
	flags.IntVar(&s.minutes, "minutes", 10, "how long")
	flags.StringVar(&s.topology, "topology", "hotel", "hotel, social or a topology `FILE`")
	flags.Float64Var(&s.rps, "rps", 200, "requests a second")
	flags.Uint64Var(&s.seed, "seed", 1, "seed of the load")
	flags.StringVar(&s.dir, "dir", "recordings", "`DIR` of the parts")
	if err := flags.Parse(args); err != nil {
		return usage(err)
	}
	if flags.NArg() > 0 || s.minutes < 1 || s.minutes > 24*60 || !(s.rps >= 1 && s.rps <= 2000) {
		return usage(errors.New("want no arguments, 1 to 1440 minutes and 1 to 2000 requests a second"))
	}
	return s.record(ctx)
}

func runReplay(ctx context.Context, args []string) error {
	var s replaySettings
	flags := flag.NewFlagSet("recording replay", flag.ContinueOnError)
	flags.StringVar(&s.dir, "dir", "recordings", "`DIR` of the parts")
	flags.StringVar(&s.out, "out", "alarms.json", "report `FILE`")
	flags.IntVar(&s.windows, "windows", 10_000, "windows of 300 s that are resampled")
	flags.IntVar(&s.block, "block", 60, "length of a block in `SECONDS`")
	flags.IntVar(&s.near, "near", 600, "blocks of a window begin within so many `SECONDS` of its baseline")
	flags.Uint64Var(&s.seed, "seed", 1, "seed of the resampling")
	if err := flags.Parse(args); err != nil {
		return usage(err)
	}
	if flags.NArg() > 0 || s.windows < 1 || s.block < 1 || s.block > watchSeconds || s.near < 1 {
		return usage(fmt.Errorf("want no arguments, at least one window, and blocks of 1 to %d s", watchSeconds))
	}
	return s.replay(ctx)
}
