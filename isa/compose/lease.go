package compose

import (
	"cmp"
	"time"

	"github.com/sluicemesh/sluice/isa"
)

// lease gives every drain a lease that covers the deadlines from its own start to its
// restore. Where that would be more than a lease may be, the drains get shorter
// deadlines; a nest that is too long even then keeps the greatest lease and is left to
// the checker to refuse.
func (n *nest) lease() {
	var drains, rest time.Duration
	count := 0
	for _, step := range n.steps {
		if drain, ok := step.Action.(isa.Drain); ok {
			count++
			drains += cmp.Or(drain.Deadline, isa.DefaultDrainDeadline)
			continue
		}
		rest += stepDeadline(step.Action)
	}
	each := time.Duration(0)
	if drains+rest > maxLease && count > 0 {
		each = max(leastDeadline, ((maxLease - rest) / time.Duration(count)).Truncate(time.Second))
	}
	for i := range n.steps {
		if drain, ok := n.steps[i].Action.(isa.Drain); ok {
			drain.Deadline = each
			n.steps[i].Action = drain
		}
	}
	for i := range n.steps {
		if drain, ok := n.steps[i].Action.(isa.Drain); ok {
			drain.Lease = roundUp(n.until(i), 10*time.Second)
			n.steps[i].Action = drain
		}
	}
}

// until sums the deadlines from step i to the restore of its drain.
func (n *nest) until(i int) time.Duration {
	var sum time.Duration
	for _, step := range n.steps[i:] {
		if restore, ok := step.Action.(isa.RestoreTraffic); ok && restore.Drain == n.steps[i].ID {
			break
		}
		sum += stepDeadline(step.Action)
	}
	return sum
}

func stepDeadline(action isa.Action) time.Duration {
	switch action := action.(type) {
	case isa.Drain:
		return cmp.Or(action.Deadline, isa.DefaultDrainDeadline)
	case isa.Restart:
		return cmp.Or(action.Deadline, isa.DefaultRestartDeadline)
	case isa.RestoreTraffic:
		return action.Ramp
	}
	return 0
}

func roundUp(d, unit time.Duration) time.Duration {
	return min(maxLease, max(isa.DefaultLease, (d+unit-1)/unit*unit))
}

// deadline returns 0 (the default) while every step fits into it, else what they need.
func deadline(steps []isa.Step) time.Duration {
	var sum time.Duration
	for _, step := range steps {
		sum += stepDeadline(step.Action)
	}
	if sum+VerifyFor <= isa.DefaultPlanDeadline {
		return 0
	}
	return roundSeconds(sum + VerifyFor)
}

func roundSeconds(d time.Duration) time.Duration {
	return (d + time.Second - 1) / time.Second * time.Second
}
