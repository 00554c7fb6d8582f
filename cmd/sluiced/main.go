// Command sluiced is the control plane for plain Envoy: it configures the proxies of a
// local mesh over ADS, takes in their evidence, judges and executes plans, and serves
// the API and a page. It only wires packages together.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/sluicemesh/sluice/microkernel"
)

// Set by the linker.
var (
	version = "dev"
	commit  = "unknown"
)

// Exit codes (the same for every program of Sluice).
const (
	exitFailed  = 1
	exitUsage   = 2
	exitMissing = 3
)

// options are the command line.
type options struct {
	state        string // directory of the journal and the tokens
	supervisor   string // Unix socket of the local supervisor
	xds          string // Unix socket that the proxies connect to
	api          string // loopback address of the API and the page
	otlp         string // loopback address for spans
	otlpHTTP     string // the same over HTTP, "" = not served
	mode         string
	limits       limits
	remote       remoteOptions
	replicas     replicaOptions
	prometheus   promOptions
	tracePercent float64 // of requests, noTracing = proxies send no spans
	mostMissed   float64 // bound on missed edges with which evidence may choose, 0 = any
	version      bool
}

func main() {
	opts, err := parse(os.Args[1:], os.Stderr)
	if err != nil {
		os.Exit(exitUsage)
	}
	if opts.version {
		fmt.Println("sluiced", version, commit)
		return
	}
	log := slog.New(slog.NewJSONHandler(os.Stderr, nil))
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, opts, log); err != nil && !errors.Is(err, context.Canceled) {
		log.Error("sluiced ends", "error", err)
		os.Exit(code(err))
	}
}

// parse reads and checks the flags; what is wrong has been printed when it returns.
func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("sluiced", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprintln(stderr, "sluiced is started by: sluice local up -f MESH.yaml")
		flags.PrintDefaults()
	}
	flags.StringVar(&o.state, "state", "", "directory of the journal and the tokens")
	flags.StringVar(&o.supervisor, "supervisor", "", "Unix socket of the supervisor")
	flags.StringVar(&o.xds, "xds", "", "Unix socket that the proxies connect to")
	flags.StringVar(&o.api, "api", "127.0.0.1:0", "loopback address of the API and the page")
	flags.StringVar(&o.otlp, "otlp", "127.0.0.1:0", "loopback address for OTLP spans over gRPC")
	flags.StringVar(&o.otlpHTTP, "otlp-http", "", "loopback address for OTLP spans over HTTP (default: not served)")
	flags.StringVar(&o.mode, "mode", string(microkernel.Enforce), "Observe, Propose or Enforce")
	o.limits.register(flags)
	o.prometheus.register(flags)
	registerTracing(&o.tracePercent, flags)
	flags.Float64Var(&o.mostMissed, "most-missed", 0,
		"greatest bound on missed edges, 0 to 1, with which evidence may choose among a symptom's edges; above it all that the symptom reaches is in its group (0: evidence always chooses)")
	o.remote.register(flags)
	o.replicas.register(flags)
	flags.BoolVar(&o.version, "version", false, "print the version and end")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if o.version {
		return o, nil
	}
	if err := o.validate(); err != nil {
		fmt.Fprintln(stderr, "sluiced:", err)
		return o, err
	}
	return o, nil
}

// validate returns all faults of the command line joined.
func (o *options) validate() error {
	var faults []error
	for _, f := range []struct{ name, value string }{
		{"--state", o.state}, {"--supervisor", o.supervisor}, {"--xds", o.xds},
	} {
		if f.value == "" {
			faults = append(faults, fmt.Errorf("%s is missing; sluice local up sets it", f.name))
		}
	}
	faults = append(faults, o.remote.validate(o.replicas.several()), o.replicas.validate())
	modes := []microkernel.Mode{microkernel.Observe, microkernel.Propose, microkernel.Enforce}
	if !slices.Contains(modes, microkernel.Mode(o.mode)) {
		faults = append(faults, fmt.Errorf("--mode %q: want Observe, Propose or Enforce", o.mode))
	}
	if !(o.mostMissed >= 0 && o.mostMissed <= 1) {
		faults = append(faults, fmt.Errorf("--most-missed %v: want 0 to 1", o.mostMissed))
	}
	return errors.Join(append(faults, o.prometheus.validate(), validateTracing(o.tracePercent))...)
}

// missingError says that something outside of sluiced is needed.
type missingError struct{ err error }

func (e *missingError) Error() string { return e.err.Error() }
func (e *missingError) Unwrap() error { return e.err }

// code maps an error of run to the exit code.
func code(err error) int {
	if missing := (*missingError)(nil); errors.As(err, &missing) {
		return exitMissing
	}
	return exitFailed
}
