package driver

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/microkernel"
	"github.com/sluicemesh/sluice/microkernel/journal"
)

// mortal is a journal whose process dies at its append numbered at: before the event is
// durable, or after that and before any of its effects.
type mortal struct {
	*journal.Memory
	at      int
	durable bool
	dead    chan struct{} // closed at the moment of death
	buried  chan struct{} // closed when nothing of the process is left to be served
}

func (m *mortal) Append(events ...microkernel.Event) (journal.Seq, error) {
	m.at--
	if m.at > 0 {
		return m.Memory.Append(events...)
	}
	if m.at == 0 {
		if m.durable {
			if _, err := m.Memory.Append(events...); err != nil {
				return 0, err
			}
		}
		close(m.dead)
	}
	<-m.buried
	return 0, errors.New("dead")
}

// live runs a kernel on j until it dies at the append numbered at, or until the plan has
// ended; it reports whether it died. A first life submits the plan.
func live(t *testing.T, m *fakeMesh, j *journal.Memory, at int, durable, first bool) bool {
	t.Helper()
	grave := &mortal{Memory: j, at: at, durable: durable, dead: make(chan struct{}), buried: make(chan struct{})}
	ctx, kill := context.WithCancel(t.Context())
	defer kill()
	done := make(chan bool)
	go func() {
		k, err := Start(ctx, configOf(m, grave))
		if err != nil {
			done <- true
			return
		}
		drive(ctx, k, first)
		if err := k.Close(); err != nil {
			t.Error(err)
		}
		done <- ctx.Err() != nil
	}()
	select {
	case <-grave.dead:
		kill()
		close(grave.buried)
		<-done
		return true
	case died := <-done:
		return died
	}
}

// drive submits the plan if it is the first life, and waits for its end.
func drive(ctx context.Context, k *Kernel, first bool) {
	for first {
		verdict, _, err := k.Submit(ctx, agent, restartCart("cart-1"))
		if err != nil {
			return
		}
		if verdict.Outcome == microkernel.Admit || verdict.Outcome == microkernel.Replayed {
			break
		}
		if wait(ctx, 100*time.Millisecond) != nil { // the kernel is still taking over
			return
		}
	}
	if _, found := k.Record("cart-1"); !found {
		_ = wait(ctx, time.Minute) // for strays to be taken away
		return
	}
	records, cancel := k.Watch("cart-1")
	defer cancel()
	timeout := time.After(time.Hour)
	for {
		select {
		case r, open := <-records:
			if !open || r.Phase.Final() {
				return
			}
		case <-ctx.Done():
			return
		case <-timeout:
			return
		}
	}
}

// whole checks that the plan was finished or undone, once, and that traffic is whole.
func whole(t *testing.T, m *fakeMesh, j *journal.Memory) microkernel.Phase {
	t.Helper()
	if len(m.Installed()) != 0 {
		t.Errorf("overlays left: %+v", m.Installed())
	}
	if len(m.faults) != 0 {
		t.Errorf("faults: %v", m.faults)
	}
	starts := m.starts[mesh.Ref{Service: cart, UID: "cart-uid", Incarnation: 1}]
	if len(m.starts) > 1 || starts > 1 {
		t.Errorf("restarts: %v, want one at most", m.starts)
	}
	if _, in := m.World().Instance("cart-uid"); in.State != mesh.Ready {
		t.Errorf("the instance is %s", in.State)
	}
	record, found := replayed(t, j).Record("cart-1")
	switch {
	case !found:
		if starts != 0 {
			t.Error("a plan that nobody knows has restarted something")
		}
	case record.Phase == microkernel.Committed:
		if starts != 1 {
			t.Errorf("committed after %d restarts", starts)
		}
	case record.Phase != microkernel.Compensated && record.Phase != microkernel.Refused:
		t.Errorf("plan ended as %s: %s; %s", record.Phase, record.Reason, record.Waiting)
	}
	return record.Phase
}

// eventsWithoutCrash returns how many events the plan takes without a crash.
func eventsWithoutCrash(t *testing.T) int {
	t.Helper()
	n := 0
	synctest.Test(t, func(t *testing.T) {
		m, j := newMesh(), &journal.Memory{}
		live(t, m, j, 1<<30, false, true)
		if phase := whole(t, m, j); phase != microkernel.Committed {
			t.Fatalf("without a crash the plan is %s", phase)
		}
		n = j.Len()
	})
	return n
}

func TestACrashBetweenAnyTwoEventsEndsWithThePlanFinishedOrUndone(t *testing.T) {
	total := eventsWithoutCrash(t)
	phases := map[microkernel.Phase]int{}
	for at := 1; at <= total+1; at++ {
		for _, durable := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				m, j := newMesh(), &journal.Memory{}
				live(t, m, j, at, durable, true)
				live(t, m, j, 1<<30, false, false)
				phases[whole(t, m, j)]++
				if t.Failed() {
					t.Fatalf("after a crash at event %d of %d, durable %v", at, total, durable)
				}
			})
		}
	}
	t.Logf("%d events, phases after one crash: %v", total, phases)
	if phases[microkernel.Committed] == 0 || phases[microkernel.Compensated] == 0 {
		t.Errorf("phases %v: both finished and undone plans were expected", phases)
	}
}

func TestACrashDuringRecoveryIsNoWorse(t *testing.T) {
	total := eventsWithoutCrash(t)
	for at := 1; at <= total; at++ {
		for again := 1; again <= 12; again += 1 + at%2 {
			synctest.Test(t, func(t *testing.T) {
				m, j := newMesh(), &journal.Memory{}
				live(t, m, j, at, at%3 == 0, true)
				live(t, m, j, again, again%2 == 0, false)
				live(t, m, j, 1<<30, false, false)
				whole(t, m, j)
				if t.Failed() {
					t.Fatalf("after crashes at event %d and at event %d of the recovery", at, again)
				}
			})
		}
	}
}

func TestAKillAtAnyMomentEndsWithThePlanFinishedOrUndone(t *testing.T) {
	phases := map[microkernel.Phase]int{}
	for after := 5 * time.Millisecond; after < 8*time.Second; after += 70 * time.Millisecond {
		synctest.Test(t, func(t *testing.T) {
			m, j := newMesh(), &journal.Memory{}
			ctx, kill := context.WithTimeout(t.Context(), after)
			defer kill()
			k, err := Start(ctx, configOf(m, j))
			if err != nil {
				t.Fatal(err)
			}
			drive(ctx, k, true)
			<-ctx.Done()
			_ = k.Close()
			live(t, m, j, 1<<30, false, false)
			phases[whole(t, m, j)]++
			if t.Failed() {
				t.Fatalf("after a kill at %v", after)
			}
		})
	}
	t.Logf("phases after a kill: %v", phases)
}

// failing is a journal that fails from its append numbered at on.
type failing struct {
	*journal.Memory
	at       int
	err      error
	reserved bool // AppendReserved still works
}

func (f *failing) Append(events ...microkernel.Event) (journal.Seq, error) {
	if f.at--; f.at <= 0 {
		return 0, f.err
	}
	return f.Memory.Append(events...)
}

func (f *failing) AppendReserved(events ...microkernel.Event) (journal.Seq, error) {
	if f.reserved {
		return f.Memory.Append(events...)
	}
	return 0, f.err
}

func refusedFrozen(t *testing.T, k *Kernel) {
	t.Helper()
	_, _, err := k.Submit(t.Context(), agent, restartCart("later"))
	refused := (*Refused)(nil)
	if !errors.As(err, &refused) || refused.Code != isa.CodeFrozen {
		t.Errorf("Submit = %v, want frozen", err)
	}
}

func TestAJournalThatFailsFreezesTheKernelAndGivesTrafficBack(t *testing.T) {
	total := eventsWithoutCrash(t)
	for at := 4; at < total; at++ {
		synctest.Test(t, func(t *testing.T) {
			m := newMesh()
			j := &failing{Memory: &journal.Memory{}, at: at, err: &journal.SyncError{Err: syscall.EIO}}
			cfg := configOf(m, j)
			pager := &pages{}
			cfg.Pager = pager
			k := start(t, cfg)
			led(t, k)
			submit(t, k, restartCart("cart-1"))
			<-time.After(10 * time.Minute)
			synctest.Wait()
			if k.Status().Frozen == "" || len(pager.all) == 0 {
				t.Errorf("status %+v, pages %v", k.Status(), pager.all)
			}
			if len(m.Installed()) != 0 || len(m.faults) != 0 {
				t.Errorf("overlays %v, faults %v", m.Installed(), m.faults)
			}
			refusedFrozen(t, k)
			if _, _, err := k.Evaluate(agent, restartCart("later")); err == nil {
				t.Error("a frozen kernel evaluates")
			}
			if t.Failed() {
				t.Fatalf("journal failed at event %d of %d", at, total)
			}
		})
	}
}

func TestAFullDiskRefusesNewPlansAndUndoesWhatRuns(t *testing.T) {
	total := eventsWithoutCrash(t)
	full := &journal.FullError{Err: syscall.ENOSPC}
	for at := 4; at < total; at++ {
		synctest.Test(t, func(t *testing.T) {
			m, mem := newMesh(), &journal.Memory{}
			j := &failing{Memory: mem, at: at, err: full, reserved: true}
			k := start(t, configOf(m, j))
			led(t, k)
			submit(t, k, restartCart("cart-1"))
			r := ended(t, k, "cart-1")
			if r.Phase != microkernel.Compensated && r.Phase != microkernel.Refused && r.Phase != microkernel.Committed {
				t.Errorf("phase %s: %s", r.Phase, r.Reason)
			}
			refusedFrozen(t, k)
			if len(m.Installed()) != 0 || len(m.faults) != 0 || !k.Status().Full || k.Status().Frozen != "" {
				t.Errorf("overlays %v, faults %v, status %+v", m.Installed(), m.faults, k.Status())
			}
			j.at = 1 << 30 // somebody made room
			submit(t, k, restartCart("cart-2"))
			if r := ended(t, k, "cart-2"); r.Phase != microkernel.Committed || k.Status().Full {
				t.Errorf("after room was made: phase %s (%s), status %+v", r.Phase, r.Reason, k.Status())
			}
			if got := replayed(t, mem); !reflect.DeepEqual(got.Records(), k.Records()) {
				t.Error("replay differs from the live state")
			}
			if t.Failed() {
				t.Fatalf("disk full at event %d of %d", at, total)
			}
		})
	}
}

func TestAFullDiskKeepsItsReserveForWhatRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh()
		j := &failing{Memory: &journal.Memory{}, at: 1 << 30, err: &journal.FullError{Err: syscall.ENOSPC}, reserved: true}
		k := start(t, configOf(m, j))
		led(t, k)
		held := restartCart("held")
		drain := held.Steps[0].Action.(isa.Drain)
		drain.Lease = 10 * time.Minute // needs approval
		held.Steps[0].Action = drain
		if verdict, _, err := k.Submit(t.Context(), agent, held); err != nil || verdict.Outcome != microkernel.Hold {
			t.Fatalf("verdict %v: %v", verdict, err)
		}
		submit(t, k, restartCart("cart-1"))
		j.at = 0
		if r := ended(t, k, "cart-1"); r.Phase == microkernel.Committed {
			t.Errorf("the running plan is %s", r.Phase)
		}
		if r, _ := k.Record("held"); r.Phase != microkernel.Held {
			t.Errorf("the held plan is %s: %s", r.Phase, r.Reason)
		}
	})
}

func TestADamagedJournalOnlyTakesOverlaysAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh()
		m.refuse = 2
		key := mesh.OverlayKey{Kind: mesh.OverlayDrain, Callee: cart}
		m.overlays[key] = mesh.Overlay{Key: key, Generation: 9}
		cfg := configOf(m, nil)
		cfg.Open = func() (Journal, error) { return nil, &journal.CorruptError{Reason: "a bit flipped"} }
		k := start(t, cfg)
		<-time.After(time.Minute)
		if !strings.Contains(k.Status().Frozen, "a bit flipped") || len(m.Installed()) != 0 {
			t.Errorf("status %+v, overlays %v", k.Status(), m.Installed())
		}
		refusedFrozen(t, k)
	})
}

func TestAJournalInUseIsAnError(t *testing.T) {
	cfg := configOf(newMesh(), nil)
	cfg.Open = func() (Journal, error) { return nil, journal.ErrLocked }
	if _, err := Start(t.Context(), cfg); !errors.Is(err, journal.ErrLocked) {
		t.Errorf("Start: %v, want ErrLocked", err)
	}
}
