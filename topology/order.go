package topology

import (
	"cmp"
	"slices"

	"github.com/sluicemesh/sluice/mesh"
)

// restartSet returns the closure of nodes over whole components and sticky callers:
// whatever restarts takes these with it. Sorted. marked is empty, before and after.
func (s *structure) restartSet(nodes []int32, marked marks) []int32 {
	var set []int32
	join := func(v int32) {
		for _, peer := range s.peers(v) {
			if marked.add(peer) {
				set = append(set, peer)
			}
		}
	}
	for _, v := range nodes {
		join(v)
	}
	for at := 0; at < len(set); at++ {
		v := set[at]
		for _, e := range s.entering(v) {
			if s.sticky(e.edge) {
				join(e.caller)
			}
		}
	}
	marked.removeAll(set)
	slices.Sort(set)
	return set
}

// drainOrder sorts set so that callers come before what they reach, also through
// services outside set. Of a component those with callers from outside come first, and
// names break ties, so that the order depends on nothing but the paths inside the
// graph. Its reverse is the order of restarts and restores. above holds all that reach set:
// no path between two of set leaves it.
func (s *structure) drainOrder(set []int32, above marks) []int32 {
	if len(set) < 2 {
		return slices.Clone(set)
	}
	pending := make([]int, len(set)) // callers of each that are not yet in order
	below := make([][]int, len(set))
	reached, queue := newMarks(len(s.names)), make([]int32, 0, len(set))
	for i, v := range set {
		queue = s.reachTo(v, above, reached, queue[:0])
		for j, w := range set {
			if s.component[v] != s.component[w] && reached.has(w) {
				below[i] = append(below[i], j)
				pending[j]++
			}
		}
		for _, w := range queue {
			reached.remove(w)
		}
	}
	order := make([]int32, 0, len(set))
	for range set {
		best := -1
		for i, v := range set {
			if pending[i] == 0 && (best < 0 || s.drainsBefore(v, set[best])) {
				best = i
			}
		}
		order = append(order, set[best])
		pending[best] = -1
		for _, j := range below[best] {
			pending[j]--
		}
	}
	return order
}

// drainsBefore breaks the tie between two services neither of which must precede.
func (s *structure) drainsBefore(v, w int32) bool {
	return cmp.Or(
		cmp.Compare(s.peers(v)[0], s.peers(w)[0]),
		cmp.Compare(s.entryRank(v), s.entryRank(w)),
		cmp.Compare(v, w)) < 0
}

// entryRank is 0 for a node with a caller outside its component, else 1.
func (s *structure) entryRank(v int32) int {
	for _, e := range s.entering(v) {
		if s.component[e.caller] != s.component[v] {
			return 0
		}
	}
	return 1
}

// reach marks all that v reaches by calls, v included.
func (s *structure) reach(v int32) marks {
	marked := newMarks(len(s.names))
	marked.add(v)
	queue := []int32{v}
	for at := 0; at < len(queue); at++ {
		u := queue[at]
		for _, e := range s.leaving(u) {
			if marked.add(e.callee) {
				queue = append(queue, e.callee)
			}
		}
	}
	return marked
}

// reachTo marks what v reaches by calls within some nodes, v included, and returns it in
// queue.
func (s *structure) reachTo(v int32, within, marked marks, queue []int32) []int32 {
	marked.add(v)
	queue = append(queue, v)
	for at := 0; at < len(queue); at++ {
		for _, e := range s.leaving(queue[at]) {
			if within.has(e.callee) && marked.add(e.callee) {
				queue = append(queue, e.callee)
			}
		}
	}
	return queue
}

// outsideCallers counts the distinct direct callers of set, which is sorted, that are not
// in it.
func (s *structure) outsideCallers(set []int32) int {
	var callers []int32
	for _, v := range set {
		for _, e := range s.entering(v) {
			if _, inside := slices.BinarySearch(set, e.caller); !inside {
				callers = append(callers, e.caller)
			}
		}
	}
	slices.Sort(callers)
	return len(slices.Compact(callers))
}

// groupOf fills in everything about a group that follows from its restart set. watch
// holds the other members; why the edges that brought a member in.
func (s *Snapshot) groupOf(symptom mesh.Service, why map[int32][]int32, watch, restart []int32) Group {
	above, blast := s.callersOf(restart)
	order := s.drainOrder(restart, above)
	group := Group{
		Symptom: symptom, Epoch: s.epoch,
		RestartSet: s.named(restart), DrainOrder: s.named(order),
		FanIn: s.outsideCallers(restart),
	}
	slices.Reverse(order)
	group.RestartOrder, group.RestoreOrder = s.named(order), s.named(order)
	group.BlastRadius = s.named(without(blast, restart))
	for _, v := range restart {
		if s.in[v+1]-s.in[v] > DrainFanIn {
			group.DrainRequired = append(group.DrainRequired, s.names[v])
		}
	}
	all := make([]int32, 0, len(watch)+len(restart))
	all = append(append(all, watch...), restart...)
	slices.Sort(all)
	all = slices.Compact(all)
	group.Members = s.membersOf(why, all, restart)
	group.Missed = s.missed(all)
	return group
}

// membersOf lists all, of which restart is a part, each with its reasons: the edges that
// brought it in, or else the sticky and inner edges that tie it to the restart set.
func (s *Snapshot) membersOf(why map[int32][]int32, all, restart []int32) []Member {
	members := make([]Member, 0, len(all))
	for _, v := range all {
		member, reasons := Member{Service: s.names[v], Level: LevelWatch}, why[v]
		if _, inside := slices.BinarySearch(restart, v); inside {
			member.Level = LevelRestart
			reasons = s.couplings(v, restart, slices.Clone(reasons))
		}
		if len(reasons) > 0 {
			slices.Sort(reasons)
			member.Why = s.edgesOf(slices.Compact(reasons))
		}
		members = append(members, member)
	}
	return members
}

// edgesOf returns edges with their figures.
func (s *Snapshot) edgesOf(edges []int32) []Edge {
	var latencies Histogram
	list, scratch := make([]Edge, len(edges)), Tick{Hist: &latencies}
	for n, i := range edges {
		list[n] = s.edge(i, &scratch)
	}
	return list
}

// couplings appends the sticky and inner edges from v to others of restart, sorted.
func (s *structure) couplings(v int32, restart, to []int32) []int32 {
	for i := s.out[v]; i < s.out[v+1]; i++ {
		callee := s.edges[i].callee
		if v == callee || !s.sticky(i) && s.component[v] != s.component[callee] {
			continue
		}
		if _, inside := slices.BinarySearch(restart, callee); inside {
			to = append(to, i)
		}
	}
	return to
}
