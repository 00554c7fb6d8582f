package isa

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sluicemesh/sluice/mesh"
)

// Validate is the static type checker of programs as written: it returns the faults of p,
// all at once and in the order of its steps, nil if there are none. With a nil env only
// what the program itself and the default limits tell is checked. Positions.Place points
// the faults at the source. What the microkernel must know besides (locks, budgets, proofs,
// the state of now) is not checked here.
func Validate(p Program, env *Env) []Fault { return new(Checker).Validate(&p, env) }

// ValidateExpanded is Validate for what Expand returned, which may be larger.
func ValidateExpanded(p Program, env *Env) []Fault { return new(Checker).ValidateExpanded(&p, env) }

// Checker is Validate and Expand with memory that is used again, for who checks many
// programs: once it is warm, a program without faults costs no allocation to check, nor to
// expand into a Listing. The zero value is ready. A Checker is not safe for concurrent use.
type Checker struct {
	checker  checker
	expander expander
	written  Listing
	expanded Listing
}

// Expand is the function Expand.
func (c *Checker) Expand(p *Program, env *Env) (Program, []Fault) {
	if faults := tooMany(p); len(faults) > 0 {
		return *p, faults
	}
	c.written.read(p)
	if faults := c.expander.expand(&c.written, &c.expanded, env); len(faults) > 0 {
		return *p, faults
	}
	return c.expanded.Program(), c.expander.unique()
}

// Validate is the function Validate.
func (c *Checker) Validate(p *Program, env *Env) []Fault {
	return c.validate(p, env, MaxSteps, maxID)
}

// ValidateExpanded is the function ValidateExpanded.
func (c *Checker) ValidateExpanded(p *Program, env *Env) []Fault {
	return c.validate(p, env, MaxExpandedSteps, maxExpandedID)
}

func (c *Checker) validate(p *Program, env *Env, maxSteps, idLimit int) []Fault {
	defer c.checker.release()
	c.checker.begin(env)
	if faults := limited(p, maxSteps); len(faults) > 0 {
		return faults
	}
	c.written.read(p)
	return c.checker.check(&c.written, idLimit, false)
}

// Compile is Validate, Expand and ValidateExpanded, as far as there are no faults: it
// returns those of the first that has any, and p itself with them.
func (c *Checker) Compile(p *Program, env *Env) (Program, []Fault) {
	listing, faults := c.List(p, env)
	if listing == nil {
		return *p, faults
	}
	return listing.Program(), faults
}

// List is Compile with a Listing, which is valid until c is used again, as are Precedes,
// Follows and Order, which are about its lines. It is nil if p has faults.
func (c *Checker) List(p *Program, env *Env) (*Listing, []Fault) {
	defer c.checker.release()
	c.checker.begin(env)
	if faults := limited(p, MaxSteps); len(faults) > 0 {
		return nil, faults
	}
	c.written.read(p)
	if faults := c.checker.check(&c.written, maxID, false); len(faults) > 0 {
		return nil, faults
	}
	if faults := c.expander.expand(&c.written, &c.expanded, env); len(faults) > 0 {
		return nil, faults
	}
	faults := c.checker.check(&c.expanded, maxExpandedID, true)
	if len(faults) == 0 {
		return &c.expanded, nil
	}
	if twice := c.expander.unique(); len(twice) > 0 {
		return nil, twice // says more than that an id is used twice
	}
	return nil, faults
}

// Precedes reports whether line i is confirmed before line k starts, on every path.
func (c *Checker) Precedes(i, k int) bool { return c.checker.precedes(i, k) }

// Follows returns the lines that line i names in After.
func (c *Checker) Follows(i int) []int { return c.checker.follows(i) }

// Order returns the lines so that each stands behind those that it follows.
func (c *Checker) Order() []int { return c.checker.topo }

// limited refuses a program of more steps than most.
func limited(p *Program, most int) []Fault {
	if len(p.Steps) <= most {
		return nil
	}
	return []Fault{{Code: CodeTooLarge, Path: "steps", Reason: fmt.Sprintf("%d steps", len(p.Steps)),
		Remedy: fmt.Sprintf("at most %d; split the plan", most)}}
}

// check returns the faults of l. If expanded is set, what l was expanded from has just been
// found without fault in the same world: the operands and targets of lines that have the
// very action of a written step are not looked at again.
func (c *checker) check(l *Listing, idLimit int, expanded bool) []Fault {
	c.reset(l, idLimit)
	c.program()
	c.shape()
	for i := range l.Lines {
		if !expanded || l.Lines[i].written == nil {
			c.operands(i)
			c.target(i)
		}
		c.place(i)
	}
	c.collect()
	c.linear()
	if c.ordered {
		c.borrows()
		c.leases()
		c.conflicts()
	}
	if c.env != nil {
		c.world()
	}
	return c.faults()
}

// checker holds one program while it is checked. Its slices and maps are used again for
// the next one.
type checker struct {
	l       *Listing
	env     *Env // nil = only the structure
	limits  Limits
	cast    cast
	idLimit int   // bytes of a step's id
	acting  []int // the number in the cast of the one service that each step is about, -1 if there is none
	found   []finding
	index   names      // the first step of each id
	ordered bool       // ids and After lists make a partial order
	after   []int      // the After lists of all steps as indexes of steps, -1 = unknown
	ends    []int      // ends[i] is where the After list of step i begins in after, ends[i+1] where it ends
	topo    []int      // steps, each behind those that it follows
	words   int        // of a row of before
	before  []uint64   // bit set: row i holds the steps that are confirmed before i starts
	drains  []drainUse // in the order of their steps
	uses    []restartUse
	writers []int // steps that write something which is not a drain
	open    []interval
	stops   []servicePlace // the services that restart, by step
	places  []servicePlace // by name, each once
	met     []uint64       // bit set of services, of restarted
	sets    []int          // the number of the restart set that each place belongs to
	coupled reached
	kin     kinship
	times   []time.Duration // that each step may take
	reach   []time.Duration // of longest
	order   sorting

	namespaces []string // the default limits, made once
	own        []mesh.Service
}

// begin makes c ready for programs in the world of env.
func (c *checker) begin(env *Env) {
	c.env = env
	c.limits = Limits{}
	if env != nil {
		c.limits = env.Limits
	}
	if c.namespaces == nil {
		c.namespaces, c.own = protectedNamespaces(), ownServices()
	}
	if c.limits.ProtectedNamespaces == nil {
		c.limits.ProtectedNamespaces = c.namespaces
	}
	if c.limits.Self == nil {
		c.limits.Self = c.own
	}
	c.limits = c.limits.complete()
	c.cast.begin(env, &c.limits)
}

// reset makes c ready for l.
func (c *checker) reset(l *Listing, idLimit int) {
	c.l, c.idLimit = l, idLimit
	n := len(l.Lines)
	c.index.begin(n)
	c.found, c.drains, c.uses = c.found[:0], c.drains[:0], slices.Grow(c.uses[:0], n)
	c.after, c.ends, c.topo = slices.Grow(c.after[:0], n), slices.Grow(c.ends[:0], n+1), slices.Grow(c.topo[:0], n)
	c.acting, c.writers = slices.Grow(c.acting[:0], n), c.writers[:0]
}

// release lets go of the world, which is the caller's.
func (c *checker) release() {
	c.env = nil
	c.cast.end()
	c.kin.end()
	clear(c.found)
}

// follows returns the steps that step i names in After.
func (c *checker) follows(i int) []int { return c.after[c.ends[i]:c.ends[i+1]] }

// finding is a fault and the step that it sorts with: -1 the program itself.
type finding struct {
	step  int
	fault Fault
}

// faults returns what was found in the order of the steps.
func (c *checker) faults() []Fault {
	if len(c.found) == 0 {
		return nil
	}
	slices.SortStableFunc(c.found, func(a, b finding) int { return cmp.Compare(a.step, b.step) })
	out := make([]Fault, 0, min(len(c.found), maxFaults))
	for _, f := range c.found[:min(len(c.found), maxFaults)] {
		out = append(out, f.fault)
	}
	return out
}

// add reports a fault of step i; operand is the operand's field, "" = the whole step.
func (c *checker) add(i int, operand string, code Code, reason, remedy string) {
	path := itemPath("steps", i)
	ofStep := operand == "id" || strings.HasPrefix(operand, "after")
	if action := c.l.Lines[i].kind(); action != "" && operand != "" && !ofStep {
		path += "." + string(action)
	}
	if operand != "" {
		path += "." + operand
	}
	c.found = append(c.found, finding{i, Fault{Code: code, Path: path, Reason: reason, Remedy: remedy}})
}

// top reports a fault of the program itself.
func (c *checker) top(path string, code Code, reason, remedy string) {
	c.found = append(c.found, finding{-1, Fault{Code: code, Path: path, Reason: reason, Remedy: remedy}})
}

// program checks what is not in the steps.
func (c *checker) program() {
	if reason := idFault(c.l.ID, maxID); reason != "" {
		c.top("id", CodeName, "the plan's id "+quote(c.l.ID)+" "+reason, "give it 1-64 of [a-z0-9-]")
	}
	if c.l.Epoch != "" && tokenFault(c.l.Epoch) != "" {
		c.top("epoch", CodeDecode, "the epoch "+quote(c.l.Epoch)+" "+tokenFault(c.l.Epoch), "copy it from the topology")
	}
	if c.l.Deadline < 0 || c.l.Deadline > MaxDuration {
		c.top("deadline", CodeRange, "deadline "+formatDuration(c.l.Deadline),
			"above 0s, at most "+formatDuration(MaxDuration))
	}
	if len(c.l.Lines) == 0 {
		c.top("steps", CodeDecode, "the plan has no step", "add one")
	}
	for i, check := range c.l.Verify {
		switch m := c.cast.member(check.Service); {
		case m.fault != "":
			c.last(itemPath("verify", i)+".service", CodeName, quote(string(check.Service))+" "+m.fault, "name a service")
		case c.env != nil && m.facts == nil:
			c.last(itemPath("verify", i)+".service", CodeUnknownTarget, string(check.Service)+" is not in the mesh",
				"name a service of the mesh")
		}
		if check.For <= 0 || check.For > MaxDuration {
			c.last(itemPath("verify", i)+".for", CodeRange, "for "+formatDuration(check.For),
				"above 0s, at most "+formatDuration(MaxDuration))
		}
	}
}

// last reports a fault that sorts behind those of the steps.
func (c *checker) last(path string, code Code, reason, remedy string) {
	c.found = append(c.found, finding{len(c.l.Lines), Fault{Code: code, Path: path, Reason: reason, Remedy: remedy}})
}

// find returns the step called id, -1 if there is none.
func (c *checker) find(id StepID) int { return c.index.find(id) }

// precedes reports whether step a is confirmed before step b starts, on every path.
func (c *checker) precedes(a, b int) bool { return bit(c.row(b), a) }

// row returns the steps that precede step i as a bit set.
func (c *checker) row(i int) []uint64 { return c.before[i*c.words : (i+1)*c.words] }

// bit reports whether i is in a bit set.
func bit(set []uint64, i int) bool { return set[uint(i)/64]>>(uint(i)%64)&1 != 0 }
