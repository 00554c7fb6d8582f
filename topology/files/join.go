package files

import (
	"time"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/topology"
)

// maxSkew is by how much a server's span may lie outside its client's before the pair
// counts as skewed. The latency of a call is the client's own either way.
const maxSkew = time.Millisecond

// kind is the side of a call that a span saw.
type kind uint8

const (
	internal kind = iota
	client
	server
	producer
	consumer
)

// caller reports whether k is the calling side.
func (k kind) caller() bool { return k == client || k == producer }

// span is what all span formats have in common.
type span struct {
	trace, id, parent string
	service, instance string
	peer              string // whom a client says that it called, "" = it does not
	kind              kind
	shared            bool // Zipkin: the client's span has the same id
	start             time.Time
	duration          time.Duration
	failed            bool
}

// end is when s ended, by its own clock.
func (s *span) end() time.Time { return s.start.Add(s.duration) }

// trace is a trace of which more spans may follow.
type trace struct {
	id    string
	spans []span
}

// joiner collects spans until their trace is closed, then turns them into calls.
type joiner struct {
	file   *file
	traces map[string]*trace
	order  []*trace // oldest first
	open   int      // spans in traces
	most   int      // of open
	blame  bool     // a failed inner span is a failure of its service, see blame
}

// maxDepth bounds how far an inner span's failure is carried up.
const maxDepth = 256

// blame marks the called side as failed where a span inside it failed. It suits data
// whose failures are error lines logged inside a span, not the outcome of a call.
func (t *tree) blame() {
	for i := range t.spans {
		if !t.spans[i].failed || t.spans[i].kind != internal {
			continue
		}
		at := int32(i)
		for depth := 0; depth < maxDepth; depth++ {
			above := t.parent[at]
			if above < 0 || t.spans[above].service != t.spans[i].service {
				break
			}
			at = above
		}
		t.spans[at].failed = t.spans[at].failed || t.spans[at].kind == server
	}
}

// add takes a span. Beyond most the oldest trace is closed, beyond MaxTrace this one.
func (j *joiner) add(s span) {
	j.file.counts.Records++
	t := j.traces[s.trace]
	if t == nil {
		t = &trace{id: s.trace}
		j.traces[s.trace] = t
		j.order = append(j.order, t)
	}
	t.spans = append(t.spans, s)
	j.open++
	if len(t.spans) >= MaxTrace {
		j.flush(t)
	}
	for j.open > j.most {
		oldest := j.order[0]
		j.order[0], j.order = nil, j.order[1:]
		j.flush(oldest)
		delete(j.traces, oldest.id)
	}
}

// close closes all traces, the oldest first.
func (j *joiner) close() {
	for _, t := range j.order {
		j.flush(t)
	}
	j.traces, j.order = nil, nil
}

// flush turns the spans of t into calls and forgets them.
func (j *joiner) flush(t *trace) {
	j.open -= len(t.spans)
	tree := newTree(t.spans)
	if j.blame {
		tree.blame()
	}
	for i := range t.spans {
		j.take(tree, int32(i))
	}
	t.spans = nil
}

// tree finds the spans of a trace by id. Two sides of a Zipkin call may share one.
type tree struct {
	spans  []span
	byID   map[string][2]int32 // index + 1 of the calling side or an inner span, and of the called one
	parent []int32             // index of the span that s is the callee's side or child of, -1 = none
	served [][]int32           // by span: the spans of other services below it
}

func newTree(spans []span) *tree {
	t := &tree{spans: spans, byID: make(map[string][2]int32, len(spans)), parent: make([]int32, len(spans))}
	for i := range spans {
		sides := t.byID[spans[i].id]
		side := 0
		if spans[i].kind == server || spans[i].kind == consumer {
			side = 1
		}
		if sides[side] == 0 {
			sides[side] = int32(i) + 1
		}
		t.byID[spans[i].id] = sides
	}
	t.served = make([][]int32, len(spans))
	for i := range spans {
		above := t.above(int32(i))
		t.parent[i] = above
		if above >= 0 && !spans[i].kind.caller() && spans[i].service != spans[above].service {
			t.served[above] = append(t.served[above], int32(i))
		}
	}
	return t
}

// above returns the span above s: the calling side with the same id, or the span that
// its parent id names, the called side first when s runs inside it.
func (t *tree) above(i int32) int32 {
	s := &t.spans[i]
	if s.kind == server {
		if same := t.byID[s.id][0]; same > 0 && t.spans[same-1].kind.caller() {
			return same - 1
		}
	}
	sides := t.byID[s.parent]
	if s.parent == "" {
		return -1
	}
	for _, side := range [2]int32{sides[1], sides[0]} {
		if side > 0 && side-1 != i && (t.spans[side-1].service == s.service) != (s.kind == server || s.kind == consumer) {
			return side - 1
		}
	}
	return max(sides[0], sides[1]) - 1
}

// take hands on what span i shows.
func (j *joiner) take(t *tree, i int32) {
	s, counts := &t.spans[i], &j.file.counts
	if s.parent != "" && t.parent[i] < 0 && !s.shared {
		counts.Orphans++
	}
	switch {
	case s.kind.caller():
		j.client(t, i)
		return
	case s.kind == server:
		counts.Served++
		j.emit(topology.Call{Callee: mesh.Service(s.service), At: s.end(), Latency: s.duration, Failed: s.failed})
	}
	above := t.parent[i]
	switch {
	case above >= 0 && !t.spans[above].kind.caller() && s.service != t.spans[above].service:
		j.call(&t.spans[above], s, s)
	case s.kind == consumer && above < 0 && s.peer != "":
		counts.Async++
		j.emit(topology.Call{Caller: mesh.Service(s.service), Callee: mesh.Service(s.peer), At: s.end(), Existence: true})
	}
}

// client hands on the call of a calling side: to each service that has a span below it,
// else to the peer that it names.
func (j *joiner) client(t *tree, i int32) {
	s := &t.spans[i]
	if len(t.served[i]) == 0 {
		if s.peer == "" {
			j.file.counts.Unresolved++
			return
		}
		j.call(s, &span{service: s.peer, kind: server}, s)
		return
	}
	for at, below := range t.served[i] {
		callee := &t.spans[below]
		if seen(t.spans, t.served[i][:at], callee.service) {
			continue // a retry below one client's span
		}
		j.file.counts.Joined++
		if callee.start.Before(s.start.Add(-maxSkew)) || callee.end().After(s.end().Add(maxSkew)) {
			j.file.counts.Skewed++
		}
		j.call(s, callee, s)
	}
}

// seen reports whether one of the spans at the indices is of service.
func seen(spans []span, indices []int32, service string) bool {
	for _, i := range indices {
		if spans[i].service == service {
			return true
		}
	}
	return false
}

// call hands on a call from caller to callee, timed by the span that saw it.
func (j *joiner) call(caller, callee, seen *span) {
	call := topology.Call{
		Caller: mesh.Service(caller.service), Callee: mesh.Service(callee.service), Instance: callee.instance,
		At: seen.end(), Latency: seen.duration, Failed: seen.failed || callee.failed,
	}
	if caller.kind == producer || callee.kind == consumer {
		j.file.counts.Async++
		call.Existence, call.Latency, call.Failed = true, 0, false
	} else {
		j.file.counts.Calls++
	}
	j.emit(call)
}

// emit completes a call and hands it to the sink.
func (j *joiner) emit(call topology.Call) {
	call.Source = topology.Span
	j.file.Sink(call)
}
