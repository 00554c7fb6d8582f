package gate

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"
)

// afterACK is how much later than a proxy's ACK a load report must come to speak of
// the time after it: Envoy's workers follow an ACK within 5 ms.
const afterACK = 10 * time.Millisecond

// zeroReports is how many reports of zero in a row make a proxy empty. One may have
// been made while a request was between two hosts.
const zeroReports = 2

// Watch follows what is in flight on one target: at the proxies that call it and at
// those that stand beside it. It is not safe for concurrent use.
type Watch struct {
	callers map[string]*side
	callees map[string]*side
	since   time.Time // the callees' reports count from the last caller's ACK on
}

// side is one proxy's view of the target.
type side struct {
	acked    time.Time // zero = not yet
	reported time.Time // last report that counts
	zero     time.Time // first of the present run of zeros
	zeros    int
	inFlight int // of the last report, counting or not
}

// NewWatch returns a watch in which nobody is required yet; see Require.
func NewWatch() *Watch {
	return &Watch{callers: map[string]*side{}, callees: map[string]*side{}}
}

// Require sets whose word is needed: new proxies start without any, those no longer
// named are forgotten.
func (w *Watch) Require(callers, callees []string) {
	require(w.callers, callers)
	require(w.callees, callees)
}

func require(sides map[string]*side, nodes []string) {
	maps.DeleteFunc(sides, func(node string, _ *side) bool { return !slices.Contains(nodes, node) })
	for _, node := range nodes {
		if sides[node] == nil {
			sides[node] = &side{}
		}
	}
}

// Acked notes since when a caller has what keeps new requests off the target; zero
// takes it back (it reconnected and has not ACKed again).
func (w *Watch) Acked(node string, at time.Time) {
	s := w.callers[node]
	if s == nil || s.acked.Equal(at) {
		return
	}
	*s = side{acked: at, inFlight: s.inFlight}
}

// Report notes what a proxy says is in flight on the target. As a caller it counts
// once it is later than the proxy's own ACK, as a callee once it is later than all.
func (w *Watch) Report(node string, callerSide bool, inFlight int, at time.Time) {
	if callerSide {
		if s := w.callers[node]; s != nil {
			s.report(s.acked, inFlight, at)
		}
		return
	}
	if s := w.callees[node]; s != nil {
		s.report(w.lastACK(), inFlight, at)
	}
}

func (s *side) report(acked time.Time, inFlight int, at time.Time) {
	s.inFlight = inFlight
	if acked.IsZero() || at.Sub(acked) <= afterACK {
		return
	}
	s.reported = at
	switch {
	case inFlight > 0:
		s.zero, s.zeros = time.Time{}, 0
	case s.zeros == 0:
		s.zero, s.zeros = at, 1
	default:
		s.zeros++
	}
}

// lastACK returns when the last caller ACKed; zero while one has not. A late joiner
// has the drain from its first moment, so its ACK moves nothing back.
func (w *Watch) lastACK() time.Time {
	var last time.Time
	for _, s := range w.callers {
		if s.acked.IsZero() {
			return time.Time{}
		}
		if s.acked.After(last) {
			last = s.acked
		}
	}
	if len(w.callers) == 0 {
		return w.since
	}
	return last
}

// Since sets from when on callees' reports count if nobody calls the target.
func (w *Watch) Since(at time.Time) { w.since = at }

// Facts is what a watch has seen.
type Facts struct {
	Required, Acked, Reported int
	InFlight                  int // at the callers
	Inbound                   int // at the callees; -1 = there are none
	Quiet                     time.Duration
	Waiting                   string // what keeps Quiet at zero, "" if nothing
}

// Facts sums up. Quiet is how long every proxy has said zero: from the last one's first
// such report to the first one's last, and 0 until each has said it twice.
func (w *Watch) Facts() Facts {
	f := Facts{Required: len(w.callers), Inbound: -1}
	var from, to time.Time
	for _, node := range slices.Sorted(maps.Keys(w.callers)) {
		s := w.callers[node]
		f.InFlight += s.inFlight
		if !s.acked.IsZero() {
			f.Acked++
		}
		if !s.reported.IsZero() {
			f.Reported++
		}
		f.Waiting = cmp.Or(f.Waiting, s.waiting(node, "calls"))
		from, to = within(s, from, to)
	}
	if len(w.callees) > 0 {
		f.Inbound = 0
	}
	for _, node := range slices.Sorted(maps.Keys(w.callees)) {
		s := w.callees[node]
		f.Inbound += s.inFlight
		f.Waiting = cmp.Or(f.Waiting, s.waiting(node, "serves"))
		from, to = within(s, from, to)
	}
	if f.Waiting == "" && to.After(from) {
		f.Quiet = to.Sub(from)
	}
	return f
}

// within narrows [from, to] to the time in which s said zero.
func within(s *side, from, to time.Time) (time.Time, time.Time) {
	if s.zero.After(from) {
		from = s.zero
	}
	if to.IsZero() || s.reported.Before(to) {
		to = s.reported
	}
	return from, to
}

// waiting says why the side is not known to be empty, "" if it is.
func (s *side) waiting(node, role string) string {
	switch {
	case role == "calls" && s.acked.IsZero():
		return fmt.Sprintf("%s has not ACKed", node)
	case s.reported.IsZero():
		return fmt.Sprintf("%s, which %s it, has not reported since", node, role)
	case s.inFlight > 0:
		return fmt.Sprintf("%s, which %s it, reports %d in flight", node, role, s.inFlight)
	case s.zeros < zeroReports:
		return fmt.Sprintf("%s, which %s it, has reported zero once", node, role)
	}
	return ""
}
