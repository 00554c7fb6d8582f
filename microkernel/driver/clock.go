package driver

import (
	"time"

	"github.com/sluicemesh/sluice/microkernel"
)

// clock gives instants that never decrease: not when the wall clock is set back, since
// they follow the monotonic reading in now's times, and not across restarts, since
// they begin no earlier than the last journalled one.
type clock struct {
	now   func() time.Time
	start time.Time
	base  microkernel.Instant // at start
	last  microkernel.Instant
}

// notBefore moves the clock to t if it is behind it.
func (c *clock) notBefore(t microkernel.Instant) {
	if t > c.base {
		c.base = t
	}
}

// instant returns the present instant.
func (c *clock) instant() microkernel.Instant {
	c.last = max(c.last, c.base.Add(max(0, c.now().Sub(c.start))))
	return c.last
}

// timer is a timer of the kernel that has not fired.
type timer struct{ stop func() bool }

// setTimer sets the timer anew.
func (k *Kernel) setTimer(id microkernel.TimerID, after time.Duration) {
	k.stopTimer(id)
	t := &timer{}
	k.timers[id] = t
	k.work.Add(1) // given back when the timer fired or was stopped
	t.stop = k.cfg.After(max(0, after), func() {
		defer k.work.Done()
		k.send(k.ctx, request{
			event: func(at microkernel.Stamp) microkernel.Event { return microkernel.Fired{Stamp: at, Timer: id} },
			stale: func() bool {
				if k.timers[id] != t {
					return true // stopped or set anew after it had fired
				}
				delete(k.timers, id)
				return false
			},
		})
	})
}

// stopTimer forgets the timer.
func (k *Kernel) stopTimer(id microkernel.TimerID) {
	t := k.timers[id]
	if t == nil {
		return
	}
	delete(k.timers, id)
	if t.stop() {
		k.work.Done()
	}
}

// stopTimers stops every timer, at the end of the loop.
func (k *Kernel) stopTimers() {
	for id := range k.timers {
		k.stopTimer(id)
	}
}
