package sim

import (
	"slices"
	"time"

	"github.com/sluicemesh/sluice/microkernel"
)

// disk is the journal. What is appended is lost in a crash until it is synced.
type disk struct {
	policy microkernel.Policy
	synced []microkernel.Event // since the last compaction, which comes first
	whole  []microkernel.Event // all, as if there had been no compaction
	base   microkernel.State   // as the last recovery replayed it ...
	since  int                 // ... from this many events
}

// recover rebuilds the state from what survived. It starts from the state that the
// recovery before it arrived at, which was rebuilt from all that was there before.
func (d *disk) recover() microkernel.State {
	for _, ev := range d.synced[d.since:] {
		d.base, _ = microkernel.Step(d.base, ev)
	}
	d.since = len(d.synced)
	return d.base
}

// replay rebuilds the state from the whole journal, from nothing.
func (d *disk) replay() microkernel.State {
	s := microkernel.New(d.policy)
	for _, ev := range d.synced {
		s, _ = microkernel.Step(s, ev)
	}
	return s
}

// last is the latest instant in the journal.
func (d *disk) last() microkernel.Instant {
	at := microkernel.Instant(0)
	for _, ev := range d.synced {
		at = max(at, ev.When())
	}
	return at
}

// append writes an event and syncs it.
func (d *disk) append(ev microkernel.Event) {
	d.synced, d.whole = append(d.synced, ev), append(d.whole, ev)
}

// compact begins the journal anew with what it came to.
func (d *disk) compact(ev microkernel.Compacted) {
	d.synced = []microkernel.Event{ev}
	d.base, d.since = microkernel.New(d.policy), 0
}

// cut loses the last n events, but for a compaction: a copy from before it is no copy of
// this journal. It returns how many were lost.
func (d *disk) cut(n int) int {
	first := 0
	if len(d.synced) > 0 {
		if _, compacted := d.synced[0].(microkernel.Compacted); compacted {
			first = 1
		}
	}
	n = min(n, len(d.synced)-first)
	keep, all := len(d.synced)-n, len(d.whole)-n
	d.synced, d.whole = d.synced[:keep:keep], d.whole[:all:all]
	d.base, d.since = microkernel.New(d.policy), 0
	return n
}

// damage breaks the journal at a crash, now and then, and returns how long nothing
// runs because of it: a journal that cannot be read to its end starts no kernel, and a
// person brings a copy back: an intact one, or one that is older than the world.
func (r *run) damage() time.Duration {
	if !r.chance(12) {
		return 0
	}
	r.counts.Faults["corrupt-journal"]++
	down := time.Duration(5+r.rng.IntN(150)) * time.Second
	if r.rng.IntN(2) == 0 {
		return down
	}
	r.counts.Faults["older-copy"]++
	r.regressed = true
	lost := r.disk.cut(1 + r.rng.IntN(40))
	r.state = r.disk.recover()
	r.trace("OLDER COPY of %d events, %d are lost", len(r.disk.synced), lost)
	r.world.regress(&r.state)
	for _, rec := range r.state.OpenRecords() {
		r.behind[rec.ID] = true
	}
	return down
}

// regress marks what only the lost part of the journal knew.
func (w *world) regress(s *microkernel.State) {
	for _, in := range w.overlays {
		in.unknown = true
	}
	w.forget(s)
}

// forget drops what was done for steps that the journal does not know to be begun: the
// lost part ordered it.
func (w *world) forget(s *microkernel.State) {
	for id := range w.done {
		rec, _ := s.Record(id.plan)
		if !slices.ContainsFunc(rec.Steps, func(r microkernel.StepRecord) bool { return r.Step.ID == id.step && r.Old.UID != "" }) {
			delete(w.done, id)
		}
	}
	for id := range w.former {
		rec, _ := s.Record(id.plan)
		if !slices.ContainsFunc(rec.Steps, func(r microkernel.StepRecord) bool { return r.Step.ID == id.step && r.Started != 0 }) {
			delete(w.former, id)
		}
	}
	for id := range w.formers {
		rec, _ := s.Record(id.plan)
		if !slices.ContainsFunc(rec.Steps, func(r microkernel.StepRecord) bool { return r.Step.ID == id.step && r.Started != 0 }) {
			delete(w.formers, id)
		}
	}
}
