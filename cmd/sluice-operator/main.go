// Command sluice-operator is the control plane in a Kubernetes cluster: it configures the
// sidecars over ADS, takes in their evidence, judges plans and executes them by eviction.
// Of several replicas one leads, by a Lease; the others wait with warm caches. It only
// wires packages together.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"

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
	kubeconfig string // "" = the pod's own service account
	context    string
	namespace  string // of the control plane itself: Lease, journal, policy
	watch      string // namespace that it is confined to, "" = all
	identity   string // of this replica in the Lease
	lease      string // name of the Lease and of the journal
	socket     string // Unix socket for proxies on this machine
	health     string // address of health, readiness and metrics
	api        string // loopback address of the API and the page
	mode       string
	remote     remoteOptions
	secure     secureOptions
	noObjects  bool   // plans and approvals as objects are not taken in
	probe      string // URL to ask instead of running
	version    bool
}

func main() {
	opts, err := parse(os.Args[1:], os.Stderr)
	if err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return
		}
		os.Exit(exitUsage)
	}
	if opts.version {
		fmt.Println("sluice-operator", version, commit)
		return
	}
	log := slog.New(slog.NewJSONHandler(os.Stderr, nil))
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	work := run
	if opts.probe != "" {
		work = probe
	}
	if err := work(ctx, opts, log); err != nil && (errors.Is(err, errLost) || !errors.Is(err, context.Canceled)) {
		log.Error("sluice-operator ends", "error", err)
		os.Exit(code(err))
	}
}

// parse reads and checks the flags; what is wrong has been printed when it returns.
func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	host, _ := os.Hostname() // in a pod, its name
	flags := flag.NewFlagSet("sluice-operator", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprintln(stderr, "sluice-operator is installed by: helm install sluice charts/sluice -n sluice-system --create-namespace")
		flags.PrintDefaults()
	}
	flags.StringVar(&o.kubeconfig, "kubeconfig", "", "file of the cluster's address and credentials (default: the pod's own)")
	flags.StringVar(&o.context, "context", "", "context in --kubeconfig (default: its current one)")
	flags.StringVar(&o.namespace, "namespace", "sluice-system", "namespace of the control plane: of its Lease, journal and policy")
	flags.StringVar(&o.watch, "watch-namespace", "", "the only namespace to see and act in (default: all)")
	flags.StringVar(&o.identity, "identity", host, "name of this replica in the Lease")
	flags.StringVar(&o.lease, "lease", "sluice", "name of the Lease and of the journal")
	flags.StringVar(&o.socket, "xds", "/run/sluice/xds.sock", "Unix socket for proxies beside this process")
	flags.StringVar(&o.health, "health", ":8081", "address of /healthz, /readyz and /metrics, without authentication")
	flags.StringVar(&o.api, "api", "127.0.0.1:8090", "loopback address of the API and the page (kubectl port-forward reaches it)")
	flags.StringVar(&o.mode, "mode", string(microkernel.Observe), "Observe, Propose or Enforce")
	flags.BoolVar(&o.noObjects, "no-objects", false, "take in no RecoveryPlans and RecoveryApprovals, only the API's")
	o.remote.register(flags)
	o.secure.register(flags)
	flags.StringVar(&o.probe, "probe", "", "ask this URL, and end with 0 if the answer is 200 (helm test)")
	flags.BoolVar(&o.version, "version", false, "print the version and end")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if o.version || o.probe != "" {
		return o, nil
	}
	if err := o.validate(); err != nil {
		fmt.Fprintln(stderr, "sluice-operator:", err)
		return o, err
	}
	return o, nil
}

// validate returns all faults of the command line joined.
func (o *options) validate() error {
	var faults []error
	for _, f := range []struct{ name, value string }{
		{"--namespace", o.namespace}, {"--lease", o.lease}, {"--identity", strings.ToLower(o.identity)},
	} {
		if reasons := validation.IsDNS1123Subdomain(f.value); len(reasons) > 0 {
			faults = append(faults, fmt.Errorf("%s %q: %s", f.name, f.value, reasons[0]))
		}
	}
	modes := []microkernel.Mode{microkernel.Observe, microkernel.Propose, microkernel.Enforce}
	if !slices.Contains(modes, microkernel.Mode(o.mode)) {
		faults = append(faults, fmt.Errorf("--mode %q: want Observe, Propose or Enforce", o.mode))
	}
	if host, _, err := net.SplitHostPort(o.api); err != nil {
		faults = append(faults, fmt.Errorf("--api %q: %w", o.api, err))
	} else if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		faults = append(faults, fmt.Errorf("--api %q: only loopback addresses; --api-listen serves others, over TLS", o.api))
	}
	return errors.Join(append(faults, o.remote.validate(), o.secure.validate())...)
}

// probe asks a URL of the operator's plain figures and health.
func probe(ctx context.Context, o options, _ *slog.Logger) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, o.probe, nil)
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", o.probe, answer.Status)
	}
	return nil
}

// missingError says that something outside of the operator is needed.
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
