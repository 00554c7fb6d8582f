package explore

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/microkernel"
)

// Drill is a line of moves through a world, to be crashed at each of its boundaries.
type Drill struct {
	Setup Setup
	Cues  []Cue // trouble and acts of people on the line, in order
}

// Cue is a move that is made as soon as it can be once another has been made.
type Cue struct{ After, Take string }

// Drills returns lines that together take every action, and every way to end.
func Drills() []Drill {
	all := Setups()
	setup := func(name string) Setup {
		return all[slices.IndexFunc(all, func(s Setup) bool { return s.Name == name })]
	}
	seven := Setup{
		Name: "seven actions", What: "all seven actions in one plan beside a limit", Replicas: 1,
		Plans: [2]isa.Program{everything("a"), limit("b", web)},
	}
	return []Drill{
		{Setup: seven},
		{Setup: seven, Cues: []Cue{{"answer to Reboot", "harm"}}},
		{Setup: setup("nested")},
		{Setup: setup("nested"), Cues: []Cue{{"cart-0 is up", "restart failed"}}},
		{Setup: setup("both")},
		{Setup: setup("rolling")},
		{Setup: setup("rolling"), Cues: []Cue{{"cart-0 is up", "abort"}}},
		{Setup: setup("overlapping"), Cues: []Cue{{"proof", "restart failed"}}},
		{Setup: setup("one of two"), Cues: []Cue{{"answer to Reboot", "withdrawal refused for good"}}},
		{Setup: setup("limits"), Cues: []Cue{{"answer to SetReplicas", "harm"}}},
		{Setup: setup("rollback"), Cues: []Cue{{"answer to SetRevision", "harm"}}},
		{Setup: setup("await")},
		{Setup: setup("held"), Cues: []Cue{{"propose", "approve by olga"}}},
	}
}

// Boundaries is what a drill came across.
type Boundaries struct {
	Line      int // moves of the line without a crash
	Cues      int // that were taken on it
	Once      int // boundaries at which it was crashed
	Twice     int // pairs of boundaries at which it was crashed
	Replays   int // of a journal, compared with the state that was lost
	Restarts  int // carried out, over all lines
	Scales    int // and revisions
	Overlays  int // put up
	Lost      int // plans, restarts or undos that were forgotten
	Doubled   int // restarts that were carried out twice
	Phases    map[microkernel.Phase]int
	Violation string
	Path      []string
}

// Run crashes the control plane at every boundary of the line: before the event of each
// move is durable, after it, after each of its effects, and after what the world does by
// itself; for a moment, and for longer than every lease. In each recovery it crashes it
// again, at every boundary of the first within events, for a moment; 0 = to the end, and for
// longer, too.
func (d Drill) Run(within int) Boundaries {
	x := &search{setup: &d.Setup, rules: microkernel.Invariants(), drill: true, result: NewResult()}
	r := &drilled{search: x, cues: d.Cues, within: within, out: Boundaries{Phases: map[microkernel.Phase]int{}}}
	x.left = Budget{Crashes: 2, Faults: 99, Acts: 99, Harms: 99}
	first := x.start()
	first.base = first.kernel
	r.line(first, trail{})
	return r.out
}

// drilled is a drill under way.
type drilled struct {
	search *search
	cues   []Cue
	within int
	out    Boundaries
}

// trail is where a line stands.
type trail struct {
	path   []string
	cue    int  // the next
	ready  bool // the move that it waits for has been made
	events int  // of the kernel since the first crash
}

// maxLine bounds a line.
const maxLine = 2000

// line makes one move after the other until every plan has ended.
func (r *drilled) line(n *node, at trail) {
	for step := 0; !n.ended(); step++ {
		m, found := r.pick(n, &at)
		if !found || step > maxLine {
			r.fail("I5: the plans do not end", at.path)
			return
		}
		if r.crashable(n, &at) {
			r.crash(n, at, false, "crash")
			if r.within == 0 || n.left.Crashes == 2 {
				r.crash(n, at, true, "crash with a long outage")
			}
		}
		n = r.move(n, m, &at)
		if r.out.Violation != "" {
			return
		}
	}
	r.end(n, &at)
}

// crashable reports whether another crash belongs to the drill here.
func (r *drilled) crashable(n *node, at *trail) bool {
	return !n.down && (n.left.Crashes == 2 || n.left.Crashes == 1 && (r.within == 0 || at.events < r.within))
}

// move makes a move, and the crashes within it.
func (r *drilled) move(n *node, m move, at *trail) *node {
	c := n.clone()
	if m.change != nil {
		m.change(c)
	}
	kids := []child{{node: c, name: m.spell}}
	if m.event != nil {
		allowed := r.crashable(c, at)
		if !allowed {
			c.left.Crashes -= 2 // none for now
		}
		kids = r.search.deliver(c, m)
		if !allowed {
			kids[len(kids)-1].node.left.Crashes += 2
		}
		if n.left.Crashes < 2 {
			at.events++
		}
	}
	last := kids[len(kids)-1]
	for _, k := range kids[:len(kids)-1] {
		r.recover(k.node, *at, k.name(), k.why)
	}
	at.path = append(at.path[:len(at.path):len(at.path)], last.name())
	if n.left.Crashes == 2 {
		r.out.Line++
	}
	if why := cmp.Or(last.why, r.search.broken(last.node)); why != "" {
		r.fail(why, at.path)
	}
	return last.node
}

// pick returns the cue's move if it can be made, else the first that is no trouble.
func (r *drilled) pick(n *node, at *trail) (move, bool) {
	moves := r.search.moves(n)
	if at.cue < len(r.cues) && at.ready {
		if i := slices.IndexFunc(moves, func(m move) bool { return m.name == r.cues[at.cue].Take }); i >= 0 {
			at.cue, at.ready = at.cue+1, false
			return moves[i], true
		}
	}
	i := slices.IndexFunc(moves, func(m move) bool { // who proposes waits until somebody takes it
		return m.fair && (m.name != "propose" || !n.kernel.Recovering())
	})
	if i < 0 {
		return move{}, false
	}
	if at.cue < len(r.cues) && moves[i].name == r.cues[at.cue].After {
		at.ready = true
	}
	return moves[i], true
}

// crash ends the process of n, as it stands.
func (r *drilled) crash(n *node, at trail, long bool, name string) {
	c := n.clone()
	c.crash()
	if long {
		c.pass(c.now.Add(longOutage))
	}
	r.recover(c, at, name, "")
}

// recover replays the journal of a node that has crashed, and goes on with its line. It
// starts from what the recovery before it replayed, from nothing in the end.
func (r *drilled) recover(n *node, at trail, name, why string) {
	if r.out.Violation != "" {
		return
	}
	at.path = append(at.path[:len(at.path):len(at.path)], name)
	if n.left.Crashes == 1 {
		r.out.Once++
	} else {
		r.out.Twice++
	}
	again := n.base
	for _, ev := range n.journal {
		again, _ = microkernel.Step(again, ev)
	}
	r.out.Replays++
	if new(microkernel.Likenesses).Of(again) != r.search.likes.Of(n.kernel) {
		why = cmp.Or(why, "I6: replay does not yield the live state")
	}
	n.kernel, n.base, n.journal = again, again, nil
	if why != "" {
		r.fail(why, at.path)
		return
	}
	r.line(n, at)
}

// end counts what a line did.
func (r *drilled) end(n *node, at *trail) {
	if n.left.Crashes == 2 {
		r.out.Cues = at.cue
	}
	r.out.Restarts += len(n.reboots)
	r.out.Scales += len(n.formers)
	for _, rec := range n.kernel.Records() {
		r.out.Phases[rec.Phase]++
		for i := range rec.Steps {
			if rec.Steps[i].Generation != 0 {
				r.out.Overlays++
			}
		}
	}
	if why := n.accounted(); why != "" {
		r.fail(why, at.path)
	}
}

func (r *drilled) fail(why string, path []string) {
	if r.out.Violation != "" {
		return
	}
	r.out.Violation, r.out.Path = why, path
	if why[:2] == "I6" {
		r.out.Doubled++
	} else {
		r.out.Lost++
	}
}

// accounted says which effect the records of ended plans have lost, "" if none: what was
// restarted is told by its step, what is told was done, and what was undone is as it was.
func (n *node) accounted() string {
	for _, r := range n.reboots {
		rec, _ := n.kernel.Record(r.plan)
		if !slices.ContainsFunc(rec.Steps, func(s microkernel.StepRecord) bool { return s.Step.ID == r.step && s.Old == r.ref }) {
			return fmt.Sprintf("I8: the restart of %s for %s/%s is in no record", r.ref.UID, r.plan, r.step)
		}
	}
	for _, rec := range n.kernel.Records() {
		for i := range rec.Steps {
			if why := n.done(&rec, &rec.Steps[i]); why != "" {
				return why
			}
		}
	}
	return ""
}

// done compares what the record of a step says with the world.
func (n *node) done(rec *microkernel.Record, s *microkernel.StepRecord) string {
	confirmed, undone := s.State == microkernel.StepConfirmed, s.State == microkernel.StepUndone
	name := string(rec.ID) + "/" + string(s.Step.ID)
	switch a := s.Step.Action.(type) {
	case isa.Restart:
		carried := slices.ContainsFunc(n.reboots, func(r reboot) bool { return r.plan == rec.ID && r.step == s.Step.ID })
		if confirmed && !carried {
			return "I8: " + name + " is confirmed, and nothing was restarted"
		}
	case isa.Scale:
		i := slices.IndexFunc(n.formers, func(f former) bool { return f.plan == rec.ID && f.step == s.Step.ID })
		if confirmed && n.replicas[place(a.Target.Service)] != a.Replicas ||
			undone && i >= 0 && n.replicas[place(a.Target.Service)] != n.formers[i].replicas {
			return "I5: " + name + " is " + string(s.State) + ", and the number of replicas is another"
		}
	case isa.RollbackConfig:
		if confirmed && !n.revised || undone && n.revised {
			return "I5: " + name + " is " + string(s.State) + ", and the revision is another"
		}
	}
	return ""
}
