package main

import (
	"container/heap"
	"fmt"
	"time"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/microkernel"
)

// What the world of a clockwork takes for its answers.
const (
	viewTakes  = 2 * time.Millisecond
	ackTakes   = 5 * time.Millisecond
	proofTakes = 100 * time.Millisecond // the last request ends, and settle
)

// clockwork is a kernel in a world without faults, on a clock that jumps to what happens
// next.
type clockwork struct {
	groups      []group
	group       map[microkernel.PlanID]int
	incarnation map[mesh.UID]uint64
	state       microkernel.State
	now         microkernel.Instant
	queue       happenings
	order       int
	timers      map[microkernel.TimerID]int // the order of the one that counts
	left        int                         // plans that have not ended
	failed      error
}

// happening is an event that the kernel will be told.
type happening struct {
	at    microkernel.Instant
	order int
	event func(microkernel.Stamp) microkernel.Event
}

type happenings []happening

// Len implements heap.Interface.
func (h happenings) Len() int { return len(h) }

// Less implements heap.Interface.
func (h happenings) Less(i, k int) bool {
	return h[i].at < h[k].at || h[i].at == h[k].at && h[i].order < h[k].order
}

// Swap implements heap.Interface.
func (h happenings) Swap(i, k int) { h[i], h[k] = h[k], h[i] }

// Push implements heap.Interface.
func (h *happenings) Push(x any) { *h = append(*h, x.(happening)) }

// Pop implements heap.Interface.
func (h *happenings) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}

func newClockwork(groups []group) *clockwork {
	return &clockwork{
		groups: groups, group: map[microkernel.PlanID]int{}, incarnation: map[mesh.UID]uint64{}, state: leading(),
		now: microkernel.Instant(2 * time.Hour), timers: map[microkernel.TimerID]int{},
	}
}

// play proposes a plan for each of the groups at once and returns when the last of them
// was committed.
func (c *clockwork) play(groups []int) (time.Duration, error) {
	started := c.now
	c.left = len(groups)
	for n, i := range groups {
		id := fmt.Sprintf("plan-%d", n)
		program, err := c.groups[i].program(id)
		if err != nil {
			return 0, err
		}
		c.group[microkernel.PlanID(id)] = i
		by := microkernel.Principal{Name: "ann", Role: microkernel.Approver}
		c.after(0, func(at microkernel.Stamp) microkernel.Event {
			return microkernel.Submitted{Stamp: at, By: by, Program: program, View: c.groups[i].view(c.incarnation)}
		})
	}
	for c.left > 0 && c.failed == nil {
		if len(c.queue) == 0 {
			return 0, fmt.Errorf("%d plans wait for ever", c.left)
		}
		next := heap.Pop(&c.queue).(happening)
		c.now = next.at
		ev := next.event(microkernel.Stamp{At: c.now})
		if fired, ok := ev.(microkernel.Fired); ok && c.timers[fired.Timer] != next.order {
			continue
		}
		c.step(ev)
	}
	return c.now.Sub(started), c.failed
}

// step tells the kernel and does what it orders.
func (c *clockwork) step(ev microkernel.Event) {
	var effects []microkernel.Effect
	c.state, effects = microkernel.Step(c.state, ev)
	if why := microkernel.Check(c.state); why != "" {
		c.failed = fmt.Errorf("after %T: %s", ev, why)
	}
	for _, e := range effects {
		c.perform(e)
	}
}

func (c *clockwork) after(wait time.Duration, event func(microkernel.Stamp) microkernel.Event) int {
	c.order++
	heap.Push(&c.queue, happening{c.now.Add(wait), c.order, event})
	return c.order
}

func (c *clockwork) perform(e microkernel.Effect) {
	type stamp = microkernel.Stamp
	switch e := e.(type) {
	case microkernel.Recheck:
		c.after(viewTakes, func(at stamp) microkernel.Event {
			return microkernel.Viewed{Stamp: at, Plan: e.Plan, Look: e.Look, View: c.groups[c.group[e.Plan]].view(c.incarnation)}
		})
	case microkernel.Apply:
		c.after(ackTakes, func(at stamp) microkernel.Event {
			return microkernel.Applied{Stamp: at, Plan: e.Plan, Step: e.Step,
				Generation: microkernel.Generation(e.Overlay.Generation), Acks: mesh.Acks{Required: 1, Acked: 1}}
		})
	case microkernel.Prove:
		c.after(proofTakes, func(at stamp) microkernel.Event {
			return microkernel.Proved{Stamp: at, Plan: e.Plan, Step: e.Step, Proof: mesh.Proof{
				Key: e.Key, Generation: uint64(e.Generation), Required: 1, Acked: 1, Reported: 1, Quiet: proofTakes,
			}}
		})
	case microkernel.Reboot:
		c.after(c.starts(e.Ref.Service), func(at stamp) microkernel.Event {
			c.incarnation[e.Ref.UID]++
			next := e.Ref
			next.Incarnation++
			return microkernel.Restarted{Stamp: at, Plan: e.Plan, Step: e.Step, Old: e.Ref, New: next}
		})
	case microkernel.Withdraw:
		c.after(ackTakes+e.Ramp, func(at stamp) microkernel.Event {
			return microkernel.Withdrawn{Stamp: at, Plan: e.Plan, Step: e.Step, Generation: e.Generation}
		})
	default:
		c.performOther(e)
	}
}

func (c *clockwork) performOther(e microkernel.Effect) {
	type stamp = microkernel.Stamp
	switch e := e.(type) {
	case microkernel.Watch:
		if e.For > 0 {
			c.after(e.For, func(at stamp) microkernel.Event {
				return microkernel.Judged{Stamp: at, Plan: e.Plan, Verdict: microkernel.HarmVerdict{Label: microkernel.Clean}}
			})
		}
	case microkernel.SetTimer:
		c.timers[e.Timer] = c.after(e.After, func(at stamp) microkernel.Event {
			return microkernel.Fired{Stamp: at, Timer: e.Timer}
		})
	case microkernel.StopTimer:
		delete(c.timers, e.Timer)
	case microkernel.Finish:
		c.left--
		if e.Phase != microkernel.Committed {
			record, _ := c.state.Record(e.Plan)
			c.failed = fmt.Errorf("plan %s is %s: %s", e.Plan, e.Phase, record.Reason)
		}
	}
}

func (c *clockwork) starts(service mesh.Service) time.Duration {
	for i := range c.groups {
		for k, name := range [2]mesh.Service{c.groups[i].callee, c.groups[i].caller} {
			if name == service {
				return c.groups[i].starts[k]
			}
		}
	}
	return 0
}
