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

// rows fills in the rows of s, each sorted, by three passes of counting sort: by callee
// in any order, from there by caller, from there by callee again.
func (b *builder) rows(s *structure, edges *edgeTable, renumber []int32) {
	n := len(s.names)
	s.out, s.in = make([]int32, n+1), make([]int32, n+1)
	total := 0
	for e, pair := range edges.pairs {
		from, to := renumber[pair>>32], renumber[uint32(pair)]
		if edges.marks[e]&markExists != 0 && from >= 0 && to >= 0 {
			s.out[from+1]++
			s.in[to+1]++
			total++
		}
	}
	for v := range n {
		s.out[v+1] += s.out[v]
		s.in[v+1] += s.in[v]
	}
	s.callee, s.source, s.marks = make([]int32, total), make([]int32, total), make([]byte, total)
	s.into, s.callers = make([]int32, total), make([]int32, total)
	next := b.next[:n]
	copy(next, s.in)
	for e, pair := range edges.pairs {
		from, to := renumber[pair>>32], renumber[uint32(pair)]
		if edges.marks[e]&markExists != 0 && from >= 0 && to >= 0 {
			at := next[to]
			next[to]++
			s.callers[at], s.into[at] = from, int32(e) // for now; see sortInto
		}
	}
	b.sortOut(s)
	b.sortInto(s, edges.marks)
}

// sortOut fills callee and source from edges that are sorted by callee: into holds their
// numbers in the Graph.
func (b *builder) sortOut(s *structure) {
	next := b.next[:len(s.names)]
	copy(next, s.out)
	for v := range s.names {
		for at := s.in[v]; at < s.in[v+1]; at++ {
			from := s.callers[at]
			to := next[from]
			next[from]++
			s.callee[to], s.source[to] = int32(v), s.into[at]
		}
	}
}

// sortInto fills into, callers and marks from callee and source.
func (b *builder) sortInto(s *structure, marks []byte) {
	next := b.next[:len(s.names)]
	copy(next, s.in)
	for v := range s.names {
		for i := s.out[v]; i < s.out[v+1]; i++ {
			to := s.callee[i]
			at := next[to]
			next[to]++
			s.into[at], s.callers[at] = i, int32(v)
			s.marks[i] = marks[s.source[i]]
		}
	}
}

// step is a node on the path of the search.
type step struct {
	node, next, end int32 // the edges next to end are still to be followed
	order, low      int32 // when it was visited; the earliest that it reaches
}

// components numbers the strongly connected components: Pearce's form of Tarjan's
// algorithm (Information Processing Letters 116, 2016) with an explicit path. index is 0
// for a node not yet visited, then the earliest node on the path that it is known to
// reach, then, counted down from the number of nodes and so above all orders, its
// component. A component is numbered when all that it reaches are, so callees have lower
// numbers than their callers.
func (b *builder) components(s *structure) {
	n := int32(len(s.names))
	index, stack := b.index[:n], b.stack[:n]
	clear(index)
	path, visited, left, top := b.path[:0], int32(0), n, int32(0)
	for root := range n {
		if index[root] != 0 {
			continue
		}
		visited++
		index[root] = visited
		path = append(path, step{root, s.out[root], s.out[root+1], visited, visited})
		for len(path) > 0 {
			at := &path[len(path)-1]
			for ; at.next < at.end; at.next++ {
				w := s.callee[at.next]
				if index[w] == 0 {
					break
				}
				at.low = min(at.low, index[w])
			}
			if at.next < at.end {
				w := s.callee[at.next]
				visited++
				index[w] = visited
				path = append(path, step{w, s.out[w], s.out[w+1], visited, visited})
				continue
			}
			v, low := at.node, at.low
			if low == at.order {
				for top > 0 && index[stack[top-1]] >= low {
					top--
					visited--
					index[stack[top]] = left
				}
				visited--
				index[v] = left
				left--
			} else {
				index[v], stack[top] = low, v
				top++
			}
			path = path[:len(path)-1]
			if len(path) > 0 && low < at.order {
				above := &path[len(path)-1]
				above.low = min(above.low, low)
			}
		}
	}
	b.path = path
	b.group(s, n, n-left)
}

// group takes the numbers of components and lists the members of each.
func (b *builder) group(s *structure, n, count int32) {
	s.component, s.members, s.first = make([]int32, n), make([]int32, n), make([]int32, count+1)
	for v, i := range b.index[:n] {
		s.component[v] = n - i
		s.first[n-i+1]++
	}
	for c := range count {
		s.first[c+1] += s.first[c]
	}
	next := b.next[:count]
	copy(next, s.first)
	for v, c := range s.component {
		s.members[next[c]] = int32(v)
		next[c]++
	}
}

// epoch hashes names, edges and their sticky and declared marks; never change.
// Components follow from the edges, so they need no bytes.
func (b *builder) epoch(s *structure, names *[sha256.Size]byte) {
	sum := sha256.New()
	sum.Write([]byte("sluice topology 2\n"))
	sum.Write(names[:])
	buffer := b.buffer[:0]
	for _, numbers := range [...][]int32{s.out, s.callee} {
		for _, v := range numbers {
			if buffer = binary.LittleEndian.AppendUint32(buffer, uint32(v)); len(buffer) >= hashBuffer {
				sum.Write(buffer)
				buffer = buffer[:0]
			}
		}
	}
	for _, m := range s.marks {
		if buffer = append(buffer, flags(m)); len(buffer) >= hashBuffer {
			sum.Write(buffer)
			buffer = buffer[:0]
		}
	}
	sum.Write(buffer)
	b.buffer = buffer
	s.epoch = "sha256:" + hex.EncodeToString(sum.Sum(nil))
}

// flags returns the marks of an edge as the epoch has them: sticky is 1, declared 2.
func flags(m byte) byte {
	bits := byte(0)
	if m&markSticky != 0 {
		bits = 1
	}
	return bits | m&markDeclared>>2
}
