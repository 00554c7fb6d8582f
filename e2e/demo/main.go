// Command demo is `make demo`: it breaks the demo application under load on real Envoys
// four times with the same seed, lets Sluice, a naive restart, the supervisor's own
// auto-restart and nobody deal with it, and reports what that cost. It decides nothing
// about a recovery and tunes no arm: figures are printed as they were measured.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/sluicemesh/sluice/e2e/app/shape"
	"github.com/sluicemesh/sluice/e2e/fault"
	"github.com/sluicemesh/sluice/e2e/rig"
	"github.com/sluicemesh/sluice/e2e/topologies/meshfile"
)

// version and commit are set by the linker.
var (
	version = "devel"
	commit  = "unknown"
)

// options are the flags.
type options struct {
	topology string
	kind     string
	seed     uint64
	rps      float64
	out      string
	keep     bool
	only     string
}

func main() {
	o, err := parse(os.Args[1:])
	if err != nil {
		os.Exit(rig.ExitUsage)
	}
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer cancel()
	d := &demo{options: o, started: time.Now(), progress: os.Stderr}
	err = d.run(ctx, os.Stdout)
	if ctx.Err() != nil {
		err = errors.Join(context.Canceled, err)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
	}
	cancel()
	os.Exit(rig.Code(err))
}

// parse reads the flags; errors have been printed.
func parse(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	flags.StringVar(&o.topology, "topology", "hotel", "hotel, social or a topology `FILE`")
	flags.StringVar(&o.kind, "fault", "poison", fmt.Sprintf("`KIND` of fault, one of %v", fault.Kinds()))
	flags.Uint64Var(&o.seed, "seed", 1, "seed of load and fault")
	flags.Float64Var(&o.rps, "rps", 200, "requests a second")
	flags.StringVar(&o.out, "out", ".", "`DIR` for demo-report.json and demo-report.html")
	flags.BoolVar(&o.keep, "keep", false, "leave the arm of Sluice up, with its page")
	flags.StringVar(&o.only, "arms", "sluice,naive,auto-restart,none", "arms to run, in this order")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 || !(o.rps >= 1 && o.rps <= 2000) {
		err := errors.New("want no arguments, and 1 to 2000 requests a second")
		fmt.Fprintln(flags.Output(), err)
		flags.Usage()
		return o, err
	}
	return o, nil
}

// demo is one run of all arms.
type demo struct {
	options
	started  time.Time
	progress io.Writer
	bin      string
	dir      string // of everything temporary
	path     string // of the topology
	shape    shape.Topology
	fault    fault.Fault
	arms     []*arm
}

// run runs the arms and writes the reports. The error says what was not achieved.
func (d *demo) run(ctx context.Context, out io.Writer) error {
	if err := d.prepare(); err != nil {
		return err
	}
	defer d.clean()
	names, err := armNames(d.only)
	if err != nil {
		return err
	}
	for _, name := range names {
		a, err := d.play(ctx, name)
		if err != nil {
			return fmt.Errorf("arm %s: %w", name, err)
		}
		d.arms = append(d.arms, a)
	}
	report := d.report()
	if err := report.write(d.out); err != nil {
		return err
	}
	if err := writePage(filepath.Join(d.out, "demo-report.html"), report, d.arms); err != nil {
		return err
	}
	printTable(out, report)
	d.say("report: %s", filepath.Join(d.out, "demo-report.html"))
	return d.verdict()
}

// prepare checks what the demo needs, before anything is started.
func (d *demo) prepare() error {
	bin, err := rig.Bin("sluice", "sluiced", "sluice-agents", "e2e-app")
	if err != nil {
		return err
	}
	d.bin = bin
	if info, err := os.Stat(d.out); err != nil || !info.IsDir() {
		return &rig.Error{Code: rig.ExitUsage, Err: fmt.Errorf("-out %s: not a directory", d.out)}
	}
	if d.path, err = meshfile.Find(d.topology); err == nil {
		d.shape, err = shape.Load(d.path)
	}
	if err == nil {
		d.fault, err = choose(&d.shape, fault.Kind(d.kind), d.seed)
	}
	if err != nil {
		return &rig.Error{Code: rig.ExitUsage, Err: err}
	}
	// Unix sockets lie in here, and their paths must be short.
	d.dir, err = os.MkdirTemp("/tmp", "sluice-demo-")
	if err != nil {
		return fmt.Errorf("temporary directory: %w", err)
	}
	return nil
}

// choose derives the fault from the topology's target for its kind.
func choose(topology *shape.Topology, kind fault.Kind, seed uint64) (fault.Fault, error) {
	target, ok := topology.Faults[string(kind)]
	if !ok {
		return fault.Fault{}, fmt.Errorf("fault %q: topology %s names no target for it; there are %v", kind, topology.Name, fault.Kinds())
	}
	service, _ := topology.Find(target.Service)
	return fault.Choose(kind, fault.Target{Service: target.Service, Instances: service.Instances,
		Store: target.Store, Callers: target.Callers}, seed)
}

// clean removes the temporary directory, unless an arm is kept in it.
func (d *demo) clean() {
	for _, a := range d.arms {
		if a.kept {
			d.say("arm %s is still up: %s (end it with: %s local down --state %s)", a.name,
				a.rig.Listing.Dashboard, filepath.Join(d.bin, "sluice"), a.rig.Listing.Dir)
			return
		}
	}
	os.RemoveAll(d.dir)
}

// say prints a line of progress.
func (d *demo) say(format string, args ...any) {
	fmt.Fprintf(d.progress, "[%5.1fs] "+format+"\n", append([]any{time.Since(d.started).Seconds()}, args...)...)
}

// verdict is nil if Sluice recovered without failing a request.
func (d *demo) verdict() error {
	for _, a := range d.arms {
		if a.name != armSluice {
			continue
		}
		counts := a.counts()
		switch {
		case a.recovered == nil:
			return errors.New("arm sluice did not recover")
		case counts.FailedRecovery > 0:
			return fmt.Errorf("arm sluice recovered, but the recovery failed %d requests", counts.FailedRecovery)
		case counts.Unfinished > 0:
			return fmt.Errorf("arm sluice left %d requests unfinished", counts.Unfinished)
		}
	}
	return nil
}
