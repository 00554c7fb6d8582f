package driver

import (
	"errors"

	"github.com/sluicemesh/sluice/microkernel"
	"github.com/sluicemesh/sluice/microkernel/journal"
)

// Bounds of the journal's growth.
const (
	compactAfter = 64 << 20 // bytes, without a plan that would have to wait
	compactBusy  = 4        // times as much: with one
)

// compact begins the journal anew when it has grown enough. It takes as long as it takes to
// write the state, so it waits for a moment in which no plan is open, if that comes in time.
func (k *Kernel) compact() {
	log, able := k.journal.(Compactor)
	if !able || k.halted.Load() != nil {
		return
	}
	state, size := k.snapshot(), log.Size()
	if size < max(k.cfg.CompactAfter, k.grown) || state.Open() > 0 && size < compactBusy*max(k.cfg.CompactAfter, k.grown) {
		return
	}
	ev := microkernel.Compacted{Stamp: microkernel.Stamp{At: k.clock.instant()}, State: state.Compact()}
	_, err := log.Compact(ev)
	full, encoding, broken := (*journal.FullError)(nil), (*journal.EncodeError)(nil), (*journal.SyncError)(nil)
	switch {
	case errors.As(err, &broken):
		k.freeze(err)
		return
	case errors.As(err, &full), errors.As(err, &encoding):
		k.grown = size + k.cfg.CompactAfter // not again at once
		k.cfg.Log.Error("journal not compacted", "bytes", size, "error", err)
		return
	case err != nil:
		k.cfg.Log.Error("old journal not put away", "error", err)
	}
	k.grown = 2 * log.Size()
	next, _ := microkernel.Step(state, ev) // has no effect
	k.adopt(next)
	k.history.note(ev, nil)
	k.cfg.Log.Info("journal compacted", "bytes", size, "left", log.Size())
}
