package otlp

import (
	"time"

	"github.com/sluicemesh/sluice/topology"
)

// maxWaits bounds the spans that wait for their other half. A later one may take the
// place of an earlier one, whose call is then missed.
const maxWaits = 1 << 16

// waits are the halves of calls of which the other was not seen: a CLIENT span that does
// not say whom it called, by its id; a SERVER span, by the id of its parent. What only a
// CLIENT span needs stands apart, so that the rest stays in the cache.
type waits struct {
	halves []half
	calls  []clientHalf
}

type half struct {
	key    uint64 // 0 = free
	who    uint32 // number of the sender's name
	server bool
}

type clientHalf struct {
	at        int64 // Unix nanoseconds
	latency   time.Duration
	failed    bool
	existence bool
}

// place returns the place of a span's id in its trace, and the key that it has there.
func (w *waits) place(trace, id uint64) (place int, key uint64) {
	if w.halves == nil {
		w.halves, w.calls = make([]half, maxWaits), make([]clientHalf, maxWaits)
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
	if other.key != key || other.server {
		*other = half{key: key, who: sender.number, server: true}
		return
	}
	other.key = 0
	caller := s.list[other.who]
	if !s.stillKnown(caller) {
		return
	}
	saw := &s.waits.calls[place]
	call := s.add()
	call.Caller, call.Callee = caller.service, sender.service
	call.Failed, call.Existence, call.At, call.Latency = saw.failed, saw.existence, time.Unix(0, saw.at), saw.latency
	s.counts.Joined++
	s.counted(call)
}

// joinClient names the callee of a CLIENT span that does not if its child waits; else it
// lets the span wait and reports false.
func (s *scanner) joinClient(sender *name, sp *span, call *topology.Call) bool {
	place, key := s.waits.place(sp.traceID, sp.id)
	other := &s.waits.halves[place]
	if other.key != key || !other.server {
		*other = half{key: key, who: sender.number}
		s.waits.calls[place] = clientHalf{
			failed: call.Failed, existence: call.Existence, at: call.At.UnixNano(), latency: call.Latency,
		}
		return false
	}
	other.key = 0
	callee := s.list[other.who]
	if !s.stillKnown(callee) {
		return false
	}
	call.Callee = callee.service
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
