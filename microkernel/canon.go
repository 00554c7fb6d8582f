package microkernel

import (
	"crypto/sha256"
	"reflect"
)

// Likeness is a hash that two states have in common if nothing can tell them apart from
// now on: how many steps led to them does not count, nor which step touched a plan last.
// The policy is left out: it is the journal's.
type Likeness [sha256.Size]byte

// Likenesses computes the Likeness of many states that share plans: each plan is hashed
// once. The zero value is ready to use.
type Likenesses struct{ plans map[*plan]Likeness }

// maxLikenesses bounds how many plans are remembered.
const maxLikenesses = 1 << 16

// Of returns the Likeness of s.
func (l *Likenesses) Of(s State) Likeness {
	e := encoder{h: sha256.New()}
	for _, list := range [][]*plan{s.plans, s.done} {
		e.number(uint64(len(list)))
		for _, p := range list {
			like := l.plan(p)
			e.buf = append(e.buf, like[:]...)
		}
	}
	s.events, s.policy, s.plans, s.done = 0, Policy{}, nil, nil
	e.value(reflect.ValueOf(s))
	e.flush()
	return Likeness(e.h.Sum(nil))
}

func (l *Likenesses) plan(p *plan) Likeness {
	if like, known := l.plans[p]; known {
		return like
	}
	c := *p
	c.edited = 0
	e := encoder{h: sha256.New()}
	e.value(reflect.ValueOf(&c).Elem())
	e.flush()
	like := Likeness(e.h.Sum(nil))
	if l.plans == nil || len(l.plans) >= maxLikenesses {
		l.plans = make(map[*plan]Likeness)
	}
	l.plans[p] = like
	return like
}
