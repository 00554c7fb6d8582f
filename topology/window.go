package topology

import (
	"time"

	"github.com/sluicemesh/sluice/mesh"
)

// Service returns what happened at service in one Unix second, and whether any call
// was seen then.
func (s *Series) Service(service mesh.Service, second int64) (Tick, bool) {
	return s.collect(func(into *Tick) { s.addService(into, service, second, second+1) })
}

// Edge returns what happened on caller -> callee in one Unix second, and whether any
// call was seen then.
func (s *Series) Edge(caller, callee mesh.Service, second int64) (Tick, bool) {
	return s.collect(func(into *Tick) { s.addEdge(into, caller, callee, second, second+1) })
}

// Instance returns what callers saw of one instance of callee in one Unix second, and
// whether any call was seen then.
func (s *Series) Instance(callee mesh.Service, uid mesh.UID, second int64) (Tick, bool) {
	return s.collect(func(into *Tick) { s.add(into, trackKey{byInstance, string(uid), callee}, second, second+1) })
}

// Window sums service over the whole seconds in [from, to), at most Retention.
func (s *Series) Window(service mesh.Service, from, to time.Time) Tick {
	sum, _ := s.collect(func(into *Tick) { s.addService(into, service, from.Unix(), to.Unix()) })
	return sum
}

// EdgeWindow sums caller -> callee over the whole seconds in [from, to).
func (s *Series) EdgeWindow(caller, callee mesh.Service, from, to time.Time) Tick {
	sum, _ := s.collect(func(into *Tick) { s.addEdge(into, caller, callee, from.Unix(), to.Unix()) })
	return sum
}

// InstanceWindow sums one instance of callee over the whole seconds in [from, to).
func (s *Series) InstanceWindow(callee mesh.Service, uid mesh.UID, from, to time.Time) Tick {
	key := trackKey{byInstance, string(uid), callee}
	sum, _ := s.collect(func(into *Tick) { s.add(into, key, from.Unix(), to.Unix()) })
	return sum
}

// Rate returns the requests a second at service over [from, to).
func (s *Series) Rate(service mesh.Service, from, to time.Time) float64 {
	seconds := to.Unix() - from.Unix()
	if seconds <= 0 {
		return 0
	}
	return float64(s.Window(service, from, to).Requests) / float64(seconds)
}

// collect runs add on an empty tick and reports whether it saw a request.
func (s *Series) collect(add func(*Tick)) (Tick, bool) {
	sum := Tick{Hist: &Histogram{}}
	add(&sum)
	return sum, sum.Requests > 0
}

// addService adds what the callers of service saw, else what it reported itself.
func (s *Series) addService(into *Tick, service mesh.Service, from, to int64) {
	seen := false
	for _, caller := range s.callers[service] {
		seen = s.addEdge(into, caller, service, from, to) || seen
	}
	if !seen {
		s.add(into, trackKey{byServer, "", service}, from, to)
	}
}

// addEdge adds the best evidence of caller -> callee and reports whether the edge has
// any in the ring.
func (s *Series) addEdge(into *Tick, caller, callee mesh.Service, from, to int64) bool {
	_, id := s.best(caller, callee, to)
	if id < 0 {
		return false
	}
	s.tracks[id].sum(into, from, to)
	return true
}

// add adds the track of key, if there is one.
func (s *Series) add(into *Tick, key trackKey, from, to int64) {
	if id, known := s.index[key]; known {
		s.tracks[id].sum(into, from, to)
	}
}

// sum adds what happened in [from, to), as far as the ring has it; nil has nothing.
func (t *track) sum(into *Tick, from, to int64) {
	if t == nil {
		return
	}
	to = min(to, t.last+1)
	for second := max(from, to-int64(Retention/time.Second)); second < to; {
		start := second - mod(second, chunkSeconds)
		end := min(to, start+chunkSeconds)
		if have := t.chunks[mod(start/chunkSeconds, chunkCount)]; have != nil && have.start == start {
			have.sum(into, second, end)
		}
		second = end
	}
}

// sum adds the seconds [from, to) of c, which are all within it.
func (c *chunk) sum(into *Tick, from, to int64) {
	rest := c.cells
	if from > c.start {
		rest = rest[c.find(c.keyOf(from, 0)):]
	}
	end := int(to-c.start) << keyShift
	for _, cell := range rest {
		if int(cell.key) >= end {
			return
		}
		if bucket := uint16(cell.key & failureBucket); bucket == failureBucket {
			into.Errors += uint64(cell.count)
		} else {
			into.Requests += uint64(cell.count)
			into.Hist.add(bucket, uint64(cell.count))
		}
	}
}

// Took reports whether any call at service was seen at or after since.
func (s *Series) Took(service mesh.Service, since time.Time) bool {
	if id, known := s.index[trackKey{byServer, "", service}]; known && s.tracks[id].last >= since.Unix() {
		return true
	}
	for _, caller := range s.callers[service] {
		for _, kind := range edgeFamilies() {
			id, known := s.index[trackKey{kind, string(caller), service}]
			if known && s.tracks[id].last >= since.Unix() {
				return true
			}
		}
	}
	return false
}

// best returns the track with the best evidence of caller -> callee, -1 if the ring has
// none before to.
func (s *Series) best(caller, callee mesh.Service, to int64) (family, int32) {
	for _, kind := range edgeFamilies() {
		id, known := s.index[trackKey{kind, string(caller), callee}]
		if known && s.tracks[id].last > to-int64(Retention/time.Second) {
			return kind, id
		}
	}
	return byConnection, -1
}
