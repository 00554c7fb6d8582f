package isa

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strconv"

	"github.com/sluicemesh/sluice/mesh"
)

// Normalise returns p with every default written out. Only Program.Deadline stays as it
// is: its default is the policy's.
func Normalise(p Program) Program {
	steps := make([]Step, len(p.Steps))
	for i, step := range p.Steps {
		step.Action = normalised(step.Action)
		steps[i] = step
	}
	p.Steps = steps
	return p
}

func normalised(action Action) Action {
	switch a := action.(type) {
	case Restart:
		if !a.complete() {
			return a.normalised()
		}
	case Drain:
		if !a.complete() {
			return a.normalised()
		}
	case CircuitBreak:
		if !a.complete() {
			a.normalise()
			return a
		}
	case RateLimit:
		if !a.complete() {
			a.normalise()
			return a
		}
	}
	return action
}

// complete reports whether nothing of a stands for a default.
func (a *Restart) complete() bool { return a.Mode != "" && a.Deadline != 0 }

func (a Restart) normalised() Restart {
	a.Mode = cmp.Or(a.Mode, Rolling)
	a.Deadline = cmp.Or(a.Deadline, DefaultRestartDeadline)
	return a
}

// complete reports whether nothing of a stands for a default.
func (a *Drain) complete() bool {
	return a.Share != 0 && a.Streams != "" && a.Deadline != 0 && a.Lease != 0
}

func (a Drain) normalised() Drain {
	a.Share = cmp.Or(a.Share, 100)
	a.Streams = cmp.Or(a.Streams, mesh.StreamsWait)
	a.Deadline = cmp.Or(a.Deadline, DefaultDrainDeadline)
	a.Lease = cmp.Or(a.Lease, DefaultLease)
	return a
}

// complete reports whether nothing of a stands for a default.
func (a *CircuitBreak) complete() bool { return a.Lease != 0 }

func (a *CircuitBreak) normalise() { a.Lease = cmp.Or(a.Lease, DefaultLease) }

// complete reports whether nothing of a stands for a default.
func (a *RateLimit) complete() bool { return a.Burst != 0 && a.Lease != 0 }

func (a *RateLimit) normalise() {
	a.Burst = cmp.Or(a.Burst, oneSecond(a.PerSecond))
	a.Lease = cmp.Or(a.Lease, DefaultLease)
}

// oneSecond is the default burst: what passes in a second, at least 1.
func oneSecond(perSecond float64) uint32 {
	if !(perSecond > 1) { // also for what is no number
		return 1
	}
	return uint32(min(perSecond+0.999999, MaxThreshold))
}

// Canonical returns the form of p that identity rests on: defaults written out, steps by
// id, sets in order. Two spellings of one program have one canonical form.
func Canonical(p Program) Program {
	p = Normalise(p)
	slices.SortStableFunc(p.Steps, func(a, b Step) int { return cmp.Compare(a.ID, b.ID) })
	for i := range p.Steps {
		p.Steps[i].After = sortedSet(p.Steps[i].After)
		p.Steps[i].Action = sortedTarget(p.Steps[i].Action)
	}
	p.Verify = slices.Clone(p.Verify)
	slices.SortStableFunc(p.Verify, func(a, b Check) int {
		return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.For, b.For))
	})
	return p
}

func sortedSet[T ~string](values []T) []T {
	if len(values) == 0 {
		return nil
	}
	if len(values) == 1 {
		return values[:1:1]
	}
	return slices.Compact(slices.Sorted(slices.Values(values)))
}

// sortedTarget puts the sets of the action's target in order.
func sortedTarget(action Action) Action {
	return retarget(action, func(t Target) Target {
		t.Group, t.UIDs = sortedSet(t.Group), sortedSet(t.UIDs)
		return t
	})
}

// retarget returns action with its target changed by f; actions without one are as before.
func retarget(action Action, f func(Target) Target) Action {
	switch a := action.(type) {
	case Restart:
		a.Target = f(a.Target)
		return a
	case Drain:
		a.Target = f(a.Target)
		return a
	case CircuitBreak:
		a.Target = f(a.Target)
		return a
	case RateLimit:
		a.Target = f(a.Target)
		return a
	case Scale:
		a.Target = f(a.Target)
		return a
	}
	return action
}

// TargetOf returns the target of action; ok is false for actions that have none.
func TargetOf(action Action) (target Target, ok bool) {
	switch a := action.(type) {
	case Restart:
		return a.Target, true
	case Drain:
		return a.Target, true
	case CircuitBreak:
		return a.Target, true
	case RateLimit:
		return a.Target, true
	case Scale:
		return a.Target, true
	}
	return Target{}, false
}

// hashVersion begins what is hashed; it changes when the canonical form does.
const hashVersion = "sluice.plan/1\n"

// Hash is the identity of a plan: "sha256:" and the digest of the canonical form of p (as
// a rule the expanded program) and of its proposer.
func Hash(p Program, proposer string) string {
	root := Tree(Canonical(p))
	src := append([]byte(hashVersion), strconv.QuoteToASCII(proposer)...)
	sum := sha256.Sum256(appendNode(append(src, '\n'), &root))
	return "sha256:" + hex.EncodeToString(sum[:])
}
