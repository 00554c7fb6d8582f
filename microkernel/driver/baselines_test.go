package driver

import (
	"context"
	"reflect"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/microkernel"
	"github.com/sluicemesh/sluice/microkernel/journal"
)

// As TestTheWatcherNoticesHarmAgainstTheFrozenBaseline, but the second watch is that of
// another process, which only has what the journal kept.
func TestTheNextLeadersWatcherGoesOnWithTheJournalledBaselines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh()
		stats := steady{ill: front, bad: time.Now().Unix() + 2}
		order := microkernel.Watch{Plan: "p", Services: []mesh.Service{cart, front}, Disturbed: []mesh.Service{cart}}
		kept := watcher(m, stats).Baselines(order)
		if len(kept) != 2 || kept[0].Service != cart || kept[1].Before.Requests != 6000 || kept[1].Broken {
			t.Fatalf("baselines %+v", kept)
		}
		<-time.After(50 * time.Second) // a new baseline would be bad by now
		order.For, order.Baselines = 30*time.Second, kept
		again := watcher(m, stats)
		if got := again.Baselines(order); !reflect.DeepEqual(got, kept) {
			t.Errorf("baselines %+v, want %+v", got, kept)
		}
		verdict, err := again.Watch(t.Context(), order)
		if err != nil || verdict.Label != microkernel.Harm || verdict.Service != front {
			t.Errorf("Watch = %+v, %v", verdict, err)
		}
	})
}

// measuring is a calm monitor that measures another baseline each time, and notes its orders.
type measuring struct {
	calm
	mu     sync.Mutex
	times  uint64
	orders []microkernel.Watch
}

func (m *measuring) Baselines(microkernel.Watch) []microkernel.Baseline {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.times++
	return []microkernel.Baseline{{Service: cart, Before: microkernel.Level{Requests: m.times}}}
}

func (m *measuring) Watch(ctx context.Context, order microkernel.Watch) (microkernel.HarmVerdict, error) {
	m.mu.Lock()
	m.orders = append(m.orders, order)
	m.mu.Unlock()
	return m.calm.Watch(ctx, order)
}

func TestBaselinesAreFrozenByTheFirstWatchAndJournalled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, j, monitor := newMesh(), &journal.Memory{}, &measuring{}
		cfg := configOf(m, j)
		cfg.Monitor = monitor
		k := start(t, cfg)
		led(t, k)
		submit(t, k, restartCart("cart-1"))
		if err := wait(t.Context(), 1500*time.Millisecond); err != nil { // the instance is starting
			t.Fatal(err)
		}
		if err := k.Close(); err != nil {
			t.Fatal(err)
		}
		k = start(t, cfg)
		if r := ended(t, k, "cart-1"); r.Phase != microkernel.Committed {
			t.Errorf("phase %s: %s", r.Phase, r.Reason)
		}
		if n := len(monitor.orders); n < 3 || monitor.times != 1 {
			t.Fatalf("%d watches, measured %d times; want three and one", n, monitor.times)
		}
		for i, order := range monitor.orders {
			if carried := len(order.Baselines) == 1 && order.Baselines[0].Before.Requests == 1; carried != (i > 0) {
				t.Errorf("watch %d carries %+v", i, order.Baselines)
			}
		}
		if got := replayed(t, j); microkernel.Hash(got) != microkernel.Hash(k.snapshot()) {
			t.Error("I6: replay does not yield the live state")
		}
	})
}
