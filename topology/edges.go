package topology

import (
	"math"
	"math/bits"
	"time"
)

// Marks of an edge; the low bits are the kinds of evidence that it ever had.
const (
	markObserved       = byte(Span | AccessLog | MeshMetric)
	markDeclared       = byte(Declared)
	markDeclaredSticky = byte(1 << 4)
	markLearnedSticky  = byte(1 << 5)
	markDoubted        = byte(1 << 6) // declared, but not yet again by the Register under way
	markExists         = markObserved | markDeclared | markLearnedSticky
	markSticky         = markDeclaredSticky | markLearnedSticky
)

// edgeTable holds what is known of ordered pairs of nodes, by number of edge. Pairs and
// marks stand apart from the figures, so that a rebuild reads only the former.
type edgeTable struct {
	pairs   []uint64 // caller<<32 | callee
	marks   []byte
	slots   []int32 // hash table of 1 + number of edge, 0 = free; a power of two
	figures []*figureChunk
	round   uint64 // of share: a chunk of an earlier one belongs to snapshots too
}

// figureChunk holds the figures of consecutive edges; nil is all zero.
type figureChunk struct {
	round   uint64
	figures [chunkFigures]figure
}

const (
	chunkFigures = 64
	firstSlots   = 64
)

// figure is what was counted on one edge.
type figure struct {
	counts      [evidenceKinds]count
	first, last int64                  // Unix nanoseconds of a call, 0 = none
	tracks      [edgeFamilyCount]int32 // 1 + track in the Series, 0 = not looked up
}

// count is calls and errors by one kind of evidence.
type count struct{ calls, errors uint64 }

// share returns errors as a share of calls, 0 without any.
func (c count) share() float64 { return Tick{Requests: c.calls, Errors: c.errors}.ErrorShare() }

// Kinds of evidence that count calls, the best first: an edge's figures are those of
// the first that has any, so that what two sources report counts once.
const (
	countLog = iota
	countMetric
	countSpan
	countConnection
	evidenceKinds
)

// best returns the counts of the best kind of evidence that has any.
func (f *figure) best() count {
	for i := range f.counts {
		if f.counts[i].calls > 0 {
			return f.counts[i]
		}
	}
	return count{}
}

func newEdgeTable() edgeTable { return edgeTable{slots: make([]int32, firstSlots), round: 1} }

func (t *edgeTable) len() int { return len(t.pairs) }

// slot returns where the search for a pair begins. Numbers are given out by us, so that
// nobody can aim at one slot.
func (t *edgeTable) slot(pair uint64) uint64 {
	const golden = 0x9e3779b97f4a7c15
	return pair * golden >> (64 - bits.Len(uint(len(t.slots)-1)))
}

// find returns the edge from -> to, -1 if there is none.
func (t *edgeTable) find(from, to int32) int32 {
	pair := uint64(from)<<32 | uint64(to)
	for at := t.slot(pair); ; at = (at + 1) & uint64(len(t.slots)-1) {
		e := t.slots[at] - 1
		if e < 0 || t.pairs[e] == pair {
			return e
		}
	}
}

// add appends the edge from -> to, which is not there.
func (t *edgeTable) add(from, to int32) int32 {
	if 4*len(t.pairs) >= 3*len(t.slots) {
		t.slots = make([]int32, 2*len(t.slots))
		for e, pair := range t.pairs {
			t.insert(pair, int32(e))
		}
	}
	e := int32(len(t.pairs))
	pair := uint64(from)<<32 | uint64(to)
	t.pairs = append(t.pairs, pair)
	t.marks = append(t.marks, 0)
	t.insert(pair, e)
	return e
}

// insert puts an edge into the first free slot.
func (t *edgeTable) insert(pair uint64, e int32) {
	at := t.slot(pair)
	for t.slots[at] != 0 {
		at = (at + 1) & uint64(len(t.slots)-1)
	}
	t.slots[at] = e + 1
}

// figure returns the figures of e to be written: snapshots do not see it.
func (t *edgeTable) figure(e int32) *figure {
	at := int(e) / chunkFigures
	for at >= len(t.figures) {
		t.figures = append(t.figures, nil)
	}
	chunk := t.figures[at]
	switch {
	case chunk == nil:
		chunk = &figureChunk{round: t.round}
		t.figures[at] = chunk
	case chunk.round != t.round:
		private := *chunk
		private.round = t.round
		chunk = &private
		t.figures[at] = chunk
	}
	return &chunk.figures[int(e)%chunkFigures]
}

// share returns the figures for a snapshot; chunks are copied when they are next
// written.
func (t *edgeTable) share() []*figureChunk {
	t.round++
	return append([]*figureChunk(nil), t.figures...)
}

// figureOf returns the figures of e, nil if nothing was ever counted.
func figureOf(figures []*figureChunk, e int32) *figure {
	at := int(e) / chunkFigures
	if at >= len(figures) || figures[at] == nil {
		return nil
	}
	return &figures[at].figures[int(e)%chunkFigures]
}

// doubtDeclared marks all declared edges; what is declared again loses the mark.
func (t *edgeTable) doubtDeclared() {
	for e, m := range t.marks {
		if m&markDeclared != 0 {
			t.marks[e] = m | markDoubted
		}
	}
}

// unixNano returns t in Unix nanoseconds, at most the greatest and never 0.
func unixNano(t time.Time) int64 {
	const last = math.MaxInt64 / int64(time.Second)
	switch second := t.Unix(); {
	case second >= last:
		return math.MaxInt64
	case second < -last:
		return math.MinInt64
	}
	if at := t.UnixNano(); at != 0 {
		return at
	}
	return 1
}

// timeOf is the reverse of unixNano; 0 is the zero time.
func timeOf(nanoseconds int64) time.Time {
	if nanoseconds == 0 {
		return time.Time{}
	}
	return time.Unix(0, nanoseconds).UTC()
}
