package topology

import (
	"maps"
	"slices"
	"time"

	"github.com/sluicemesh/sluice/mesh"
)

// Bounds of a Series.
const (
	Retention = 10 * time.Minute // of ticks
	MaxAhead  = time.Minute      // a call that ended later than the clock by more is dropped
	MaxTracks = 1 << 16          // edges by kind of evidence, callees, instances

	chunkSeconds = 30
	chunkCount   = int64(Retention/time.Second) / chunkSeconds
)

// Series keeps, for each edge, service and instance, ticks of one second for the last
// ten minutes. The statistics of a service are those that its callers saw; only
// without any, what the service itself reported. Of an edge they are those of the best
// kind of evidence it has: access log, then mesh metric, then spans, then connections,
// so that a request which two sources report counts once.
//
// The zero value is not usable; see NewSeries. A frozen copy shares chunks with its
// origin, which copies a track or chunk before it writes to it again.
type Series struct {
	index      map[trackKey]int32
	callers    map[mesh.Service][]mesh.Service
	tracks     []*track
	clock      int64 // Unix seconds of the last Advance, 0 = never
	generation uint64
	shared     bool // index and callers belong to a frozen copy too
	dropped    uint64
}

// family tells apart tracks of the same name, best evidence of an edge first.
type family uint8

const (
	byLog family = iota
	byMetric
	bySpan
	byConnection
	byServer   // of a service, as it reported itself
	byInstance // of an instance of a service, as callers saw it
)

// edgeFamilyCount is how many families an edge has; they come first.
const edgeFamilyCount = 4

// edgeFamilies lists the families of an edge, the best first.
func edgeFamilies() [edgeFamilyCount]family {
	return [...]family{byLog, byMetric, bySpan, byConnection}
}

// sampled reports whether the figures of an edge may be a sample of its calls, or
// connections that stand for many.
func (k family) sampled() bool { return k != byLog && k != byMetric }

type trackKey struct {
	family family
	from   string // caller; UID for byInstance; "" for byServer
	callee mesh.Service
}

// track is the ring of one edge, service or instance.
type track struct {
	last       int64  // latest second that was written
	generation uint64 // of the Series in which it was last copied
	chunks     [chunkCount]*chunk
	open       *chunk              // of chunks, the one that was written last; nil if it is not known
	places     [trackPlaces]uint16 // in open, by the end of its key, a cell that may be there
}

// trackPlaces is how many cells of a track are found without a search.
const trackPlaces = 64

// chunk is what happened in chunkSeconds, in one piece of memory: a quiet edge costs
// little of it, and a window is summed without looking for each second.
type chunk struct {
	start      int64  // Unix second of its first
	generation uint64 // of the Series in which cells were last copied
	cells      []cell // sorted by key
}

// cell counts the calls of one second and bucket, or its failures.
type cell struct {
	key   cellKey
	count uint32
}

// cellKey is a second of the chunk and a bucket of a Histogram, or failureBucket.
type cellKey uint16

const (
	keyShift      = 10              // of the second in a cellKey
	failureBucket = 1<<keyShift - 1 // in place of a bucket: failures, which the buckets count too
)

// keyOf returns the key of bucket in a second of the chunk.
func (c *chunk) keyOf(second int64, bucket uint16) cellKey {
	return cellKey(second-c.start)<<keyShift | cellKey(bucket)
}

// Tick sums what happened in one second, or in a window of several.
type Tick struct {
	Requests, Errors uint64
	Hist             *Histogram // latencies of Requests; the caller's own copy
}

// ErrorShare returns Errors as a share of Requests, 0 without any.
func (t Tick) ErrorShare() float64 {
	if t.Requests == 0 {
		return 0
	}
	return float64(t.Errors) / float64(t.Requests)
}

// P99 returns the 99th percentile of the latencies, 0 without any.
func (t Tick) P99() time.Duration {
	if t.Hist == nil {
		return 0
	}
	return t.Hist.Quantile(0.99)
}

// NewSeries returns an empty series.
func NewSeries() *Series {
	return &Series{
		index: map[trackKey]int32{}, callers: map[mesh.Service][]mesh.Service{}, generation: 1,
	}
}

// Advance tells s the present time: calls that end more than MaxAhead later, or more
// than Retention earlier, are dropped and counted. Before the first Advance every time
// is accepted.
func (s *Series) Advance(now time.Time) { s.clock = max(s.clock, now.Unix()) }

// Dropped returns how many calls were too old, too far ahead or over MaxTracks.
func (s *Series) Dropped() uint64 { return s.dropped }

// Record adds c to its edge (or, without a caller, to what the callee reports of
// itself) and to its instance. Calls that only show existence are ignored.
func (s *Series) Record(c Call) {
	if c.Existence || !s.timely(c.At.Unix()) {
		return
	}
	kind := familyOf(&c)
	id := s.track(trackKey{kind, string(c.Caller), c.Callee})
	s.write(id, &c)
	s.recordInstance(kind, c.Instance, &c)
}

// familyOf returns the family of the track that c belongs to.
func familyOf(c *Call) family {
	switch {
	case c.Caller == "":
		return byServer
	case c.Connection:
		return byConnection
	case c.Source == AccessLog:
		return byLog
	case c.Source == MeshMetric:
		return byMetric
	}
	return bySpan
}

// recordInstance adds c, which is of kind, to the instance of its callee.
func (s *Series) recordInstance(kind family, instance string, c *Call) {
	if instance != "" && (kind == byLog || kind == byConnection) {
		s.write(s.track(trackKey{byInstance, instance, c.Callee}), c)
	}
}

// timely reports whether second is neither too old nor too far ahead; if it is, the
// call is counted as dropped.
func (s *Series) timely(second int64) bool {
	ahead := second - s.clock
	if s.clock != 0 && (ahead > int64(MaxAhead/time.Second) || ahead <= -int64(Retention/time.Second)) {
		s.dropped++
		return false
	}
	return true
}

// track returns the track of key, new if need be; -1 if the table is full.
func (s *Series) track(key trackKey) int32 {
	if id, known := s.index[key]; known {
		return id
	}
	if len(s.tracks) == MaxTracks {
		return -1
	}
	return s.insert(key)
}

// write adds c to the tick of its second of a track; what has none is counted as
// dropped.
func (s *Series) write(id int32, c *Call) {
	if id < 0 {
		s.dropped++
		return
	}
	t := s.tracks[id]
	if t.generation != s.generation {
		private := *t
		private.generation = s.generation
		t = &private
		s.tracks[id] = t
	}
	second := c.At.Unix()
	at := t.writable(second, s.generation)
	if at == nil {
		s.dropped++
		return
	}
	t.last = max(t.last, second)
	n := c.weight()
	key := at.keyOf(second, bucketOf(c.Latency))
	place := &t.places[key%trackPlaces]
	if i := int(*place); i < len(at.cells) && at.cells[i].key == key {
		at.cells[i].count = saturate(at.cells[i].count, n)
	} else {
		*place = uint16(at.add(key, n))
	}
	if c.Failed {
		at.add(at.keyOf(second, failureBucket), n)
	}
}

// insert gives key a track.
func (s *Series) insert(key trackKey) int32 {
	if s.shared {
		s.index, s.callers, s.shared = maps.Clone(s.index), maps.Clone(s.callers), false
	}
	id := int32(len(s.tracks))
	s.index[key] = id
	s.tracks = append(s.tracks, &track{generation: s.generation})
	caller := mesh.Service(key.from)
	if key.family <= byConnection && !slices.Contains(s.callers[key.callee], caller) {
		s.callers[key.callee] = append(s.callers[key.callee], caller)
	}
	return id
}

// writable returns the chunk of second, private to generation, nil if that second has
// already left the ring.
func (t *track) writable(second int64, generation uint64) *chunk {
	if c := t.open; c != nil && c.generation == generation && uint64(second-c.start) < chunkSeconds {
		return c
	}
	t.open = t.turn(second, generation)
	return t.open
}

// turn is writable for another chunk than the last one.
func (t *track) turn(second int64, generation uint64) *chunk {
	start := second - mod(second, chunkSeconds)
	slot := mod(start/chunkSeconds, chunkCount)
	have := t.chunks[slot]
	switch {
	case have == nil || have.start < start:
		have = &chunk{start: start, generation: generation}
		t.chunks[slot] = have
	case have.start > start:
		return nil
	case have.generation != generation:
		have = &chunk{start: start, generation: generation, cells: slices.Clone(have.cells)}
		t.chunks[slot] = have
	}
	return have
}

// find returns where key is in the cells, or would be.
func (c *chunk) find(key cellKey) int {
	low, n := 0, len(c.cells)
	for n > 1 { // without a branch on what is compared: latencies cannot be foretold
		half := n / 2
		above := low + half
		if c.cells[above-1].key >= key {
			above = low
		}
		low = above
		n -= half
	}
	if n == 1 && c.cells[low].key < key {
		low++
	}
	return low
}

// add counts n at key and returns where that is in the cells.
func (c *chunk) add(key cellKey, n uint64) int {
	at := c.find(key)
	if at == len(c.cells) || c.cells[at].key != key {
		c.cells = slices.Insert(c.cells, at, cell{key: key})
	}
	c.cells[at].count = saturate(c.cells[at].count, n)
	return at
}

// Freeze returns a copy of s that later writes to s do not change. It costs one
// pointer a track; tracks and chunks are copied when they are next written.
func (s *Series) Freeze() *Series {
	frozen := *s
	frozen.tracks = slices.Clone(s.tracks)
	frozen.shared, s.shared = true, true
	s.generation++
	frozen.generation = 0 // a frozen copy is never written, see Record's owner
	return &frozen
}

// saturate adds n to a counter that stops at its greatest value.
func saturate(counter uint32, n uint64) uint32 {
	return counter + uint32(min(n, uint64(^uint32(0)-counter)))
}

// mod is the remainder that is never negative.
func mod(a, b int64) int64 { return ((a % b) + b) % b }
