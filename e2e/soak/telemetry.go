package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/sluicemesh/sluice/e2e/rig"
	"github.com/sluicemesh/sluice/mesh/local"
)

// The load beside the flood.
const (
	grpcExporters = 4 // half of them send again what was shed
	httpExporters = 4
	ingressRate   = 100.0 // requests a second through the mesh
	tracedRate    = 200.0 // through the Envoy that traces
	connections   = 8     // for each of the two
)

// telemetry is the soak of the ingest: a real mesh whose sluiced is fed at its limit.
func telemetry(ctx context.Context, o options) (*report, error) {
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(error) {})) // each export says what became of it
	programs, err := rig.Bin("sluice", "sluiced", "sluice-agents")
	if err != nil {
		return nil, err //nolint:wrapcheck // it says all
	}
	dir, err := os.MkdirTemp("/tmp", "sluice-soak-") // Unix sockets lie in here: the path must be short
	if err != nil {
		return nil, fmt.Errorf("temporary directory: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	t := &soak{dir: dir}
	port, err := t.freePort(ctx)
	if err != nil {
		return nil, err
	}
	t.web = "127.0.0.1:" + port
	file, bin, err := writeMesh(dir, programs, t.web)
	if err != nil {
		return nil, err
	}
	t.rig, err = rig.Up(ctx, rig.Settings{Bin: bin, MeshFile: file, State: filepath.Join(dir, "s"), Progress: io.Discard})
	if err != nil {
		return nil, err //nolint:wrapcheck // it says all
	}
	r := &report{
		Schema: "sluice.soak/1", Version: version, Commit: commit, Run: o.run, Warm: 60 * o.warm,
		Started: time.Now().UTC().Format(time.RFC3339),
	}
	err = t.measure(ctx, o, r)
	return r, errors.Join(err, t.rig.Down())
}

// soak is a mesh that is up, and what is put on it.
type soak struct {
	dir, web string // web is where spans are taken over HTTP
	rig      *rig.Rig
	grpc     string // where they are taken over gRPC
	answers  answers
	flood    flood
	running  sync.WaitGroup
	port     int // the last one taken
}

// measure puts the load on, samples until the time is over, and judges.
func (t *soak) measure(ctx context.Context, o options, r *report) error {
	var err error
	if r.Envoy, err = t.rig.Envoy(ctx); err != nil {
		return err //nolint:wrapcheck // it says all
	}
	if t.grpc, err = t.spansAddress(ctx); err != nil {
		return err
	}
	port, err := t.freePort(ctx)
	if err != nil {
		return err
	}
	proxy, err := startTraced(ctx, t.dir, port, t.back(), portOf(t.grpc))
	if err != nil {
		return err
	}
	loading, stop := context.WithTimeout(ctx, o.length())
	defer stop()
	if err := t.load(loading, minutes(o.warm)/2, proxy.url, r); err != nil {
		stop()
		t.running.Wait()
		return errors.Join(err, proxy.stop())
	}
	err = t.watch(loading, r)
	stop()
	t.running.Wait()
	err = errors.Join(err, proxy.stop(), ctx.Err())
	r.Accepted, r.Shed, r.Bare = t.answers.accepted.Load(), t.answers.shed.Load(), t.answers.bare.Load()
	r.Partial, r.Failed = t.answers.partial.Load(), t.answers.failed.Load()
	r.LastError, _ = t.answers.last.Load().(string)
	if err == nil {
		r.Restarts, err = t.restarts(ctx)
	}
	if err != nil {
		return err
	}
	return t.conclude(r)
}

// conclude prints and returns the verdict.
func (t *soak) conclude(r *report) error {
	err := r.judge()
	fmt.Printf("exporters: %d spans accepted, %d exports shed, %d failed; %d requests through the Envoy that traces\n",
		r.Accepted, r.Shed, r.Failed, r.Traced)
	fmt.Printf("once warm: RSS %+.1f ± %.1f of %.1f MiB, heap %+.1f ± %.1f of %.1f MiB, goroutines %+.1f ± %.1f of %.0f\n",
		r.RSS.Growth, r.RSS.Error, r.RSS.Mean, r.Heap.Growth, r.Heap.Error, r.Heap.Mean,
		r.Goroutines.Growth, r.Goroutines.Error, r.Goroutines.Mean)
	if err == nil {
		fmt.Println("verdict: held: memory is flat, overload was shed")
	} else {
		fmt.Println("verdict: did NOT hold")
	}
	return err
}

// load starts all exporters and requests; they end with ctx. The flood looks for the limit
// as long as hunt.
func (t *soak) load(ctx context.Context, hunt time.Duration, traced string, r *report) error {
	for i := range grpcExporters {
		exporter, err := overGRPC(ctx, t.grpc, i%2 == 0)
		if err != nil {
			return err
		}
		t.exporter(ctx, exporter)
	}
	for range httpExporters {
		t.exporter(ctx, overHTTP(t.web, &t.answers))
	}
	t.flood.address, t.flood.answers, t.flood.settled = t.web, &t.answers, hunt
	t.running.Go(func() { t.flood.run(ctx) })
	t.running.Go(func() { loadAt(ctx, "http://"+t.rig.Ingress()+"/", connections, ingressRate) })
	t.running.Go(func() { r.Traced = loadAt(ctx, traced, connections, tracedRate) })
	return nil
}

// exporter runs one exporter.
func (t *soak) exporter(ctx context.Context, exporter sdktrace.SpanExporter) {
	t.running.Go(func() {
		export(ctx, exporter, &t.answers)
		bound, cancel := context.WithTimeout(context.Background(), exportBound)
		defer cancel()
		_ = exporter.Shutdown(bound)
	})
}

// watch samples until ctx ends.
func (t *soak) watch(ctx context.Context, r *report) error {
	m, err := newMetrics(t.rig.Listing.API, filepath.Join(t.dir, "s", "tokens", "viewer"))
	if err != nil {
		return err
	}
	began := time.Now()
	tick := time.NewTicker(pace)
	defer tick.Stop()
	var before sample
	for {
		select {
		case <-ctx.Done():
			r.Seconds = time.Since(began).Seconds()
			return nil
		case <-tick.C:
		}
		now, err := m.read(ctx)
		if err != nil {
			if ctx.Err() != nil {
				continue
			}
			return err
		}
		now.Seconds, now.Open = time.Since(began).Seconds(), t.flood.open.Load()
		r.Samples = append(r.Samples, now)
		if len(r.Samples)%linesEvery == 0 {
			fmt.Println(now.line(&before))
			before = now
		}
	}
}

// back is the port of the application of backService.
func (t *soak) back() string {
	for i := range t.rig.Listing.Instances {
		if instance := &t.rig.Listing.Instances[i]; instance.Service == backService {
			return portOf(instance.Address)
		}
	}
	return ""
}

// spansAddress is where sluiced takes spans over gRPC: what its command line says.
func (t *soak) spansAddress(ctx context.Context) (string, error) {
	listing, err := t.rig.Ps(ctx)
	if err != nil {
		return "", err //nolint:wrapcheck // it says all
	}
	for _, p := range listing.Processes {
		if p.Role != local.RoleControl || p.PID == nil {
			continue
		}
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", *p.PID))
		if err != nil {
			return "", fmt.Errorf("command line of sluiced: %w", err)
		}
		args := strings.Split(string(line), "\x00")
		for i, arg := range args[:len(args)-1] {
			if arg == "--otlp" {
				return args[i+1], nil
			}
		}
	}
	return "", errors.New("sluiced does not run, or takes no spans")
}

// restarts is how often sluiced was started again.
func (t *soak) restarts(ctx context.Context) (int, error) {
	listing, err := t.rig.Ps(ctx)
	if err != nil {
		return 0, err //nolint:wrapcheck // it says all
	}
	for _, p := range listing.Processes {
		if p.Role == local.RoleControl {
			return p.Restarts, nil
		}
	}
	return 0, nil
}

func portOf(address string) string {
	_, port, _ := net.SplitHostPort(address)
	return port
}

// Ports below those that the mesh takes, which are below those that connections take.
const (
	firstPort = 18_000
	lastPort  = 19_999
)

// freePort returns a port that nobody listened on a moment ago, another one each time.
func (t *soak) freePort(ctx context.Context) (string, error) {
	for t.port = max(t.port, firstPort) + 1; t.port <= lastPort; t.port++ {
		listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", t.port))
		if err == nil {
			return portOf(listener.Addr().String()), listener.Close()
		}
	}
	return "", fmt.Errorf("no free port between %d and %d", firstPort, lastPort)
}
