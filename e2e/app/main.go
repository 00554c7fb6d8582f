// Command app plays any service of a topology file: a handler of HTTP and gRPC
// requests, or a raw-TCP store. It is the demo application, the thing that is broken
// and recovered; it knows nothing of proxies or of the control plane, and calls each
// upstream at the address that the environment gives (UPSTREAM_<name>).
//
// One process lives like this:
//
//	announce -> start-up cost -> values read once, session taken -> listen -> serve
//	SIGTERM  -> (graceful) stop listening, end streams, finish requests, flush spans
//	         -> (else, as the services of DeathStarBench, which catch no signal) gone
//
// It listens only when it can serve, so "connects" means "ready".
//
// Headers: X-App names the service that answered (a response without it was made by
// a proxy), X-Fault the injected fault that caused it, X-Failed-At the service that
// could not be reached (the innermost, if several).
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strconv"
	"syscall"
	"time"

	"github.com/sluicemesh/sluice/e2e/app/shape"
	"github.com/sluicemesh/sluice/e2e/fault"
)

// grace bounds the end of a process after SIGTERM; the supervisor kills after 5 s.
const grace = 4 * time.Second

func main() {
	path := flag.String("topology", "", "topology `FILE`")
	name := flag.String("service", "", "service to play, `NAMESPACE/NAME`")
	port := flag.Int("port", 0, "`PORT` to listen on")
	host := flag.String("host", "127.0.0.1", "`ADDRESS` to listen at")
	flag.Parse()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	// Many of these share a small machine: one core and few collections are enough for
	// each, and leave the rest to what is being tested.
	runtime.GOMAXPROCS(1)
	debug.SetGCPercent(800)
	if *path == "" || *name == "" || *port <= 0 {
		flag.Usage()
		os.Exit(2)
	}
	topology, err := shape.Load(*path)
	if err == nil {
		err = play(log, &topology, settings{Service: *name, Host: *host, Port: *port, Env: os.Getenv})
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		log.Error("process ends", "service", *name, "error", err)
		os.Exit(1)
	}
}

// play runs one service until a signal that its topology wants to be caught.
func play(log *slog.Logger, topology *shape.Topology, s settings) error {
	ends := []os.Signal{os.Interrupt}
	if topology.Graceful {
		ends = append(ends, syscall.SIGTERM)
	}
	ctx, cancel := signal.NotifyContext(context.Background(), ends...)
	defer cancel()
	return run(ctx, log, topology, s)
}

// settings is what a process is started with.
type settings struct {
	Service string
	Host    string // "" = 127.0.0.1
	Port    int
	Env     func(string) string
}

// address is where the process listens.
func (s settings) address() string {
	return net.JoinHostPort(cmp.Or(s.Host, "127.0.0.1"), strconv.Itoa(s.Port))
}

// run plays one service until ctx ends.
func run(ctx context.Context, log *slog.Logger, topology *shape.Topology, s settings) error {
	service, ok := topology.Find(s.Service)
	if !ok {
		return fmt.Errorf("service %s is not in topology %s", s.Service, topology.Name)
	}
	instance := s.Env("SLUICE_INSTANCE")
	if instance == "" {
		instance = fmt.Sprintf("pid-%d", os.Getpid())
	}
	dir := fault.Dir(s.Env(fault.EnvDir))
	faults := newFaults(time.Now)
	stop, err := announce(dir, s.Service, instance, faults)
	if err != nil {
		return err
	}
	defer stop()
	if err := startCost(ctx, s.Env("START_COST"), service.Startup); err != nil {
		return err
	}
	log.Info("start", "service", s.Service, "instance", instance, "pid", os.Getpid())
	if service.Kind == shape.Store {
		return serveStore(ctx, newStore(service, faults), s.address())
	}
	return runHandler(ctx, log, handlerSettings{topology: topology, service: service, instance: instance,
		faults: faults, dir: dir, env: s.Env, address: s.address()})
}

// startCost waits as long as the start of this service takes: text if given, else own.
func startCost(ctx context.Context, text string, own time.Duration) error {
	if text != "" {
		given, err := time.ParseDuration(text)
		if err != nil || given < 0 {
			return fmt.Errorf("START_COST %q: want a duration such as 300ms", text)
		}
		own = given
	}
	return pause(ctx, own)
}

// pause waits for d or until ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
