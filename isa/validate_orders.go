package isa

import (
	"slices"

	"github.com/sluicemesh/sluice/mesh"
)

// orders checks the three orders between services that call each other: drain callers
// before callees, restart callees before callers, restore callees before callers. Drains
// that are never in force together need no order among themselves.
func (c *checker) orders() {
	c.kin.begin(&c.cast, [...][]mesh.Service{
		draining: c.env.DrainOrder, restarting: c.env.RestartOrder, restoring: c.env.RestoreOrder,
	})
	c.restartOrder(&c.kin)
	c.drainOrders(&c.kin)
}

func (c *checker) restartOrder(k *kinship) {
	for x := range c.uses {
		for y := range x {
			a, b := &c.uses[y], &c.uses[x]
			for _, one := range c.stops[a.from:a.to] {
				for _, other := range c.stops[b.from:b.to] {
					c.restartPair(k, one, other)
				}
			}
		}
	}
}

func (c *checker) restartPair(k *kinship, a, b servicePlace) {
	switch first := k.first(a.number, b.number, restarting); {
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
	open := c.open // as conflicts left them
	slices.SortStableFunc(open, func(a, b interval) int { return a.from - b.from })
	for x := range open {
		for y := range x {
			a, b := &open[y], &open[x]
			if a.from == b.from || a.number == b.number || a.restart >= 0 && b.restart >= 0 ||
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
	switch first := k.first(a.number, b.number, draining); {
	case first > 0:
		a, b = b, a
	case first == 0:
		return
	}
	if !c.precedes(a.from, b.from) {
		c.disorder(servicePlace{b.service, b.number, b.from}, "target", "drain it before its caller",
			servicePlace{a.service, a.number, a.from}, "drain callers before callees")
	}
}

// restorePair checks the end of two drains that may be in force together. A callee that
// stays off on purpose is never restored, so its callers need not wait for that.
func (c *checker) restorePair(k *kinship, a, b *interval) {
	switch first := k.first(a.number, b.number, restoring); {
	case first > 0:
		a, b = b, a
	case first == 0:
		return
	}
	if a.to >= 0 && b.to >= 0 && !c.precedes(a.to, b.to) {
		c.disorder(servicePlace{b.service, b.number, b.to}, "drain", "restore it before its callee",
			servicePlace{a.service, a.number, a.to}, "restore callees before callers")
	}
}

// disorder reports that late may act before first has, against a rule.
func (c *checker) disorder(late servicePlace, operand, what string, first servicePlace, rule string) {
	step := string(c.l.Lines[first.step].ID)
	c.add(late.step, operand, CodeOrder,
		string(late.service)+": the plan may "+what+" "+string(first.service)+" (step "+step+")",
		rule+": add "+step+" to after")
}

// sequence is one of the three orders.
type sequence int

const (
	draining   sequence = iota // callers before callees
	restarting                 // callees before callers
	restoring                  // callees before callers
	sequences
)

// kinship answers which of two services of a cast comes first in an order, and remembers
// who reaches whom by calls, also for the next program of the same cast. Services go by
// their numbers in the cast, which must be complete.
type kinship struct {
	cast  *cast
	given [sequences][]mesh.Service
	ranks [sequences][]int  // of each member in the given order, + 1; 0 = not looked up, -1 = not in it
	words int               // of a row of above
	known []bool            // rows that are filled in
	told  [sequences][]int8 // of each two members, what first said + 2; 0 = not asked; empty if they are many
	above []uint64          // bit set: row i holds the callers of service i, direct or not
	met   []uint64          // bit set over the services of the world, of callers
	queue []int             // of callers
	whole [][]mesh.Service  // components that met holds; only those of several services
}

// begin makes k ready for the services of cast and the orders of its world. What it knows
// of the same ones it keeps.
func (k *kinship) begin(cast *cast, given [sequences][]mesh.Service) {
	n := len(cast.members)
	if k.cast == cast && len(k.known) == n {
		return
	}
	k.cast, k.given, k.words = cast, given, (n+63)/64
	for s := range k.ranks {
		k.ranks[s] = slices.Grow(k.ranks[s][:0], n)[:n]
		clear(k.ranks[s])
	}
	k.known = slices.Grow(k.known[:0], n)[:n]
	clear(k.known)
	k.above = zeroed(k.above, n*k.words)
	pairs := n * n
	if n > fewMembers {
		pairs = 0
	}
	for s := range k.told {
		k.told[s] = slices.Grow(k.told[s][:0], pairs)[:pairs]
		clear(k.told[s])
	}
}

// fewMembers is how many services have what first says of them remembered: a restart of
// many instances asks the same for each two of them.
const fewMembers = 64

// first returns -1 if a comes first, +1 if b does, 0 if there is no order between them:
// only services of which one reaches the other by calls have one. The given order
// decides; services that are not in it go by the calls.
func (k *kinship) first(a, b int, s sequence) int {
	if a == b {
		return 0
	}
	if len(k.told[s]) == 0 {
		return k.find(a, b, s)
	}
	told := &k.told[s][a*len(k.known)+b]
	if *told == 0 {
		*told = int8(k.find(a, b, s) + 2)
	}
	return int(*told) - 2
}

// find is first of two different services.
func (k *kinship) find(a, b int, s sequence) int {
	calls, called := k.reaches(a, b), k.reaches(b, a)
	if !calls && !called {
		return 0
	}
	i, j := k.rank(a, s), k.rank(b, s)
	switch {
	case i > 0 && j > 0 && i < j:
		return -1
	case i > 0 && j > 0:
		return 1
	case calls && called:
		return 0 // one component, and nobody says which is first
	case calls == (s == draining):
		return -1
	}
	return 1
}

// rank returns the place of member i in a given order, -1 if it has none.
func (k *kinship) rank(i int, s sequence) int {
	rank := &k.ranks[s][i]
	if *rank == 0 {
		*rank = -1
		if at := slices.Index(k.given[s], k.cast.members[i].name); at >= 0 {
			*rank = at + 1
		}
	}
	return *rank
}

// end lets go of the world.
func (k *kinship) end() {
	clear(k.whole)
	k.cast, k.given = nil, [sequences][]mesh.Service{}
}

// reaches reports whether caller reaches callee by calls, as far as is known.
func (k *kinship) reaches(caller, callee int) bool {
	row := k.above[callee*k.words : (callee+1)*k.words]
	if !k.known[callee] {
		k.known[callee] = true
		k.callers(callee, row)
	}
	return bit(row, caller)
}

// callers collects the direct and indirect callers of a service in row.
func (k *kinship) callers(callee int, row []uint64) {
	world := k.cast.env.Services
	k.met, k.queue, k.whole = zeroed(k.met, (len(world)+63)/64), k.queue[:0], k.whole[:0]
	k.meet(k.cast.members[callee].facts, row)
	for at := 0; at < len(k.queue); at++ {
		k.meet(&world[k.queue[at]], row)
	}
}

// meet adds those that call what facts are about, if anything is known of it.
func (k *kinship) meet(facts *ServiceFacts, row []uint64) {
	if facts == nil {
		return
	}
	k.add(facts.Callers, row)
	switch all := facts.Component; {
	case len(all) == 1 && all[0] == facts.Name: // whether it reaches itself is never asked
	case len(all) > 1 && k.joined(all): // each of its members tells the same
	default:
		k.add(all, row)
	}
}

// add notes that services are met.
func (k *kinship) add(services []mesh.Service, row []uint64) {
	for _, service := range services {
		if i := k.cast.find(service); i >= 0 {
			row[i/64] |= 1 << (i % 64)
		}
		if i := k.cast.env.position(service); i >= 0 && k.met[i/64]&(1<<(i%64)) == 0 {
			k.met[i/64] |= 1 << (i % 64)
			k.queue = append(k.queue, i)
		}
	}
}

// joined reports whether the services of a component have been met, and notes that they
// will be.
func (k *kinship) joined(component []mesh.Service) bool {
	for _, known := range k.whole {
		if len(known) == len(component) && (&known[0] == &component[0] || slices.Equal(known, component)) {
			return true
		}
	}
	k.whole = append(k.whole, component)
	return false
}
