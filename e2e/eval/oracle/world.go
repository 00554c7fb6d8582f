// Package oracle judges what a recovery does to a mesh of which everything is known: the
// whole call graph, and what each service does when it is stopped. It is the judge of the
// offline evaluation, and stands on its own: it imports nothing of the project, knows
// neither plans nor verdicts, and finds components and paths by itself. It is not for
// deciding anything about a live mesh.
//
// Effects are taken at their worst, and the same for whoever acts:
//
//	every call of the graph is under way at every moment, however rare it is
//	a request that fails at a service fails at its caller, and so on up to the user
//	a caller over a sticky call is broken from its callee's restart until its own
//	members of a component are inconsistent from the first one's restart to the last one's
//	a service calls what it calls while it starts
//
// Harm is any of the kinds of type Why, at a service that the fault alone did not harm as
// much. What is lost only once is harm too. Too little capacity makes requests slow: that
// is harm when it lasts longer than Tolerated, the label of record.
package oracle

// World is the truth: services are numbered, calls join them.
type World struct {
	Services []Service
	Calls    []Call

	in, out   [][]int32 // calls by callee, by caller
	component []int32   // a number for each service; equal within a component
	sizes     []int32   // of components
}

// Service is what is true of one service.
type Service struct {
	Instances int
	Needed    int     // instances that its load keeps busy; fewer are an overload
	Surge     bool    // a rollout starts the new instance before it stops the old one
	Finishes  bool    // when told to stop it ends the requests that it has
	Startup   float64 // seconds from start to ready
	Patience  float64 // seconds that its callers wait for an answer, the least of them
}

// Call is an edge of the call graph.
type Call struct {
	Caller, Callee int32
	Sticky         bool // the caller does not survive a restart of the callee
	Bypass         bool // it does not pass a proxy: overlays do not reach it
}

// Fault is what is wrong before anybody acts.
type Fault struct {
	Service int32
	Share   float64 // of its requests that fail; of 1 nothing more can be lost there
}

// NewWorld returns the world of services and calls, which it keeps.
func NewWorld(services []Service, calls []Call) *World {
	w := &World{Services: services, Calls: calls}
	n := len(services)
	w.in, w.out = make([][]int32, n), make([][]int32, n)
	for i, c := range calls {
		w.in[c.Callee] = append(w.in[c.Callee], int32(i))
		w.out[c.Caller] = append(w.out[c.Caller], int32(i))
	}
	w.components()
	return w
}

// components numbers the strongly connected components by two depth-first searches
// (Kosaraju), without recursion.
func (w *World) components() {
	n := len(w.Services)
	w.component = make([]int32, n)
	seen, finished := make([]bool, n), make([]int32, 0, n)
	type frame struct{ v, next int32 }
	for root := range n {
		if seen[root] {
			continue
		}
		seen[root] = true
		for stack := []frame{{int32(root), 0}}; len(stack) > 0; {
			top := &stack[len(stack)-1]
			if int(top.next) == len(w.out[top.v]) {
				finished = append(finished, top.v)
				stack = stack[:len(stack)-1]
				continue
			}
			callee := w.Calls[w.out[top.v][top.next]].Callee
			top.next++
			if !seen[callee] {
				seen[callee] = true
				stack = append(stack, frame{callee, 0})
			}
		}
	}
	for v := range w.component {
		w.component[v] = -1
	}
	for i := len(finished) - 1; i >= 0; i-- {
		if w.component[finished[i]] < 0 {
			w.sizes = append(w.sizes, w.gather(finished[i], int32(len(w.sizes))))
		}
	}
}

// gather numbers all that reaches v and has no number yet, and counts it.
func (w *World) gather(v, number int32) int32 {
	queue := []int32{v}
	w.component[v] = number
	for at := 0; at < len(queue); at++ {
		for _, i := range w.in[queue[at]] {
			if caller := w.Calls[i].Caller; w.component[caller] < 0 {
				w.component[caller] = number
				queue = append(queue, caller)
			}
		}
	}
	return int32(len(queue))
}

// Component returns the services of v's component, v included, in their order.
func (w *World) Component(v int32) []int32 {
	if w.sizes[w.component[v]] == 1 {
		return []int32{v}
	}
	var members []int32
	for u := range w.Services {
		if w.component[u] == w.component[v] {
			members = append(members, int32(u))
		}
	}
	return members
}

// Callers returns the numbers of the calls that enter v; not to be changed.
func (w *World) Callers(v int32) []int32 { return w.in[v] }

// Callees returns the numbers of the calls that leave v; not to be changed.
func (w *World) Callees(v int32) []int32 { return w.out[v] }

// Above returns all that reach v by calls, v not included unless it is in a cycle with
// others, in which case it is not either.
func (w *World) Above(v int32) []int32 {
	seen := map[int32]bool{v: true}
	queue := []int32{v}
	for at := 0; at < len(queue); at++ {
		for _, i := range w.in[queue[at]] {
			if caller := w.Calls[i].Caller; !seen[caller] {
				seen[caller] = true
				queue = append(queue, caller)
			}
		}
	}
	return queue[1:]
}

// reaches reports whether caller reaches callee by calls.
func (w *World) reaches(caller, callee int32) bool {
	seen := map[int32]bool{caller: true}
	queue := []int32{caller}
	for at := 0; at < len(queue); at++ {
		for _, i := range w.out[queue[at]] {
			next := w.Calls[i].Callee
			if next == callee {
				return true
			}
			if !seen[next] {
				seen[next] = true
				queue = append(queue, next)
			}
		}
	}
	return false
}

// ComponentSize counts the services of v's component.
func (w *World) ComponentSize(v int32) int { return int(w.sizes[w.component[v]]) }
