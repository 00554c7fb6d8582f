package explore

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/sluicemesh/sluice/microkernel"
)

// Result is what an exploration came across.
type Result struct {
	Setup      string
	States     int
	Moves      int
	Depth      int  // of the state that is the farthest from the start
	Ends       int  // states in which every plan has ended
	Whole      bool // there was nothing left to visit
	Violation  string
	Path       []string       // to the state that breaks it, from the start
	Invariants map[string]int // evaluations
	Seen       map[string]int // moves by name
	Phases     map[microkernel.Phase]int
}

// NewResult returns a result to which others can be added.
func NewResult() Result {
	return Result{Invariants: map[string]int{}, Seen: map[string]int{}, Phases: map[microkernel.Phase]int{}}
}

// Explore visits the states of setup within left, at most most of them, breadth first, so
// that a path to a violation is as short as any. It stops at the first violation.
func Explore(setup Setup, left Budget, most int) Result {
	x := &search{
		setup: &setup, left: left, rules: microkernel.Invariants(), known: map[key]int32{}, most: most,
		result: NewResult(),
	}
	x.result.Setup = setup.Name
	x.run()
	x.result.States = len(x.visited)
	return x.result
}

// search is an exploration under way.
type search struct {
	setup   *Setup
	left    Budget
	rules   []microkernel.Invariant
	likes   microkernel.Likenesses
	known   map[key]int32
	visited []visit
	edges   []edge // of fair moves
	queue   []*node
	most    int
	drill   bool // one line of moves, with a journal that is replayed
	result  Result
}

// visit is how a state was first reached.
type visit struct {
	from  int32 // the state before, -1 = none
	child int32 // which of its children
	depth int32
	ended bool
}

type edge struct{ from, to int32 }

// child is a state that one move leads to.
type child struct {
	node *node
	name func() string
	fair bool
	why  string // the invariant that the move itself broke
}

func (x *search) count(invariant string) { x.result.Invariants[invariant]++ }

func (x *search) run() {
	x.visit(x.start(), visit{from: -1}, "")
	for at := 0; at < len(x.queue) && x.result.Violation == "" && len(x.visited) < x.most; at++ {
		n := x.queue[at]
		x.queue[at] = nil
		x.expand(int32(at), n)
	}
	if x.result.Violation == "" && len(x.queue) == len(x.visited) && len(x.visited) < x.most {
		x.result.Whole = true
		x.progress()
	}
}

// start is the state in which nothing has happened yet.
func (x *search) start() *node {
	n := newNode(x.setup, x.left)
	n.like = x.likes.Of(n.kernel)
	return n
}

// expand visits every child of a state.
func (x *search) expand(at int32, n *node) {
	for i, c := range x.children(n) {
		x.result.Moves++
		to := x.visit(c.node, visit{from: at, child: int32(i), depth: x.visited[at].depth + 1}, c.why)
		if x.result.Violation != "" {
			return
		}
		if c.fair {
			x.edges = append(x.edges, edge{at, to})
		}
	}
	x.count("I6")
	if new(microkernel.Likenesses).Of(n.kernel) != n.like {
		x.fail(at, "I6: Step changed the state that it was given")
	}
}

// visit notes a state, and judges it if it is new.
func (x *search) visit(n *node, v visit, why string) int32 {
	k := n.key()
	if at, known := x.known[k]; known && why == "" {
		return at
	}
	at := int32(len(x.visited))
	x.known[k] = at
	v.ended = n.ended()
	x.visited = append(x.visited, v)
	x.queue = append(x.queue, n)
	x.result.Depth = max(x.result.Depth, int(v.depth))
	if v.ended {
		why = cmp.Or(why, n.accounted())
		x.result.Ends++
		for _, rec := range n.kernel.Records() {
			x.result.Phases[rec.Phase]++
		}
	}
	if why = cmp.Or(why, x.broken(n)); why != "" {
		x.fail(at, why)
	}
	return at
}

func (x *search) fail(at int32, why string) {
	if x.result.Violation == "" {
		x.result.Violation, x.result.Path = why, x.path(at)
	}
}

// children makes every move of n, and for each event of the kernel a crash at each
// boundary of it. (A crash before the event is durable loses it: that is a crash in n.)
func (x *search) children(n *node) []child {
	var out []child
	for _, m := range x.moves(n) {
		x.result.Seen[m.name]++
		c := n.clone()
		if m.change != nil {
			m.change(c)
		}
		if m.event == nil {
			out = append(out, child{node: c, name: m.spell, fair: m.fair})
			continue
		}
		out = append(out, x.deliver(c, m)...)
	}
	return out
}

// deliver steps the kernel of c with the event of m.
func (x *search) deliver(c *node, m move) []child {
	ev := m.event(c)
	live := c.clone()
	var effects []microkernel.Effect
	live.kernel, effects = microkernel.Step(c.kernel, ev)
	why := led(ev, live)
	if x.drill {
		live.journal = append(live.journal[:len(live.journal):len(live.journal)], ev)
	} else {
		live.like = x.likes.Of(live.kernel)
		why = cmp.Or(why, x.same(c, ev, live), x.impartial(c, ev, effects))
	}
	var out []child
	for done := range effects {
		if live.left.Crashes > 0 {
			d := live.clone()
			d.crash()
			out = append(out, child{node: d, why: why,
				name: func() string {
					return fmt.Sprintf("%s, then a crash after %d of %d effects", m.spell(), done, len(effects))
				}})
			x.result.Seen["crash between effects"]++
		}
		x.effect(effects[done])
		why = cmp.Or(why, live.perform(effects[done]))
	}
	return append(out, child{node: live, name: m.spell, fair: m.fair, why: why})
}

// led is I7: whoever leads decides in a term of its own.
func led(ev microkernel.Event, live *node) string {
	if l, is := ev.(microkernel.Led); is && live.kernel.Term() != l.Term {
		return fmt.Sprintf("I7: leader of term %d, the kernel goes on in term %d", l.Term, live.kernel.Term())
	}
	return ""
}

// effect counts the evaluations that carrying e out brings.
func (x *search) effect(e microkernel.Effect) {
	judged := []string(nil)
	switch e.(type) {
	case microkernel.Apply:
		judged = []string{"I1", "I4", "I7"}
	case microkernel.Reboot:
		judged = []string{"I1", "I2", "I4", "I6", "I7"}
	case microkernel.SetReplicas:
		judged = []string{"I1", "I4"}
	case microkernel.Finish, microkernel.Answer:
		judged = []string{"I8"}
	}
	for _, name := range judged {
		x.count(name)
	}
}

func (m move) spell() string {
	switch {
	case m.plan == "":
		return m.name
	case m.step == "":
		return m.name + " of " + string(m.plan)
	}
	return m.name + " of " + string(m.plan) + "/" + string(m.step)
}

// path spells the moves that lead to a state, by making them again.
func (x *search) path(at int32) []string {
	var trail []visit
	for v := x.visited[at]; v.from >= 0; v = x.visited[v.from] {
		trail = append(trail, v)
	}
	slices.Reverse(trail)
	again := &search{setup: x.setup, left: x.left, rules: x.rules, result: NewResult()}
	n := x.start()
	var out []string
	for _, v := range trail {
		c := again.children(n)[v.child]
		out = append(out, c.name())
		n = c.node
	}
	return out
}

// progress is I5 on the whole graph: every state has a path of moves without trouble to
// one in which every plan has ended. As every such move stays possible until it is made
// or made needless, a schedule that is fair to all of them ends every plan.
func (x *search) progress() {
	x.result.Invariants["progress"] = len(x.visited)
	slices.SortFunc(x.edges, func(a, b edge) int { return cmp.Compare(a.to, b.to) })
	reaches := make([]bool, len(x.visited))
	var work []int32
	for at := range x.visited {
		if x.visited[at].ended {
			reaches[at] = true
			work = append(work, int32(at))
		}
	}
	for len(work) > 0 {
		to := work[len(work)-1]
		work = work[:len(work)-1]
		i, _ := slices.BinarySearchFunc(x.edges, to, func(e edge, to int32) int { return cmp.Compare(e.to, to) })
		for ; i < len(x.edges) && x.edges[i].to == to; i++ {
			if from := x.edges[i].from; !reaches[from] {
				reaches[from] = true
				work = append(work, from)
			}
		}
	}
	if at := slices.Index(reaches, false); at >= 0 {
		x.fail(int32(at), "I5: from here no fair schedule ends every plan")
	}
}

// Add adds what another exploration came across, but for its violation.
func (r *Result) Add(o *Result) {
	r.States += o.States
	r.Moves += o.Moves
	r.Ends += o.Ends
	r.Depth = max(r.Depth, o.Depth)
	for _, pair := range []struct{ to, from map[string]int }{{r.Invariants, o.Invariants}, {r.Seen, o.Seen}} {
		for name := range maps.Keys(pair.from) {
			pair.to[name] += pair.from[name]
		}
	}
	for phase, count := range o.Phases {
		r.Phases[phase] += count
	}
}
