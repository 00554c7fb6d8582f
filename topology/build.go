package topology

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
)

// builder turns the edges of a Graph into a structure. Its buffers are kept for the next
// build; what goes into the structure is new each time, for snapshots share it.
type builder struct {
	next   []int32 // by node: place of its next edge
	index  []int32 // by node: see components
	stack  []int32
	path   []step
	buffer []byte

	callees, callers []int32 // by edge, on the way from one order to the other: see rows
}

// hashBuffer is how many bytes are hashed at once.
const hashBuffer = 32 << 10

// fit makes the buffers large enough for n nodes.
func (b *builder) fit(n int) {
	if len(b.next) >= n && len(b.next) <= 4*n+firstSlots {
		return
	}
	b.next, b.index, b.stack = make([]int32, n), make([]int32, n), make([]int32, n)
}

// fitEdges makes the buffers large enough for n edges, and some more to come.
func (b *builder) fitEdges(n int) {
	if len(b.callees) >= n && len(b.callees) <= 4*n+firstSlots {
		return
	}
	b.callees, b.callers = make([]int32, n+n/8), make([]int32, n+n/8)
}

// rows fills in the rows of s, each sorted, by three passes of counting sort: by callee
// in any order, from there by caller, from there by callee again. None of them goes by
// rows: rows are short, and where they end cannot be foretold.
func (b *builder) rows(s *structure, table *edgeTable, renumber []int32) {
	n := len(s.names)
	both := make([]int32, 2*n+2)
	out, in := both[:n+1:n+1], both[n+1:]
	total := 0
	pairs := table.pairs
	marks := table.marks[:len(pairs)]
	for e, pair := range pairs {
		from, to := renumber[pair>>32], renumber[uint32(pair)]
		if marks[e]&markExists != 0 && from|to >= 0 {
			out[from+1]++
			in[to+1]++
			total++
		}
	}
	for v := range n {
		out[v+1] += out[v]
		in[v+1] += in[v]
	}
	s.out, s.in = out, in
	s.edges, s.into, s.marks = make([]link, total), make([]entry, total), make([]byte, total)
	b.fitEdges(total)
	next, into := b.next[:n], s.into
	ends := b.callees[:total]
	copy(next, in)
	for e, pair := range pairs {
		from, to := renumber[pair>>32], renumber[uint32(pair)]
		if marks[e]&markExists != 0 && from|to >= 0 {
			at := next[to]
			next[to] = at + 1
			into[at] = entry{edge: int32(e), caller: from} // for now; see sortInto
			ends[at] = to
		}
	}
	b.sortOut(s)
	b.sortInto(s, marks)
}

// sortOut fills edges from into, which is sorted by callee and holds the edges' numbers in
// the Graph.
func (b *builder) sortOut(s *structure) {
	next, edges := b.next[:len(s.names)], s.edges
	callees, callers := b.callees[:len(edges)], b.callers[:len(edges)]
	copy(next, s.out)
	for i, e := range s.into[:len(edges)] {
		at := next[e.caller]
		next[e.caller] = at + 1
		edges[at] = link{callee: callees[i], source: e.edge}
		callers[at] = e.caller
	}
}

// sortInto fills into and marks from edges.
func (b *builder) sortInto(s *structure, marks []byte) {
	next, into := b.next[:len(s.names)], s.into
	callers, own := b.callers[:len(s.edges)], s.marks[:len(s.edges)]
	copy(next, s.in)
	for i, e := range s.edges {
		at := next[e.callee]
		next[e.callee] = at + 1
		into[at] = entry{edge: int32(i), caller: callers[i]}
		own[i] = marks[e.source]
	}
}

// step is a node on the path of the search.
type step struct {
	node, next int32 // the edges from next on are still to be followed
	order, low int32 // when it was visited; the earliest that it reaches
}

// search is the state of one search for components.
type search struct {
	s     *structure
	index []int32
	stack []int32
	path  []step
	top   int   // of stack
	order int32 // of the next visit, but for those that have left
	left  int32 // components are numbered from here downwards
}

// components numbers the strongly connected components. First those nodes are numbered
// from which no cycle is reached, callees first; then, for what is left, by Pearce's form
// of Tarjan's algorithm (Information Processing Letters 116, 2016) with an explicit path.
// index is 0 for a node not yet visited, then the earliest node on the path that it is
// known to reach, then, counted down from the number of nodes and so above all orders,
// its component. A component is numbered when all that it reaches are, so callees have
// lower numbers than their callers.
func (b *builder) components(s *structure) {
	n := int32(len(s.names))
	index := b.index[:n]
	clear(index)
	all := make([]int32, 3*n+1) // one piece of memory for all three
	s.component, s.members, s.first = all[:n:n], all[n:2*n:2*n], all[2*n:]
	left := b.peel(s, index)
	peeled := n - left
	f := search{s: s, index: index, stack: b.stack[:n], path: b.path[:0], left: left}
	if left > 0 {
		for root := range n {
			if index[root] == 0 {
				f.visit(root)
			}
		}
	}
	b.path = f.path
	b.group(s, peeled, n-f.left)
}

// peel numbers the nodes that reach no cycle, each a component of its own, and returns
// the next number.
func (b *builder) peel(s *structure, index []int32) int32 {
	n := int32(len(index))
	waits, queue := b.next[:n], s.members[:0]
	for v := range waits {
		if waits[v] = s.out[v+1] - s.out[v]; waits[v] == 0 {
			queue = append(queue, int32(v))
		}
	}
	for at := 0; at < len(queue); at++ {
		v := queue[at]
		index[v] = n - int32(at)
		s.component[v], s.first[at] = int32(at), int32(at)
		for _, e := range s.entering(v) {
			if waits[e.caller]--; waits[e.caller] == 0 {
				queue = append(queue, e.caller)
			}
		}
	}
	return n - int32(len(queue))
}

// visit numbers all components that root reaches and that have no number yet.
func (f *search) visit(root int32) {
	f.enter(root)
	for len(f.path) > 0 {
		at := &f.path[len(f.path)-1]
		row, down := f.s.edges[at.next:f.s.out[at.node+1]], int32(-1)
		low := at.low
		for i, e := range row {
			reached := f.index[e.callee]
			if reached == 0 {
				at.next += int32(i)
				down = e.callee
				break
			}
			low = min(low, reached)
		}
		at.low = low
		if down >= 0 {
			f.enter(down)
			continue
		}
		f.path = f.path[:len(f.path)-1]
		f.leave(at.node, at.order, low)
	}
}

// enter visits v for the first time.
func (f *search) enter(v int32) {
	f.order++
	f.index[v] = f.order
	f.path = append(f.path, step{node: v, next: f.s.out[v], order: f.order, low: f.order})
}

// leave closes v: if nothing below it reaches above it, it is the root of a component.
func (f *search) leave(v, order, low int32) {
	if low < order {
		f.index[v] = low
		f.stack[f.top] = v
		f.top++
		return
	}
	for f.top > 0 && f.index[f.stack[f.top-1]] >= low {
		f.top--
		f.order--
		f.index[f.stack[f.top]] = f.left
	}
	f.order--
	f.index[v] = f.left
	f.left--
}

// group takes the numbers of components, of which the first were peeled, and lists the
// members of each.
func (b *builder) group(s *structure, peeled, count int32) {
	n := int32(len(s.names))
	s.first = s.first[:count+1]
	s.first[count] = n
	if peeled == n {
		return
	}
	sizes := s.first[peeled+1:]
	clear(sizes)
	for _, i := range b.index[:n] {
		if c := n - i; c >= peeled {
			sizes[c-peeled]++
		}
	}
	s.first[peeled] = peeled
	for c := peeled; c < count; c++ {
		s.first[c+1] += s.first[c]
	}
	next := b.next[:count]
	copy(next, s.first)
	for v, i := range b.index[:n] {
		if c := n - i; c >= peeled {
			s.component[v] = c
			s.members[next[c]] = int32(v)
			next[c]++
		}
	}
}

// epoch hashes names, edges and their sticky and declared marks; never change.
// Components follow from the edges, so they need no bytes.
func (b *builder) epoch(s *structure, names *[sha256.Size]byte) {
	sum := sha256.New()
	sum.Write([]byte("sluice topology 2\n"))
	sum.Write(names[:])
	if b.buffer == nil {
		b.buffer = make([]byte, hashBuffer)
	}
	for rest := s.out; len(rest) > 0; {
		n := min(len(rest), hashBuffer/4)
		for i, v := range rest[:n] {
			binary.LittleEndian.PutUint32(b.buffer[4*i:], uint32(v))
		}
		sum.Write(b.buffer[:4*n])
		rest = rest[n:]
	}
	for rest := s.edges; len(rest) > 0; {
		n := min(len(rest), hashBuffer/4)
		into := b.buffer[:4*n]
		for i, e := range rest[:n] {
			binary.LittleEndian.PutUint32(into[4*i:], uint32(e.callee))
		}
		sum.Write(into)
		rest = rest[n:]
	}
	for rest := s.marks; len(rest) > 0; {
		n := min(len(rest), hashBuffer)
		flags(b.buffer[:n], rest[:n])
		sum.Write(b.buffer[:n])
		rest = rest[n:]
	}
	s.epoch = "sha256:" + hex.EncodeToString(sum.Sum(nil))
}

// flags sets flags to the marks of edges as the epoch has them: sticky is 1, declared 2.
func flags(flags, marks []byte) {
	const ones = 0x0101010101010101 // eight edges at once
	for ; len(marks) >= 8; flags, marks = flags[8:], marks[8:] {
		m := binary.LittleEndian.Uint64(marks)
		binary.LittleEndian.PutUint64(flags, (m>>4|m>>5)&ones|m>>2&(2*ones))
	}
	for i, m := range marks {
		flags[i] = (m>>4|m>>5)&1 | m>>2&2 // markDeclaredSticky or markLearnedSticky; markDeclared
	}
}
