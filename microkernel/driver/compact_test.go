package driver

import (
	"reflect"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicemesh/sluice/microkernel"
	"github.com/sluicemesh/sluice/microkernel/journal"
)

// onDisk is a kernel on a journal in a directory, compacted whenever it has that many bytes.
func onDisk(m *fakeMesh, dir string, after int64) Config {
	cfg := configOf(m, nil)
	cfg.CompactAfter = after
	cfg.Open = func() (Journal, error) {
		disk, err := journal.Directory(dir)
		if err != nil {
			return nil, err
		}
		return journal.Open(disk, journal.Settings{Segment: 64 << 10, Reserve: 16 << 10})
	}
	return cfg
}

func TestAJournalIsCompactedOnceNoPlanIsOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, dir := newMesh(), t.TempDir()
		k := start(t, onDisk(m, dir, 8<<10))
		led(t, k)
		for _, id := range []string{"cart-1", "cart-2", "cart-3"} {
			submit(t, k, restartCart(id))
			if r := ended(t, k, microkernel.PlanID(id)); r.Phase != microkernel.Committed {
				t.Fatalf("%s is %s: %s", id, r.Phase, r.Reason)
			}
		}
		sameAfterRestart(t, k, m, dir, 8<<10)
	})
}

// After every event, in the middle of a plan too, and with a crash between any two.
func TestAJournalCompactedAllTheTimeLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, dir := newMesh(), t.TempDir()
		k := start(t, onDisk(m, dir, 1))
		led(t, k)
		submit(t, k, restartCart("cart-1"))
		if err := wait(t.Context(), 1500*time.Millisecond); err != nil { // the instance is starting
			t.Fatal(err)
		}
		if err := k.Close(); err != nil {
			t.Fatal(err)
		}
		k = start(t, onDisk(m, dir, 1))
		if r := ended(t, k, "cart-1"); r.Phase != microkernel.Committed || len(m.starts) != 1 {
			t.Errorf("phase %s (%s), restarts %v", r.Phase, r.Reason, m.starts)
		}
		sameAfterRestart(t, k, m, dir, 1)
	})
}

// sameAfterRestart compares a kernel with the one that the journal makes of it.
func sameAfterRestart(t *testing.T, k *Kernel, m *fakeMesh, dir string, after int64) {
	t.Helper()
	synctest.Wait()
	records, p99, hash := k.Records(), k.history.p99(cart, 0), microkernel.Hash(k.snapshot())
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	sum, err := journal.Verify(dir)
	if err != nil || sum.Segments < 2 {
		t.Fatalf("Verify = %+v, %v; want a compacted journal", sum, err)
	}
	replay(t, onDisk(m, dir, after), hash)
	again := start(t, onDisk(m, dir, after))
	led(t, again)
	if got := again.Records(); !reflect.DeepEqual(got, records) {
		t.Errorf("records\n%+v\nwere\n%+v", got, records)
	}
	if got := again.history.p99(cart, 0); got != p99 || got == 0 {
		t.Errorf("restart P99 is %v, was %v", got, p99)
	}
	verdict, _, err := again.Submit(t.Context(), agent, restartCart("cart-1"))
	if err != nil || verdict.Outcome != microkernel.Replayed {
		t.Errorf("the same plan again: %+v, %v; want replayed", verdict, err)
	}
	if len(m.faults) != 0 {
		t.Errorf("faults %v", m.faults)
	}
}

// replay compares the state that a journal comes to with a hash.
func replay(t *testing.T, cfg Config, want string) {
	t.Helper()
	log, err := cfg.Open()
	if err != nil {
		t.Fatal(err)
	}
	state, kinds := microkernel.New(cfg.Policy), []string(nil)
	err = log.Replay(func(e journal.Entry) error {
		state, _ = microkernel.Step(state, e.Event)
		kinds = append(kinds, nameOf(e.Event))
		return nil
	})
	if err != nil || kinds[0] != "Compacted" || slices.Contains(kinds[1:], "Compacted") {
		t.Errorf("replay: %v, events %v; want Compacted first, and once", err, kinds)
	}
	if microkernel.Hash(state) != want {
		t.Error("I6: replay does not yield the live state")
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
}
