package isa

import (
	"slices"

	"github.com/sluicemesh/sluice/mesh"
)

// orders checks the three orders between services that call each other: drain callers
// before callees, restart callees before callers, restore callees before callers. Drains
// that are never in force together need no order among themselves.
func (c *checker) orders() {
	c.kin.begin(c.env)
	c.restartOrder(&c.kin)
	c.drainOrders(&c.kin)
}

func (c *checker) restartOrder(k *kinship) {
	for x := range c.uses {
		for y := range x {
			a, b := &c.uses[y], &c.uses[x]
			for _, one := range members(&a.restart.Target) {
				for _, other := range members(&b.restart.Target) {
					c.restartPair(k, servicePlace{one, a.step}, servicePlace{other, b.step})
				}
			}
		}
	}
}

func (c *checker) restartPair(k *kinship, a, b servicePlace) {
	switch first := k.first(a.service, b.service, c.env.RestartOrder, false); {
	case first > 0:
		a, b = b, a
	case first == 0:
		return
	}
	if !c.precedes(a.step, b.step) {
		c.disorder(b, "target", "restart it before its callee", a, "restart callees before callers")
	}
}

func (c *checker) drainOrders(k *kinship) {
	open := c.intervals()
	slices.SortStableFunc(open, func(a, b interval) int { return a.from - b.from })
	for x := range open {
		for y := range x {
			a, b := &open[y], &open[x]
			if a.from == b.from || a.service == b.service || a.restart >= 0 && b.restart >= 0 ||
				c.over(a, b) || c.over(b, a) {
				continue
			}
			c.drainPair(k, a, b)
			c.restorePair(k, a, b)
		}
	}
}

// drainPair checks the begin of two drains that may be in force together.
func (c *checker) drainPair(k *kinship, a, b *interval) {
	switch first := k.first(a.service, b.service, c.env.DrainOrder, true); {
	case first > 0:
		a, b = b, a
	case first == 0:
		return
	}
	if !c.precedes(a.from, b.from) {
		c.disorder(servicePlace{b.service, b.from}, "target", "drain it before its caller",
			servicePlace{a.service, a.from}, "drain callers before callees")
	}
}

// restorePair checks the end of two drains that may be in force together. A callee that
// stays off on purpose is never restored, so its callers need not wait for that.
func (c *checker) restorePair(k *kinship, a, b *interval) {
	switch first := k.first(a.service, b.service, c.env.RestoreOrder, false); {
	case first > 0:
		a, b = b, a
	case first == 0:
		return
	}
	if a.to >= 0 && b.to >= 0 && !c.precedes(a.to, b.to) {
		c.disorder(servicePlace{b.service, b.to}, "drain", "restore it before its callee",
			servicePlace{a.service, a.to}, "restore callees before callers")
	}
}

// disorder reports that late may act before first has, against a rule.
func (c *checker) disorder(late servicePlace, operand, what string, first servicePlace, rule string) {
	step := string(c.p.Steps[first.step].ID)
	c.add(late.step, operand, CodeOrder,
		string(late.service)+": the plan may "+what+" "+string(first.service)+" (step "+step+")",
		rule+": add "+step+" to after")
}

// kinship answers which of two services comes first in an order, and remembers who
// reaches whom by calls.
type kinship struct {
	env   *Env
	rows  map[mesh.Service]int // callee -> its row
	above []reached            // rows: the callers of a callee, direct or not. More than rows holds is spare memory
}

func (k *kinship) begin(env *Env) {
	if k.rows == nil {
		k.rows = make(map[mesh.Service]int)
	}
	clear(k.rows)
	k.env = env
}

// first returns -1 if a comes first, +1 if b does, 0 if there is no order between them:
// only services of which one reaches the other by calls have one. The given order
// decides; services that are not in it go by the calls, callers first if callersFirst.
func (k *kinship) first(a, b mesh.Service, order []mesh.Service, callersFirst bool) int {
	if a == b {
		return 0
	}
	calls, called := k.reaches(a, b), k.reaches(b, a)
	if !calls && !called {
		return 0
	}
	i, j := slices.Index(order, a), slices.Index(order, b)
	switch {
	case i >= 0 && j >= 0 && i < j:
		return -1
	case i >= 0 && j >= 0:
		return 1
	case calls && called:
		return 0 // one component, and nobody says which is first
	case calls == callersFirst:
		return -1
	}
	return 1
}

// reaches reports whether caller reaches callee by calls, as far as is known.
func (k *kinship) reaches(caller, callee mesh.Service) bool {
	row, known := k.rows[callee]
	if !known {
		row = len(k.rows)
		k.rows[callee] = row
		if row == len(k.above) {
			k.above = append(k.above, reached{})
		}
		k.above[row].callers(k.env, callee)
	}
	return k.above[row].seen[caller]
}

// callers collects the direct and indirect callers of service; service is one of them
// only if it is in a cycle of calls.
func (r *reached) callers(env *Env, service mesh.Service) {
	r.begin(service)
	delete(r.seen, service)
	for at := 0; at < len(r.queue); at++ {
		if facts := env.Find(r.queue[at]); facts != nil {
			r.add(facts.Callers)
			r.add(facts.Component)
		}
	}
}
