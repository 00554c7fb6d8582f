// Command planned is `make planned`: healthy services restarted in turn under load, by
// Sluice and then, on the same seed and at the same moments, the naive way; it counts
// what that cost the requests. Nothing is broken on purpose but, if asked, the control
// plane itself.
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

	"github.com/sluicemesh/sluice/e2e/load"
	"github.com/sluicemesh/sluice/e2e/rig"
	"github.com/sluicemesh/sluice/e2e/topologies/meshfile"
)

// version and commit are set by the linker.
var (
	version = "devel"
	commit  = "unknown"
)

// killControlPlane is the one value of -kill.
const killControlPlane = "control-plane"

// options are the flags.
type options struct {
	seed     uint64
	rps      float64
	requests int
	runs     int
	mesh     string
	path     string
	topology string
	workers  int
	service  string
	rolling  int
	kill     string
	kills    int
	out      string
}

func main() {
	o, err := parse(os.Args[1:])
	if err != nil {
		os.Exit(rig.ExitUsage)
	}
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	p := &planned{options: o, started: time.Now(), progress: os.Stderr}
	err = p.run(ctx, os.Stdout)
	if ctx.Err() != nil {
		err = errors.Join(context.Canceled, err)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "planned:", err)
	}
	cancel()
	os.Exit(rig.Code(err))
}

// parse reads the flags; errors have been printed.
func parse(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("planned", flag.ContinueOnError)
	flags.Uint64Var(&o.seed, "seed", 1, "seed of load and kills; each run adds one")
	flags.Float64Var(&o.rps, "rps", 200, "requests a second")
	flags.IntVar(&o.requests, "requests", 20_000, "least requests an arm, and until each service was restarted")
	flags.IntVar(&o.runs, "runs", 1, "how often")
	flags.StringVar(&o.topology, "topology", "hotel", "`NAME` of a topology of this repository, or a topology file")
	flags.StringVar(&o.mesh, "mesh", "", "mesh `FILE` of foreign processes, instead of a topology")
	flags.StringVar(&o.path, "path", "/", "with -mesh: path to GET")
	flags.StringVar(&o.kill, "kill", "", "`control-plane`: kill -9 it once during each restart")
	flags.IntVar(&o.kills, "kills", 0, "with -kill: so many kills, by turns in each phase of a plan, and no naive arm")
	flags.IntVar(&o.workers, "workers", 1, "worker threads of each Envoy")
	flags.StringVar(&o.service, "service", "", "restart only the service NAMESPACE/`NAME`")
	flags.IntVar(&o.rolling, "rolling", 0, "with -service: restart its instances so many times, in turn, without a pause; limits are raised")
	flags.StringVar(&o.out, "out", "planned.json", "report `FILE`")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	err := o.check()
	if flags.NArg() > 0 {
		err = errors.Join(err, fmt.Errorf("argument %q: want none", flags.Arg(0)))
	}
	if err != nil {
		fmt.Fprintln(flags.Output(), err)
	}
	return o, err
}

func (o *options) check() error {
	switch {
	case !(o.rps >= 1 && o.rps <= 2000):
		return fmt.Errorf("-rps %g: want 1 to 2000", o.rps)
	case o.requests < 1 || o.requests > load.MaxRequests/2:
		return fmt.Errorf("-requests %d: want 1 to %d", o.requests, load.MaxRequests/2)
	case o.runs < 1 || o.runs > 100:
		return fmt.Errorf("-runs %d: want 1 to 100", o.runs)
	case o.kill != "" && o.kill != killControlPlane:
		return fmt.Errorf("-kill %q: want %s", o.kill, killControlPlane)
	case o.workers < 1 || o.workers > 64:
		return fmt.Errorf("-workers %d: want 1 to 64", o.workers)
	case o.rolling < 0 || o.rolling > 1000 || o.rolling > 0 && (o.service == "" || o.kill != ""):
		return fmt.Errorf("-rolling %d: want 1 to 1000, with -service and without -kill", o.rolling)
	case o.kills < 0 || o.kills > 1000 || o.kills > 0 && o.kill == "":
		return fmt.Errorf("-kills %d: want 1 to 1000, and -kill %s", o.kills, killControlPlane)
	}
	return nil
}

// planned is one call of the program.
type planned struct {
	options
	started  time.Time
	progress io.Writer
	bin, dir string
	file     string // mesh file
	load     load.Config
	report   report
}

// run runs both arms as often as asked and writes the report.
func (p *planned) run(ctx context.Context, out io.Writer) error {
	defer func() { os.RemoveAll(p.dir) }() // made by prepare
	if err := p.prepare(); err != nil {
		return err
	}
	for n := 1; n <= p.runs; n++ {
		p.load.Seed = p.seed + uint64(n-1)
		first, err := p.play(ctx, n, armSluice, nil)
		if err != nil {
			return fmt.Errorf("run %d, arm %s: %w", n, armSluice, err)
		}
		if p.kills > 0 {
			p.report.add(first)
			continue
		}
		second, err := p.play(ctx, n, armNaive, first.restarts)
		if err != nil {
			return fmt.Errorf("run %d, arm %s: %w", n, armNaive, err)
		}
		p.report.add(first)
		p.report.add(second)
	}
	p.report.Seconds = time.Since(p.started).Seconds()
	if err := p.report.write(p.out); err != nil {
		return err
	}
	p.report.print(out)
	return p.report.verdict()
}

// prepare checks what is needed before anything is started, and writes the mesh file.
func (p *planned) prepare() error {
	names := []string{"sluice", "sluiced", "sluice-agents"}
	if p.mesh == "" {
		names = append(names, "e2e-app")
	}
	bin, err := rig.Bin(names...)
	if err != nil {
		return err
	}
	// Unix sockets lie in here, and their paths must be short.
	if p.dir, err = os.MkdirTemp("/tmp", "sluice-planned-"); err != nil {
		return fmt.Errorf("temporary directory: %w", err)
	}
	p.bin = bin
	p.report = report{Schema: "sluice.planned/1", Version: version, Commit: commit,
		Started: p.started.UTC().Format(time.RFC3339), Seed: p.seed, RPS: p.rps, Kill: p.kill, Workers: p.workers,
		Limits: p.limits(), Services: []row{}}
	p.load = load.Config{Rate: p.rps, Ramp: warmUp / 2, Requests: load.MaxRequests, For: 24 * time.Hour}
	if p.mesh != "" {
		return p.foreign()
	}
	p.file = filepath.Join(p.dir, "mesh.yaml")
	topology, err := meshfile.Write(meshfile.Settings{Topology: p.topology, App: filepath.Join(bin, "e2e-app"), Out: p.file})
	if err != nil {
		return &rig.Error{Code: rig.ExitUsage, Err: err}
	}
	for _, part := range topology.Mix {
		p.load.Mix = append(p.load.Mix, load.Part{Operation: part.Operation, Share: part.Share})
	}
	return nil
}

// limits are those of the policy where more is restarted, and sooner, than it allows.
func (p *planned) limits() []string {
	if p.kills == 0 && p.rolling == 0 {
		return []string{}
	}
	return []string{"restarts-per-service=1000", "drains-per-target=1000", "drains-per-target-hold=1000"}
}

// foreign is the load of a mesh of which nothing is known: GET of one path.
func (p *planned) foreign() error {
	file, err := filepath.Abs(p.mesh)
	if err == nil {
		_, err = os.Stat(file)
	}
	if err != nil {
		return &rig.Error{Code: rig.ExitUsage, Err: fmt.Errorf("-mesh: %w", err)}
	}
	p.file = file
	p.load.Method = "GET"
	p.load.Mix = []load.Part{{Operation: trimSlash(p.path), Share: 1}}
	return nil
}

func trimSlash(path string) string {
	for len(path) > 0 && path[0] == '/' {
		path = path[1:]
	}
	return path
}

func (p *planned) say(format string, args ...any) {
	fmt.Fprintf(p.progress, "[%5.1fs] "+format+"\n", append([]any{time.Since(p.started).Seconds()}, args...)...)
}
