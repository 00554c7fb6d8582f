package driver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/microkernel"
	"github.com/sluicemesh/sluice/microkernel/journal"
)

// Config is what a kernel runs on. Fields without "optional" are needed.
type Config struct {
	Policy    microkernel.Policy
	Open      func() (Journal, error) // opens the journal; a *journal.CorruptError freezes the kernel
	Traffic   Traffic
	Processes Processes
	Topology  Topology
	Now       func() time.Time
	Log       *slog.Logger
	Tracer    trace.Tracer
	Metrics   prometheus.Registerer

	// After calls f in a goroutine of its own after d, unless stop came first, which then
	// returns true; optional: nil is time.AfterFunc.
	After        func(d time.Duration, f func()) (stop func() bool)
	Monitor      Monitor                                  // optional: nil judges every plan inconclusive
	Pager        Pager                                    // optional: nil logs pages only
	Scaler       Scaler                                   // optional: nil refuses to scale
	Configs      Configs                                  // optional: nil refuses to roll back
	Loads        Loads                                    // optional
	Symptoms     Symptoms                                 // optional
	Capabilities func(*mesh.ServiceState) mesh.Capability // what can be done to a service; only the data plane knows
	Sampling     float64                                  // share of requests that evidence sees, 0..1; 0 = 1, all

	CompactAfter int64 // bytes of journal; 0 = 64 MiB

	check func(microkernel.State) string // which invariant a state breaks, "" = none; nil = microkernel.Check
}

// Kernel is a running microkernel. Its methods are safe for concurrent use.
type Kernel struct {
	cfg     Config
	started time.Time
	ctx     context.Context
	stop    context.CancelFunc
	inbox   chan request
	work    sync.WaitGroup // every goroutine of the kernel
	state   atomic.Pointer[microkernel.State]
	halted  atomic.Pointer[string] // why the driver froze itself, nil = it did not
	full    atomic.Bool            // the journal's disk has no room
	history *history
	watches *watches
	views   *views

	// Owned by the loop alone.
	journal Journal
	clock   clock
	timers  map[microkernel.TimerID]*timer
	ops     map[slot]*operation
	observe *observer
	grown   int64 // size of the journal from which on it is compacted again
}

// Start replays the journal, becomes leader with the next term and looks at the world.
// It returns when that is journalled; the kernel runs until Close or the end of ctx. A
// journal that is corrupt, or cannot be written, gives a frozen kernel that only takes
// overlays away; every other error of the journal is returned.
func Start(ctx context.Context, cfg Config) (*Kernel, error) {
	k, err := prepare(cfg)
	if err != nil {
		return nil, err
	}
	k.ctx, k.stop = context.WithCancel(ctx)
	opened, err := cfg.Open()
	if err == nil {
		k.journal = opened
		err = k.replay()
	}
	switch {
	case unusable(err):
		k.halt(err)
	case err != nil:
		k.stop()
		return nil, errors.Join(fmt.Errorf("start the kernel: %w", err), k.closeJournal())
	}
	k.spawn(k.loop)
	if k.halted.Load() == nil {
		err = k.lead()
	}
	if k.halted.Load() != nil {
		k.spawn(k.sweep)
		return k, nil
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start the kernel: %w", err), k.Close())
	}
	return k, nil
}

// unusable reports whether err is of a journal that is there and cannot be trusted.
func unusable(err error) bool {
	corrupt, broken := (*journal.CorruptError)(nil), (*journal.SyncError)(nil)
	return errors.As(err, &corrupt) || errors.As(err, &broken)
}

func prepare(cfg Config) (*Kernel, error) {
	observe, err := newObserver(cfg)
	if err != nil {
		return nil, err
	}
	if cfg.Capabilities == nil {
		return nil, errors.New("the driver is not told what can be done to a service: set Capabilities")
	}
	if cfg.check == nil {
		cfg.check = microkernel.Check
	}
	if cfg.CompactAfter == 0 {
		cfg.CompactAfter = compactAfter
	}
	if cfg.Sampling == 0 {
		cfg.Sampling = 1
	}
	if cfg.After == nil {
		cfg.After = func(d time.Duration, f func()) func() bool { return time.AfterFunc(d, f).Stop }
	}
	k := &Kernel{
		cfg:     cfg,
		started: cfg.Now(),
		inbox:   make(chan request),
		history: newHistory(),
		watches: newWatches(),
		timers:  map[microkernel.TimerID]*timer{},
		ops:     map[slot]*operation{},
		observe: observe,
	}
	k.views = &views{cfg: cfg, history: k.history}
	k.clock = clock{now: cfg.Now, start: k.started}
	k.clock.notBefore(microkernel.Instant(k.started.UnixNano()))
	k.adopt(microkernel.New(cfg.Policy))
	return k, nil
}

// replay steps through the journal; effects were ordered in their time and are not
// performed again.
func (k *Kernel) replay() error {
	state, count := microkernel.New(k.cfg.Policy), 0
	err := k.journal.Replay(func(e journal.Entry) error {
		next, effects := microkernel.Step(state, e.Event)
		state = next
		count++
		k.clock.notBefore(e.Event.When())
		k.history.note(e.Event, effects)
		return nil
	})
	if err != nil {
		return err
	}
	k.adopt(state)
	k.observe.resume(state)
	k.cfg.Log.Info("journal replayed", "events", count, "term", state.Term(), "open", state.Open())
	return nil
}

// lead takes the next term and waits until that is journalled.
func (k *Kernel) lead() error {
	term := k.snapshot().Term() + 1
	_, err := k.ask(k.ctx, func(at microkernel.Stamp) microkernel.Event {
		return microkernel.Led{Stamp: at, Term: term, Policy: k.cfg.Policy}
	})
	return err
}

// Close stops the kernel where it stands, waits for everything that it started, and
// closes the journal. Plans under way go on when a kernel is started on the journal
// again.
func (k *Kernel) Close() error {
	k.stop()
	k.work.Wait()
	k.watches.close()
	k.observe.close()
	return k.closeJournal()
}

func (k *Kernel) closeJournal() error {
	if k.journal == nil {
		return nil
	}
	return k.journal.Close()
}

// spawn runs f in a goroutine that Close waits for.
func (k *Kernel) spawn(f func()) {
	k.work.Add(1)
	go func() {
		defer k.work.Done()
		f()
	}()
}

// snapshot returns the state as it was after the last event.
func (k *Kernel) snapshot() microkernel.State { return *k.state.Load() }

func (k *Kernel) adopt(s microkernel.State) { k.state.Store(&s) }
