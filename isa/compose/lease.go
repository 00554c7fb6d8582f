package compose

import (
	"cmp"
	"time"

	"github.com/sluicemesh/sluice/isa"
)

// lease gives every drain a lease that covers the deadlines from its own start to its
// restore, and reports whether it could. Where that would be more than a lease may be,
// the drains get shorter deadlines first, the restarts of unknown duration then.
func (n *nest) lease() bool {
	if n.total() > maxLease {
		n.shorten()
	}
	fits := true
	for i := range n.steps {
		if drain, ok := n.steps[i].Action.(isa.Drain); ok {
			need := n.until(i)
			fits = fits && need <= maxLease
			drain.Lease = roundUp(need, 10*time.Second)
			n.steps[i].Action = drain
		}
	}
	return fits
}

func (n *nest) total() time.Duration {
	var sum time.Duration
	for _, step := range n.steps {
		sum += stepDeadline(step.Action)
	}
	return sum
}

// shorten gives drains, and if need be restarts that have the default deadline, equal
// shares of what a lease allows.
func (n *nest) shorten() {
	var fixed time.Duration // of restarts that are known to be slow
	drains, restarts := 0, 0
	for _, step := range n.steps {
		switch action := step.Action.(type) {
		case isa.Drain:
			drains++
		case isa.Restart:
			if action.Deadline > 0 {
				fixed += action.Deadline
			} else {
				restarts++
			}
		}
	}
	restart := isa.DefaultRestartDeadline
	spare := maxLease - fixed - time.Duration(drains)*leastDeadline
	if restarts > 0 && spare < time.Duration(restarts)*restart {
		restart = max(leastRestart, (spare / time.Duration(restarts)).Truncate(time.Second))
	}
	left := maxLease - fixed - time.Duration(restarts)*restart
	drain := max(leastDeadline, (left / time.Duration(max(1, drains))).Truncate(time.Second))
	for i := range n.steps {
		switch action := n.steps[i].Action.(type) {
		case isa.Drain:
			action.Deadline = min(drain, isa.DefaultDrainDeadline)
			n.steps[i].Action = action
		case isa.Restart:
			if action.Deadline == 0 && restart < isa.DefaultRestartDeadline {
				action.Deadline = restart
				n.steps[i].Action = action
			}
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
