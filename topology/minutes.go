package topology

import "math/bits"

// minuteBits is how many minutes back it is known whether a service had a call: 20 % of
// seven days, and a bit.
const minuteBits = 2048

// minutes says in which of the last minutes there was a call.
type minutes struct {
	round uint64 // see edgeTable
	last  int64  // the latest minute, since 1970
	bits  [minuteBits / 64]uint64
}

// maxMinutes bounds the services of which minutes are kept.
const maxMinutes = 1 << 16

// touch notes that a service had a call in a minute.
func (g *Graph) touch(id int32, minute int64) {
	for int(id) >= len(g.activity) {
		g.activity = append(g.activity, nil)
	}
	m := g.activity[id]
	if m != nil && (m.last == minute || m.has(minute)) {
		return
	}
	switch {
	case m == nil:
		if g.active >= maxMinutes {
			return
		}
		g.active++
		m = &minutes{round: g.edges.round, last: minute}
		g.activity[id] = m
	case m.round != g.edges.round:
		private := *m
		private.round = g.edges.round
		m = &private
		g.activity[id] = m
	}
	m.set(minute)
}

// has reports whether there was a call in minute, true if that is too long ago to know.
func (m *minutes) has(minute int64) bool {
	if minute > m.last {
		return false
	}
	at := mod(minute, minuteBits)
	return m.last-minute >= minuteBits || m.bits[at/64]>>(at%64)&1 != 0
}

// set notes a call in minute, which is not too long ago.
func (m *minutes) set(minute int64) {
	for later := max(m.last+1, minute-minuteBits+1); later <= minute; later++ {
		at := mod(later, minuteBits)
		m.bits[at/64] &^= 1 << (at % 64)
	}
	m.last = max(m.last, minute)
	at := mod(minute, minuteBits)
	m.bits[at/64] |= 1 << (at % 64)
}

// merge adds the minutes of other from minute on.
func (m *minutes) merge(other *minutes, from int64) {
	for minute := max(from, other.last-minuteBits+1); minute <= other.last; minute++ {
		if other.has(minute) && !m.has(minute) {
			m.set(minute)
		}
	}
}

// count returns in how many minutes there was a call.
func (m *minutes) count() uint64 {
	n := 0
	for _, word := range m.bits {
		n += bits.OnesCount64(word)
	}
	return uint64(n)
}
