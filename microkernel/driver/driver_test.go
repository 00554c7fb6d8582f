package driver

import (
	"errors"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/microkernel"
	"github.com/sluicemesh/sluice/microkernel/journal"
)

// led waits until the kernel has taken over.
func led(t *testing.T, k *Kernel) {
	t.Helper()
	synctest.Wait()
	if s := k.Status(); s.Recovering || s.Frozen != "" {
		t.Fatalf("Status = %+v, want a leader", s)
	}
}

func submit(t *testing.T, k *Kernel, p isa.Program) microkernel.Record {
	t.Helper()
	verdict, record, err := k.Submit(t.Context(), agent, p)
	if err != nil || verdict.Outcome != microkernel.Admit {
		t.Fatalf("Submit = %+v, %v; want admit", verdict, err)
	}
	return record
}

func TestARestartOfTheOnlyInstanceIsCommitted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, j := newMesh(), &journal.Memory{}
		k := start(t, configOf(m, j))
		led(t, k)
		submit(t, k, restartCart("cart-1"))
		r := ended(t, k, "cart-1")
		if r.Phase != microkernel.Committed || r.Harm.Label != microkernel.Clean {
			t.Errorf("phase %s (%s), harm %+v", r.Phase, r.Reason, r.Harm)
		}
		if n := m.starts[mesh.Ref{Service: cart, UID: "cart-uid", Incarnation: 1}]; n != 1 {
			t.Errorf("%d restarts, want 1", n)
		}
		if len(m.Installed()) != 0 || len(m.faults) != 0 {
			t.Errorf("overlays left: %v, faults: %v", m.Installed(), m.faults)
		}
		if p99 := k.history.p99(cart, 0); p99 < 2*time.Second || p99 > 3*time.Second {
			t.Errorf("restart P99 = %v, want about 2 s", p99)
		}
		if got := replayed(t, j); !reflect.DeepEqual(got.Records(), k.Records()) {
			t.Errorf("replay gives\n%+v\nlive is\n%+v", got.Records(), k.Records())
		}
		if j.Len() > 60 {
			t.Errorf("%d events journalled for one plan", j.Len())
		}
	})
}

func TestANackIsCompensated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh()
		m.nack = &Refused{Code: isa.CodeUnsupported, Reason: "bad route"}
		k := start(t, configOf(m, &journal.Memory{}))
		led(t, k)
		submit(t, k, restartCart("cart-1"))
		r := ended(t, k, "cart-1")
		if r.Phase != microkernel.Compensated || len(m.starts) != 0 || len(m.Installed()) != 0 {
			t.Errorf("phase %s (%s), starts %v, overlays %v", r.Phase, r.Reason, m.starts, m.Installed())
		}
	})
}

func TestWhatIsNotAckedOrNotEmptyInTimeIsCompensated(t *testing.T) {
	for name, prepare := range map[string]func(*fakeMesh){
		"a proxy never ACKs":  func(m *fakeMesh) { m.ackTime = -1 },
		"requests never end":  func(m *fakeMesh) { m.busy = true },
		"withdrawing is hard": func(m *fakeMesh) { m.busy, m.refuse = true, 3 },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMesh()
				prepare(m)
				k := start(t, configOf(m, &journal.Memory{}))
				led(t, k)
				submit(t, k, restartCart("cart-1"))
				r := ended(t, k, "cart-1")
				if r.Phase != microkernel.Compensated || len(m.starts) != 0 || len(m.Installed()) != 0 {
					t.Errorf("phase %s (%s), starts %v, overlays %v", r.Phase, r.Reason, m.starts, m.Installed())
				}
			})
		})
	}
}

func TestARestartThatNeverComesBackPagesAndGivesTrafficBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh()
		m.startup = -1
		cfg := configOf(m, &journal.Memory{})
		pager := &pages{}
		cfg.Pager = pager
		k := start(t, cfg)
		led(t, k)
		submit(t, k, restartCart("cart-1"))
		r := ended(t, k, "cart-1")
		synctest.Wait()
		if r.Phase == microkernel.Committed || len(m.Installed()) != 0 || len(pager.all) == 0 {
			t.Errorf("phase %s, overlays %v, pages %v", r.Phase, m.Installed(), pager.all)
		}
	})
}

func TestHarmIsUndone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh()
		cfg := configOf(m, &journal.Memory{})
		cfg.Monitor = calm{harmAfter: time.Second}
		k := start(t, cfg)
		led(t, k)
		submit(t, k, restartCart("cart-1"))
		r := ended(t, k, "cart-1")
		if r.Phase != microkernel.Compensated || r.Harm.Label != microkernel.Harm || len(m.Installed()) != 0 {
			t.Errorf("phase %s, harm %+v, overlays %v", r.Phase, r.Harm, m.Installed())
		}
	})
}

func TestEvaluateHasNoConsequences(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, j := newMesh(), &journal.Memory{}
		k := start(t, configOf(m, j))
		led(t, k)
		before := j.Len()
		verdict, expanded, err := k.Evaluate(agent, restartCart("cart-1"))
		if err != nil || verdict.Outcome != microkernel.Admit || len(expanded.Steps) != 3 {
			t.Errorf("Evaluate = %+v, %d steps, %v", verdict, len(expanded.Steps), err)
		}
		synctest.Wait()
		if _, found := k.Record("cart-1"); found || j.Len() != before || m.applied != 0 {
			t.Errorf("record %v, %d events, %d overlays", found, j.Len()-before, m.applied)
		}
	})
}

func TestAnOperatorAborts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh()
		k := start(t, configOf(m, &journal.Memory{}))
		led(t, k)
		submit(t, k, restartCart("cart-1"))
		<-time.After(500 * time.Millisecond)
		r, err := k.Abort(t.Context(), operator, "cart-1", "second thoughts")
		if err != nil || r.Phase != microkernel.Compensating {
			t.Fatalf("Abort = %s, %v", r.Phase, err)
		}
		if r = ended(t, k, "cart-1"); r.Phase != microkernel.Compensated {
			t.Errorf("phase %s", r.Phase)
		}
		if _, err := k.Abort(t.Context(), operator, "nobody", ""); err == nil {
			t.Error("a plan that is not there was aborted")
		}
	})
}

func TestPausedKernelsTakeNothingNew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := start(t, configOf(newMesh(), &journal.Memory{}))
		led(t, k)
		if err := k.Pause(t.Context(), operator, "", "maintenance"); err != nil || k.Status().Paused == "" {
			t.Fatalf("Pause: %v, %+v", err, k.Status())
		}
		verdict, _, err := k.Submit(t.Context(), agent, restartCart("cart-1"))
		if err != nil || verdict.Outcome == microkernel.Admit || verdict.Code != isa.CodePaused {
			t.Errorf("Submit = %+v, %v", verdict, err)
		}
		if err := k.Resume(t.Context(), operator, ""); err != nil || k.Status().Paused != "" {
			t.Errorf("Resume: %v, %+v", err, k.Status())
		}
		submit(t, k, restartCart("cart-2"))
		ended(t, k, "cart-2")
	})
}

func TestAFloodDoesNotGrowTheJournal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &journal.Memory{}
		k := start(t, configOf(newMesh(), j))
		led(t, k)
		throttled := 0
		for range 500 {
			p := restartCart("x")
			p.Steps = p.Steps[:1] // refused anyway: the drain is never restored
			p.ID = "flood-" + string(rune('a'+throttled%26))
			verdict, _, err := k.Submit(t.Context(), agent, p)
			if err != nil {
				t.Fatal(err)
			}
			if verdict.Outcome == microkernel.Throttle {
				throttled++
			}
		}
		if throttled < 400 || j.Len() > 60 {
			t.Errorf("%d of 500 throttled, %d events journalled", throttled, j.Len())
		}
	})
}

func TestInstantsNeverGoBackAcrossRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &journal.Memory{}
		future := microkernel.Instant(time.Now().Add(time.Hour).UnixNano())
		if _, err := j.Append(microkernel.Led{Stamp: microkernel.Stamp{At: future}, Term: 5}); err != nil {
			t.Fatal(err)
		}
		k := start(t, configOf(newMesh(), j))
		led(t, k)
		if term := k.Status().Term; term != 6 {
			t.Errorf("term %d, want 6", term)
		}
		submit(t, k, restartCart("cart-1"))
		ended(t, k, "cart-1")
		last := future
		_ = j.Replay(func(e journal.Entry) error {
			if e.Event.When() < last {
				t.Errorf("event %d at %d, before %d", e.Seq, e.Event.When(), last)
			}
			last = e.Event.When()
			return nil
		})
	})
}

func TestAProgramThatHasNoEncodingIsRefusedWithoutAFreeze(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := start(t, configOf(newMesh(), &journal.Memory{}))
		led(t, k)
		p := restartCart("cart-1")
		p.Epoch = "\xff"
		refused := (*Refused)(nil)
		if _, _, err := k.Submit(t.Context(), agent, p); !errors.As(err, &refused) || refused.Code != isa.CodeDecode {
			t.Errorf("Submit = %v, want decode", err)
		}
		p.Steps = make([]isa.Step, 10_000)
		if _, _, err := k.Submit(t.Context(), agent, p); !errors.As(err, &refused) || refused.Code != isa.CodeTooLarge {
			t.Errorf("Submit = %v, want too-large", err)
		}
		if k.Status().Frozen != "" {
			t.Error("the kernel froze")
		}
	})
}
