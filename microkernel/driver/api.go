package driver

import (
	"context"
	"crypto/sha256"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/microkernel"
)

// maxWritten is how many steps a program may have to be looked at at all; the checker's
// own limit is lower and has a better message.
const maxWritten = 4 * isa.MaxSteps

// Submit hands in a program and returns the kernel's verdict and the plan's record. A
// verdict other than admit is no error. Errors: *Refused when the kernel is frozen or the
// program cannot even be judged, or ctx's.
func (k *Kernel) Submit(
	ctx context.Context, by microkernel.Principal, p isa.Program,
) (microkernel.Verdict, microkernel.Record, error) {
	submitted, err := k.submission(by, p)
	if err != nil {
		return microkernel.Verdict{}, microkernel.Record{}, err
	}
	out, err := k.ask(ctx, func(at microkernel.Stamp) microkernel.Event {
		submitted.Stamp = at
		return submitted
	})
	if err != nil {
		return microkernel.Verdict{}, microkernel.Record{}, err
	}
	return judged(&out, submitted)
}

// maxUnread bounds the faults that are journalled of what could not be read.
const maxUnread = 16

// Refuse records that by handed in what is no program, and returns the verdict on that:
// the faults, or that it was too often. Errors are those of Submit.
func (k *Kernel) Refuse(
	ctx context.Context, by microkernel.Principal, source []byte, faults []isa.Fault,
) (microkernel.Verdict, error) {
	kept := slices.Clone(faults[:min(len(faults), maxUnread)])
	for i := range kept {
		kept[i].Path, kept[i].Reason, kept[i].Remedy = text(kept[i].Path), text(kept[i].Reason), text(kept[i].Remedy)
	}
	digest := fmt.Sprintf("%x", sha256.Sum256(source))
	out, err := k.ask(ctx, func(at microkernel.Stamp) microkernel.Event {
		return microkernel.Unread{Stamp: at, By: by, Digest: digest, Faults: kept}
	})
	if err != nil {
		return microkernel.Verdict{}, err
	}
	verdict, _ := out.answer("")
	return verdict, nil
}

// Evaluate is Submit without consequences: the verdict that p would get now, and its
// expanded program. Nothing is journalled, counted or begun.
func (k *Kernel) Evaluate(by microkernel.Principal, p isa.Program) (microkernel.Verdict, isa.Program, error) {
	if k.halted.Load() != nil {
		return microkernel.Verdict{}, isa.Program{}, k.frozen()
	}
	submitted, err := k.submission(by, p)
	if err != nil {
		return microkernel.Verdict{}, isa.Program{}, err
	}
	submitted.Stamp = microkernel.Stamp{At: microkernel.Instant(k.cfg.Now().UnixNano())}
	state, effects := microkernel.Step(k.snapshot(), submitted)
	verdict, record, err := judged(&outcome{state: state, effects: effects}, submitted)
	return verdict, record.Expanded, err
}

// submission gathers the facts for a verdict on p.
func (k *Kernel) submission(by microkernel.Principal, p isa.Program) (microkernel.Submitted, error) {
	if k.halted.Load() != nil {
		return microkernel.Submitted{}, k.frozen()
	}
	if len(p.Steps) > maxWritten || len(p.Verify) > maxWritten {
		reason := fmt.Sprintf("%d steps, at most %d are allowed", max(len(p.Steps), len(p.Verify)), isa.MaxSteps)
		return microkernel.Submitted{}, &Refused{Code: isa.CodeTooLarge, Reason: reason}
	}
	return microkernel.Submitted{By: by, Program: p, View: k.views.of(p)}, nil
}

// judged returns the answer to a submission, and its record.
func judged(out *outcome, s microkernel.Submitted) (microkernel.Verdict, microkernel.Record, error) {
	id := microkernel.PlanID(s.Program.ID)
	verdict, answered := out.answer(id)
	if !answered {
		return verdict, microkernel.Record{}, fmt.Errorf("the kernel gave no verdict on plan %q", id)
	}
	record, found := out.state.Record(id)
	if !found { // refused without a trace
		record = microkernel.Record{
			ID: id, Proposer: s.By, Written: s.Program, View: s.View, Verdict: verdict,
			Phase: microkernel.Refused, Reason: string(verdict.Code),
		}
	}
	return verdict, record, nil
}

// Approve lets a held plan go on, and returns the verdict on that.
func (k *Kernel) Approve(
	ctx context.Context, by microkernel.Principal, plan microkernel.PlanID,
) (microkernel.Verdict, microkernel.Record, error) {
	record, found := k.Record(plan)
	if !found {
		return microkernel.Verdict{}, record, unknownPlan(plan)
	}
	view := k.views.of(record.Written)
	out, err := k.ask(ctx, func(at microkernel.Stamp) microkernel.Event {
		return microkernel.Approved{Stamp: at, Plan: plan, By: by, View: view}
	})
	if err != nil {
		return microkernel.Verdict{}, record, err
	}
	record, _ = out.state.Record(plan)
	if verdict, answered := out.answer(plan); answered {
		return verdict, record, nil
	}
	return record.Verdict, record, nil
}

func unknownPlan(plan microkernel.PlanID) error {
	return &Refused{Code: isa.CodeUnknownTarget, Reason: fmt.Sprintf("no plan %q", plan)}
}

// Abort stops a plan, whose effects are then undone, and returns its record. Whether by
// may do so is the kernel's to say: a record that did not change says no.
func (k *Kernel) Abort(
	ctx context.Context, by microkernel.Principal, plan microkernel.PlanID, reason string,
) (microkernel.Record, error) {
	if record, found := k.Record(plan); !found {
		return record, unknownPlan(plan)
	}
	out, err := k.ask(ctx, func(at microkernel.Stamp) microkernel.Event {
		return microkernel.Aborted{Stamp: at, Plan: plan, By: by, Reason: text(reason)}
	})
	if err != nil {
		return microkernel.Record{}, err
	}
	record, _ := out.state.Record(plan)
	return record, nil
}

// Pause stops every new effect of a plan ("" = of all plans) but restoring.
func (k *Kernel) Pause(
	ctx context.Context, by microkernel.Principal, plan microkernel.PlanID, reason string,
) error {
	_, err := k.ask(ctx, func(at microkernel.Stamp) microkernel.Event {
		return microkernel.Paused{Stamp: at, Plan: plan, By: by, Reason: text(reason)}
	})
	return err
}

// Resume ends a pause; an admin's also clears a freeze of the kernel's own (one of the
// driver, without a journal, ends with the process only).
func (k *Kernel) Resume(ctx context.Context, by microkernel.Principal, plan microkernel.PlanID) error {
	_, err := k.ask(ctx, func(at microkernel.Stamp) microkernel.Event {
		return microkernel.Resumed{Stamp: at, Plan: plan, By: by}
	})
	return err
}

// Record returns what is known of a plan.
func (k *Kernel) Record(id microkernel.PlanID) (microkernel.Record, bool) {
	return k.snapshot().Record(id)
}

// Records returns the records of all plans that are remembered, newest first.
func (k *Kernel) Records() []microkernel.Record { return k.snapshot().Records() }

// Status is the kernel at a glance.
type Status struct {
	Mode       microkernel.Mode
	Term       uint64
	Recovering bool   // a new term still takes over what the last one left
	Paused     string // why, "" = not
	Frozen     string // why, "" = not
	Full       bool   // the journal's disk has no room
	Open       int    // plans that are not final
	Started    time.Time
}

// Status returns the kernel's state at a glance.
func (k *Kernel) Status() Status {
	s := k.snapshot()
	status := Status{
		Mode: s.Policy().Mode, Term: s.Term(), Recovering: s.Recovering(), Paused: s.Paused(), Frozen: s.Frozen(),
		Full: k.full.Load(), Open: s.Open(), Started: k.started,
	}
	if halted := k.halted.Load(); halted != nil {
		status.Frozen = *halted
	}
	return status
}

// Overlays returns the overlays that the kernel believes in force, sorted by key.
func (k *Kernel) Overlays() []mesh.Overlay { return k.snapshot().Overlays() }

// Watch sends the record of a plan as it is, and again when it has changed; a reader that
// is slow gets the latest only. The channel is closed after the record of a final phase,
// by cancel, and when the kernel ends. A plan that is not known yet is waited for.
func (k *Kernel) Watch(id microkernel.PlanID) (records <-chan microkernel.Record, cancel func()) {
	return k.watches.add(id, k.snapshot())
}

// watches are the channels of Watch. Its lock is held for no longer than a copy.
type watches struct {
	mu     sync.Mutex
	closed bool
	all    map[*subscription]struct{}
}

type subscription struct {
	id   microkernel.PlanID
	last microkernel.Record
	c    chan microkernel.Record // holds one
}

func newWatches() *watches { return &watches{all: map[*subscription]struct{}{}} }

func (w *watches) add(id microkernel.PlanID, s microkernel.State) (<-chan microkernel.Record, func()) {
	sub := &subscription{id: id, c: make(chan microkernel.Record, 1)}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all[sub] = struct{}{}
	if w.closed {
		w.remove(sub)
	} else {
		w.update(sub, s)
	}
	return sub.c, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.remove(sub)
	}
}

// publish sends what has changed.
func (w *watches) publish(s microkernel.State) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for sub := range w.all {
		w.update(sub, s)
	}
}

func (w *watches) update(sub *subscription, s microkernel.State) {
	record, found := s.Record(sub.id)
	if !found || reflect.DeepEqual(record, sub.last) {
		return
	}
	sub.last = record
	select {
	case <-sub.c: // the reader was slow: the latest counts
	default:
	}
	sub.c <- record
	if record.Phase.Final() {
		w.remove(sub)
	}
}

func (w *watches) remove(sub *subscription) {
	if _, there := w.all[sub]; there {
		delete(w.all, sub)
		close(sub.c)
	}
}

func (w *watches) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	for sub := range w.all {
		w.remove(sub)
	}
}
