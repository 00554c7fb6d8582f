package isa

import (
	"slices"
	"time"
)

// Op is a Kind as a number.
type Op uint8

// Ops. OpNone is a step without an action.
const (
	OpNone Op = iota
	OpRestart
	OpDrain
	OpRestore
	OpBreak
	OpLimit
	OpScale
	OpRollback
	OpAwait
)

// Kind returns the instruction's name, "" of OpNone.
func (o Op) Kind() Kind {
	return [...]Kind{
		"", KindRestart, KindDrain, KindRestoreTraffic, KindCircuitBreak, KindRateLimit, KindScale,
		KindRollbackConfig, KindAwait,
	}[o]
}

// Line is one step of a Listing.
type Line struct {
	ID    StepID
	After []StepID
	Op    Op
	At    int // of its operands in the list of its Op

	written Action // the step's action, if that is what the operands are; nil if they were made
}

// Listing is a program laid out to be worked on: each step has a line, and the operands
// stand in one list for each instruction. There they are read in place, where a Program
// would have each of them copied out of an interface; and a program that is expanded into
// a Listing is no new values, but memory that is used again.
type Listing struct {
	ID       string
	Epoch    string
	Deadline time.Duration
	Verify   []Check
	Lines    []Line

	Restarts  []Restart
	Drains    []Drain
	Restores  []RestoreTraffic
	Breaks    []CircuitBreak
	Limits    []RateLimit
	Scales    []Scale
	Rollbacks []RollbackConfig
	Awaits    []Await
}

// empty makes l a listing of no lines with room for n.
func (l *Listing) empty(n int) {
	l.Lines = slices.Grow(l.Lines[:0], n)
	l.Restarts, l.Drains, l.Restores, l.Breaks = l.Restarts[:0], l.Drains[:0], l.Restores[:0], l.Breaks[:0]
	l.Limits, l.Scales, l.Rollbacks, l.Awaits = l.Limits[:0], l.Scales[:0], l.Rollbacks[:0], l.Awaits[:0]
}

// read makes l the listing of p.
func (l *Listing) read(p *Program) {
	l.ID, l.Epoch, l.Deadline, l.Verify = p.ID, p.Epoch, p.Deadline, p.Verify
	l.empty(len(p.Steps))
	for i := range p.Steps {
		l.add(&p.Steps[i])
	}
}

// add appends step as it is.
func (l *Listing) add(step *Step) {
	line := Line{ID: step.ID, After: step.After, written: step.Action}
	switch a := step.Action.(type) {
	case Restart:
		line.Op, line.At = OpRestart, put(&l.Restarts, &a)
	case Drain:
		line.Op, line.At = OpDrain, put(&l.Drains, &a)
	case RestoreTraffic:
		line.Op, line.At = OpRestore, put(&l.Restores, &a)
	case CircuitBreak:
		line.Op, line.At = OpBreak, put(&l.Breaks, &a)
	case RateLimit:
		line.Op, line.At = OpLimit, put(&l.Limits, &a)
	case Scale:
		line.Op, line.At = OpScale, put(&l.Scales, &a)
	case RollbackConfig:
		line.Op, line.At = OpRollback, put(&l.Rollbacks, &a)
	case Await:
		line.Op, line.At = OpAwait, put(&l.Awaits, &a)
	}
	l.Lines = append(l.Lines, line)
}

// put appends value to list and returns where it stands.
func put[T any](list *[]T, value *T) int {
	*list = append(*list, *value)
	return len(*list) - 1
}

// Restart returns the operands of line i if it is a restart, else nil. Like those of the
// other instructions they are valid as long as l is, and must not be changed.
func (l *Listing) Restart(i int) *Restart {
	if line := &l.Lines[i]; line.Op == OpRestart {
		return &l.Restarts[line.At]
	}
	return nil
}

// Drain returns the operands of line i if it is a drain, else nil.
func (l *Listing) Drain(i int) *Drain {
	if line := &l.Lines[i]; line.Op == OpDrain {
		return &l.Drains[line.At]
	}
	return nil
}

// Target returns what line i is about, nil if its instruction has no target.
func (l *Listing) Target(i int) *Target {
	switch line := &l.Lines[i]; line.Op {
	case OpRestart:
		return &l.Restarts[line.At].Target
	case OpDrain:
		return &l.Drains[line.At].Target
	case OpBreak:
		return &l.Breaks[line.At].Target
	case OpLimit:
		return &l.Limits[line.At].Target
	case OpScale:
		return &l.Scales[line.At].Target
	}
	return nil
}

// Action returns the action of line i as a value of its own.
func (l *Listing) Action(i int) Action {
	line := &l.Lines[i]
	if line.written != nil {
		return line.written
	}
	switch line.Op {
	case OpRestart:
		return l.Restarts[line.At]
	case OpDrain:
		return l.Drains[line.At]
	case OpRestore:
		return l.Restores[line.At]
	case OpBreak:
		return l.Breaks[line.At]
	case OpLimit:
		return l.Limits[line.At]
	case OpScale:
		return l.Scales[line.At]
	case OpRollback:
		return l.Rollbacks[line.At]
	case OpAwait:
		return l.Awaits[line.At]
	}
	return nil
}

// Program returns what l lists, as a program that shares no memory with l but what was
// in the program that l came of.
func (l *Listing) Program() Program {
	p := Program{ID: l.ID, Epoch: l.Epoch, Deadline: l.Deadline, Verify: l.Verify}
	total := 0
	for i := range l.Lines {
		total += len(l.Lines[i].After)
	}
	p.Steps = make([]Step, len(l.Lines))
	after := make([]StepID, 0, total)
	for i := range l.Lines {
		p.Steps[i] = Step{ID: l.Lines[i].ID, Action: l.Action(i)}
		if follows := l.Lines[i].After; follows != nil {
			start := len(after)
			after = append(after, follows...)
			p.Steps[i].After = after[start:len(after):len(after)]
		}
	}
	return p
}

// kind returns the name of the line's instruction, "" if it has none.
func (l *Line) kind() Kind {
	if l.Op == OpNone && l.written != nil {
		return l.written.Kind()
	}
	return l.Op.Kind()
}

// NewListing returns the listing of p as it is.
func NewListing(p *Program) *Listing {
	l := new(Listing)
	l.read(p)
	return l
}
