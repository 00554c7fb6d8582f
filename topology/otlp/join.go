package otlp

import (
	"time"

	"github.com/sluicemesh/sluice/topology"
)

// maxWaits bounds the spans that wait for their other half. A later one may take the
// place of an earlier one, whose call is then missed.
const maxWaits = 1 << 16

// waits are the halves of calls of which the other was not seen: a CLIENT span that does
// not say whom it called, by its id; a SERVER span, by the id of its parent. Keys stand
// apart so that they stay in the cache.
type waits struct {
	keys   []uint64 // 0 = free
	halves []half
}

type half struct {
	who       *name
	at        int64 // Unix nanoseconds; of a client, as are the next
	latency   time.Duration
	server    bool
	failed    bool
	existence bool
}

// place returns the place of a span's id in its trace, and the key that it has there.
func (w *waits) place(trace, id uint64) (place int, key uint64) {
	if w.keys == nil {
		w.keys, w.halves = make([]uint64, maxWaits), make([]half, maxWaits)
	}
	const golden, odd = 0x9e3779b97f4a7c15, 0xff51afd7ed558ccd
	key = (id ^ trace*golden) * odd
	return int(key >> 32 % maxWaits), max(key, 1)
}

// joinServer finishes the call of the parent of a SERVER span if it waits, else lets the
// span wait.
func (s *scanner) joinServer(sender *name, sp *span) {
	place, key := s.waits.place(sp.traceID, sp.parent)
	other := &s.waits.halves[place]
	if s.waits.keys[place] != key || other.server {
		s.waits.keys[place] = key
		other.who, other.server = sender, true
		return
	}
	s.waits.keys[place] = 0
	if !s.stillKnown(other.who) {
		return
	}
	call := s.add()
	call.Caller, call.Callee = other.who.service, sender.service
	call.Failed, call.Existence, call.At, call.Latency = other.failed, other.existence, time.Unix(0, other.at), other.latency
	s.counts.Joined++
	s.counted(call)
}

// joinClient names the callee of a CLIENT span that does not if its child waits; else it
// lets the span wait and reports false.
func (s *scanner) joinClient(sender *name, sp *span, call *topology.Call) bool {
	place, key := s.waits.place(sp.traceID, sp.id)
	other := &s.waits.halves[place]
	if s.waits.keys[place] != key || !other.server {
		s.waits.keys[place] = key
		*other = half{
			who: sender, failed: call.Failed, existence: call.Existence, at: call.At.UnixNano(), latency: call.Latency,
		}
		return false
	}
	s.waits.keys[place] = 0
	if !s.stillKnown(other.who) {
		return false
	}
	call.Callee = other.who.service
	s.counts.Joined++
	return true
}

// stillKnown reports whether a name that waited is registered still.
func (s *scanner) stillKnown(n *name) bool {
	if n.batch != s.batch {
		s.ask(n)
	}
	return n.known
}
