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
type Likenesses struct {
	plans map[*plan]Likeness
	buf   []byte
}

// maxLikenesses bounds how many plans are remembered.
const maxLikenesses = 1 << 16

// Of returns the Likeness of s.
func (l *Likenesses) Of(s State) Likeness {
	var likes []Likeness
	for _, list := range [][]*plan{s.plans, s.done} {
		likes = append(likes, Likeness{0: byte(len(list)), 1: byte(len(list) >> 8)})
		for _, p := range list {
			likes = append(likes, l.plan(p))
		}
	}
	s.events, s.policy, s.plans, s.done = 0, Policy{}, nil, nil
	e := encoder{h: sha256.New(), buf: l.buf[:0]}
	for i := range likes {
		e.buf = append(e.buf, likes[i][:]...)
	}
	e.value(reflect.ValueOf(s))
	e.flush()
	l.buf = e.buf
	return Likeness(e.h.Sum(nil))
}

func (l *Likenesses) plan(p *plan) Likeness {
	if like, known := l.plans[p]; known {
		return like
	}
	c := *p
	c.edited = 0
	e := encoder{h: sha256.New(), buf: l.buf[:0]}
	e.value(reflect.ValueOf(&c).Elem())
	e.flush()
	l.buf = e.buf
	like := Likeness(e.h.Sum(nil))
	if l.plans == nil || len(l.plans) >= maxLikenesses {
		l.plans = make(map[*plan]Likeness)
	}
	l.plans[p] = like
	return like
}
