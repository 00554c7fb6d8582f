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
// programs: once it is warm, a program without faults costs no allocation to check. The
// zero value is ready. A Checker is not safe for concurrent use.
type Checker struct {
	checker  checker
	expander expander
	expanded Program // of Compile
}

// Expand is the function Expand, but what it returns is valid until c expands again.
func (c *Checker) Expand(p *Program, env *Env) (Program, []Fault) { return c.expander.expand(p, env) }

// Validate is the function Validate.
func (c *Checker) Validate(p *Program, env *Env) []Fault {
	defer c.checker.release()
	c.checker.begin(env)
	return c.checker.check(p, MaxSteps, maxID)
}

// ValidateExpanded is the function ValidateExpanded.
func (c *Checker) ValidateExpanded(p *Program, env *Env) []Fault {
	defer c.checker.release()
	c.checker.begin(env)
	return c.checker.check(p, MaxExpandedSteps, maxExpandedID)
}

// Compile is Validate, Expand and ValidateExpanded, as far as there are no faults: it
// returns those of the first that has any. What it returns besides is valid until c
// expands again, and p itself if p cannot be expanded.
func (c *Checker) Compile(p *Program, env *Env) (Program, []Fault) {
	defer c.checker.release()
	c.checker.begin(env)
	if faults := c.checker.check(p, MaxSteps, maxID); len(faults) > 0 {
		return *p, faults
	}
	var faults []Fault
	if c.expanded, faults = c.expander.expand(p, env); len(faults) > 0 {
		return *p, faults
	}
	return c.expanded, c.checker.check(&c.expanded, MaxExpandedSteps, maxExpandedID)
}

func (c *checker) check(p *Program, maxSteps, idLimit int) []Fault {
	c.reset(p, idLimit)
	if len(p.Steps) > maxSteps {
		return []Fault{{Code: CodeTooLarge, Path: "steps", Reason: fmt.Sprintf("%d steps", len(p.Steps)),
			Remedy: fmt.Sprintf("at most %d; split the plan", maxSteps)}}
	}
	c.program()
	c.shape()
	for i := range p.Steps {
		c.operands(i)
		c.target(i)
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
	p       *Program
	env     *Env // nil = only the structure
	limits  Limits
	cast    cast
	idLimit int      // bytes of a step's id
	targets []Target // of each step, zero if its action has none
	found   []finding
	index   map[StepID]int // of large programs; small ones are searched
	ordered bool           // ids and After lists make a partial order
	after   []int          // the After lists of all steps as indexes of steps, -1 = unknown
	ends    []int          // ends[i] is where the After list of step i ends in after
	topo    []int          // steps, each behind those that it follows
	words   int            // of a row of before
	before  []uint64       // bit set: row i holds the steps that are confirmed before i starts
	drains  []drainUse     // in the order of their steps
	uses    []restartUse
	writers []int // steps that write something which is not a drain
	open    []interval
	stops   []servicePlace // the services that restart, by step
	places  []servicePlace // by name, each once
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
	var limits Limits
	if env != nil {
		limits = env.Limits
	}
	if c.namespaces == nil {
		c.namespaces, c.own = protectedNamespaces(), ownServices()
	}
	if limits.ProtectedNamespaces == nil {
		limits.ProtectedNamespaces = c.namespaces
	}
	if limits.Self == nil {
		limits.Self = c.own
	}
	c.limits = limits.complete()
	c.cast.begin(env, &c.limits)
}

// reset makes c ready for p.
func (c *checker) reset(p *Program, idLimit int) {
	c.p, c.idLimit = p, idLimit
	n := min(len(p.Steps), MaxExpandedSteps)
	clear(c.index)
	c.found, c.drains, c.uses = c.found[:0], c.drains[:0], slices.Grow(c.uses[:0], n)
	c.after, c.ends, c.topo = slices.Grow(c.after[:0], n), slices.Grow(c.ends[:0], n), slices.Grow(c.topo[:0], n)
	c.targets, c.writers = slices.Grow(c.targets[:0], n), c.writers[:0]
}

// release lets go of the program and the world, which are the caller's.
func (c *checker) release() {
	c.p, c.env = nil, nil
	c.cast.end()
	c.kin.end()
	clear(c.found)
	clear(c.uses)
	clear(c.drains)
	clear(c.targets)
}

// follows returns the steps that step i names in After.
func (c *checker) follows(i int) []int {
	start := 0
	if i > 0 {
		start = c.ends[i-1]
	}
	return c.after[start:c.ends[i]]
}

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
	if action := c.p.Steps[i].Action; action != nil && operand != "" && !ofStep {
		path += "." + string(action.Kind())
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
	if reason := idFault(c.p.ID, maxID); reason != "" {
		c.top("id", CodeName, "the plan's id "+quote(c.p.ID)+" "+reason, "give it 1-64 of [a-z0-9-]")
	}
	if c.p.Epoch != "" && tokenFault(c.p.Epoch) != "" {
		c.top("epoch", CodeDecode, "the epoch "+quote(c.p.Epoch)+" "+tokenFault(c.p.Epoch), "copy it from the topology")
	}
	if c.p.Deadline < 0 || c.p.Deadline > MaxDuration {
		c.top("deadline", CodeRange, "deadline "+formatDuration(c.p.Deadline),
			"above 0s, at most "+formatDuration(MaxDuration))
	}
	if len(c.p.Steps) == 0 {
		c.top("steps", CodeDecode, "the plan has no step", "add one")
	}
	for i, check := range c.p.Verify {
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
	c.found = append(c.found, finding{len(c.p.Steps), Fault{Code: code, Path: path, Reason: reason, Remedy: remedy}})
}

// find returns the step called id, -1 if there is none.
func (c *checker) find(id StepID) int {
	if len(c.index) > 0 {
		if i, found := c.index[id]; found {
			return i
		}
		return -1
	}
	for i := range c.p.Steps {
		if c.p.Steps[i].ID == id {
			return i
		}
	}
	return -1
}

// precedes reports whether step a is confirmed before step b starts, on every path.
func (c *checker) precedes(a, b int) bool {
	return c.before[b*c.words+a/64]&(1<<(a%64)) != 0
}
