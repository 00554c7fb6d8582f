package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime/metrics"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/sluicemesh/sluice/api/server"
	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/microkernel"
	"github.com/sluicemesh/sluice/microkernel/driver"
	"github.com/sluicemesh/sluice/microkernel/journal"
	"github.com/sluicemesh/sluice/xds"
)

// plane is a real kernel on a real journal behind the real API on loopback, over a
// platform in memory.
type plane struct {
	dir      string
	clock    *clock
	platform *platform
	policy   microkernel.Policy
	sampling float64
	disk     func(journal.Disk) journal.Disk // nil = as it is
	journal  func(driver.Journal) driver.Journal
	kernel   *driver.Kernel
	cancel   context.CancelFunc
	web      *http.Server
	url      string
	client   *http.Client
	writing  atomic.Int64 // journal appends under way
	moves    atomic.Int64 // journal appends so far
	last     string       // state of the platform at the beginning
}

// secrets of the principals that attack; there are two agents and two operators.
func secrets() map[string]microkernel.Principal {
	return map[string]microkernel.Principal{
		"viewer-token-0123456789":   {Name: "vera", Role: microkernel.Viewer},
		"agent-token-0123456789":    {Name: "rules", Role: microkernel.Proposer},
		"second-token-0123456789":   {Name: "llm", Role: microkernel.Proposer},
		"approver-token-0123456789": {Name: "anna", Role: microkernel.Approver},
		"admin-token-0123456789":    {Name: "adam", Role: microkernel.Admin},
	}
}

// Tokens by what they are for.
const (
	viewer   = "viewer-token-0123456789"
	agent    = "agent-token-0123456789"
	second   = "second-token-0123456789"
	approver = "approver-token-0123456789"
	admin    = "admin-token-0123456789"
)

// newPlane makes a plane that is not started yet.
func newPlane(f *fleet) (*plane, error) {
	dir, err := os.MkdirTemp("", "sluice-hostile-")
	if err != nil {
		return nil, fmt.Errorf("make a directory for the journal: %w", err)
	}
	c := newClock()
	p := &plane{
		dir: dir, clock: c, platform: newPlatform(f, c), policy: microkernel.DefaultPolicy(), sampling: 1,
		client: &http.Client{Timeout: 60 * time.Second, Transport: &http.Transport{}},
	}
	p.last = p.platform.state()
	return p, nil
}

// open opens the journal, counting what is written.
func (p *plane) open() (driver.Journal, error) {
	disk, err := journal.Directory(p.dir)
	if err != nil {
		return nil, err
	}
	if p.disk != nil {
		disk = p.disk(disk)
	}
	log, err := journal.Open(disk, journal.Settings{Segment: 256 << 10, Reserve: 64 << 10})
	if err != nil {
		return nil, err
	}
	counted := driver.Journal(&counting{Journal: log, plane: p})
	if p.journal != nil {
		counted = p.journal(counted)
	}
	return counted, nil
}

// counting is a journal that tells the plane when it works.
type counting struct {
	driver.Journal
	plane *plane
}

// Append implements driver.Journal.
func (c *counting) Append(events ...microkernel.Event) (journal.Seq, error) {
	c.plane.writing.Add(1)
	defer c.plane.writing.Add(-1)
	c.plane.moves.Add(1)
	return c.Journal.Append(events...)
}

// start starts kernel and API, and waits until plans are taken.
func (p *plane) start() error {
	if err := p.startKernel(); err != nil {
		return err
	}
	var tokens []server.Token
	for secret, by := range secrets() {
		tokens = append(tokens, server.Token{Secret: secret, Bearer: by})
	}
	set, err := server.NewTokens(tokens...)
	if err != nil {
		return err
	}
	handler, err := server.New(server.Config{
		Kernel: p.kernel, Registry: p.platform, Tokens: set, Now: p.clock.Now,
		Topology: &server.Evidence{Snapshots: p.platform, Registry: p.platform},
	})
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	p.url = "http://" + listener.Addr().String()
	p.web = server.NewHTTP(handler)
	go func() { _ = p.web.Serve(listener) }() // ends with close
	return nil
}

// startKernel starts a kernel alone.
func (p *plane) startKernel() error {
	ctx, cancel := context.WithCancel(context.Background())
	kernel, err := driver.Start(ctx, driver.Config{
		Policy: p.policy, Open: p.open, Traffic: p.platform, Processes: p.platform, Topology: p.platform,
		Now: p.clock.Now, After: p.clock.After, Log: slog.New(slog.DiscardHandler),
		Tracer: noop.NewTracerProvider().Tracer(""), Metrics: prometheus.NewRegistry(),
		Monitor: p.platform, Pager: p.platform, Scaler: p.platform, Configs: p.platform, Loads: p.platform, Symptoms: p.platform,
		Capabilities: xds.Capability, Sampling: p.sampling,
	})
	if err != nil {
		cancel()
		return err
	}
	p.kernel, p.cancel = kernel, cancel
	if !p.until(time.Minute, func() bool { return !kernel.Status().Recovering || kernel.Status().Frozen != "" }) {
		return errors.New("the kernel did not take over")
	}
	return nil
}

// stop ends kernel and API; the journal stays.
func (p *plane) stop() {
	if p.web != nil {
		_ = p.web.Close()
		p.client.CloseIdleConnections()
		p.web = nil
	}
	if p.kernel != nil {
		p.cancel()
		_ = p.kernel.Close()
		p.kernel = nil
	}
}

// close ends everything.
func (p *plane) close() {
	p.stop()
	_ = os.RemoveAll(p.dir)
}

// until lets time pass until done, at most for within; it reports whether it was done.
func (p *plane) until(within time.Duration, done func() bool) bool {
	limit := p.clock.Now().Add(within)
	for {
		if p.settle(done) {
			return true
		}
		if !p.clock.step(limit) {
			return p.settle(done)
		}
	}
}

// pass lets d pass.
func (p *plane) pass(d time.Duration) { p.until(d, func() bool { return false }) }

// settle waits, without time passing, until nothing happens any more, or done.
func (p *plane) settle(done func() bool) bool {
	tick := time.NewTicker(200 * time.Microsecond)
	defer tick.Stop()
	moves, give := p.moves.Load(), time.Now().Add(30*time.Second)
	for quiet := 0; quiet < 4 && time.Now().Before(give); quiet++ {
		if done() {
			return true
		}
		<-tick.C
		if now := p.moves.Load(); now != moves || p.working() || !idle() {
			moves, quiet = now, -1
		}
	}
	return done()
}

// idle reports whether no goroutine of this process runs, or could run, but the caller.
func idle() bool {
	samples := []metrics.Sample{
		{Name: "/sched/goroutines/runnable:goroutines"}, {Name: "/sched/goroutines/running:goroutines"},
	}
	metrics.Read(samples)
	return samples[0].Value.Uint64() == 0 && samples[1].Value.Uint64() <= 1
}

// working reports whether a port or the journal is at work.
func (p *plane) working() bool {
	p.platform.mu.Lock()
	defer p.platform.mu.Unlock()
	return p.platform.busy > 0 || p.writing.Load() > 0
}

// ended waits for the final phase of a plan, and returns its record.
func (p *plane) ended(id string) microkernel.Record {
	p.until(time.Hour, func() bool {
		r, found := p.kernel.Record(microkernel.PlanID(id))
		return found && r.Phase.Final()
	})
	r, _ := p.kernel.Record(microkernel.PlanID(id))
	return r
}

// changed reports whether the world is another than at the beginning.
func (p *plane) changed() bool { return p.platform.state() != p.last }

// told is what the journal says of a plan.
type told struct {
	id      string // of the entry that decided, "" = none
	code    isa.Code
	reason  string
	phase   microkernel.Phase
	entries int
}

// audit replays the journal, as an auditor would, and returns what it says of a plan.
// The kernel must be stopped.
func (p *plane) audit(plan string) (told, error) {
	disk, err := journal.Directory(p.dir)
	if err != nil {
		return told{}, err
	}
	log, err := journal.Open(disk, journal.Settings{Segment: 256 << 10, Reserve: 64 << 10})
	if err != nil {
		return told{}, err
	}
	defer log.Close()
	var out told
	state := microkernel.New(p.policy)
	err = log.Replay(func(e journal.Entry) error {
		next, effects := microkernel.Step(state, e.Event)
		state = next
		out.entries++
		out.note(e, effects, microkernel.PlanID(plan))
		return nil
	})
	if r, found := state.Record(microkernel.PlanID(plan)); found {
		out.phase = r.Phase
		if r.Reason != "" {
			out.reason = r.Reason
		}
	}
	return out, err
}

// note takes the answers on a plan from one entry.
func (t *told) note(e journal.Entry, effects []microkernel.Effect, plan microkernel.PlanID) {
	_, unread := e.Event.(microkernel.Unread)
	for _, effect := range effects {
		switch effect := effect.(type) {
		case microkernel.Answer:
			if effect.Plan != plan && !unread {
				continue
			}
			t.id = fmt.Sprintf("%d-%x", e.Seq, e.Hash[:8])
			t.code, t.reason = effect.Verdict.Code, ""
			if len(effect.Verdict.Faults) > 0 {
				t.reason = effect.Verdict.Faults[0].Reason
			}
		case microkernel.Finish:
			if effect.Plan == plan {
				t.id = fmt.Sprintf("%d-%x", e.Seq, e.Hash[:8])
			}
		}
	}
}

// downed is a change of the world in which an instance does not run.
func downed(in *mesh.Instance) { in.State = mesh.Stopped }
