package isa

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluicemesh/sluice/mesh"
)

// Expand turns a program as written into the one that runs: defaults are written out,
// targets are resolved to UIDs, and restarts become restarts of single instances.
//
//   - A Restart of a service, subset or group without a drain becomes (drain, restart,
//     restore) for each instance, one after the other; the services of a group in env's
//     restart order. Where no other instance would be ready, the drain holds.
//   - A Restart with a drain becomes a restart of each instance side by side: the target
//     is out of service as a whole, and held requests wait for the slowest, not for the
//     sum. The members of a quorum service restart one after the other all the same.
//   - A Restart of one instance, and one with "drain: none", gets no drain.
//   - A drain of an instance or a subset is bound to UIDs; one of a service is not.
//
// A step that stays one step keeps its id; else the n-th instance of step r gets r-n,
// and r-n-d, r-n-r, r-n-t for its drain, restart and restore. Expand is deterministic
// in p and env and does not change them; what it returns with faults must not be used.
func Expand(p Program, env *Env) (Program, []Fault) { return new(expander).expand(&p, env) }

func (e *expander) expand(written *Program, env *Env) (Program, []Fault) {
	p := *written
	if len(p.Steps) > MaxSteps {
		return p, []Fault{{Code: CodeTooLarge, Path: "steps", Reason: fmt.Sprintf("%d steps", len(p.Steps)),
			Remedy: fmt.Sprintf("at most %d as written; split the plan", MaxSteps)}}
	}
	if env == nil {
		env = &Env{}
	}
	e.reset(env, len(p.Steps))
	for i := range p.Steps {
		if e.step(i, &p.Steps[i]); len(e.steps) > MaxExpandedSteps {
			e.fault(i, CodeTooLarge, "the program is too large when expanded",
				fmt.Sprintf("at most %d steps; restart fewer instances in one plan", MaxExpandedSteps))
			break
		}
	}
	if len(e.faults) > 0 {
		return p, e.faults
	}
	e.rewire()
	p.Steps = e.steps
	return p, e.unique()
}

// expander builds the expanded program. Its slices and maps are used again for the next.
type expander struct {
	env    *Env
	steps  []Step
	origin []int    // steps[i] came of this written step
	inner  []bool   // steps[i] follows a step of the same expansion
	ends   []ending // of the written steps that do not end themselves
	faults []Fault
	after  []StepID         // where After lists and ends stand
	found  []*mesh.Instance // of one target
	seen   map[StepID]int   // of many steps
	ids    strings.Builder  // where made ids stand; never used again, they are immutable
}

// reset makes e ready for a program of n steps.
func (e *expander) reset(env *Env, n int) {
	e.ends = e.ends[:0]
	e.env, e.ids, e.faults = env, strings.Builder{}, nil
	e.steps, e.origin, e.inner = slices.Grow(e.steps[:0], n), slices.Grow(e.origin[:0], n), slices.Grow(e.inner[:0], n)
	e.after = e.after[:0]
}

// list keeps ids as an After list.
func (e *expander) list(ids ...StepID) []StepID {
	start := len(e.after)
	e.after = append(e.after, ids...)
	return e.after[start:len(e.after):len(e.after)]
}

func (e *expander) fault(step int, code Code, reason, remedy string) {
	e.faults = append(e.faults, Fault{Code: code, Path: itemPath("steps", step), Reason: reason, Remedy: remedy})
}

// add appends a step whose After is as written.
func (e *expander) add(origin int, step Step) { e.append(origin, step, false) }

func (e *expander) append(origin int, step Step, inner bool) {
	e.steps = append(e.steps, step)
	e.origin = append(e.origin, origin)
	e.inner = append(e.inner, inner)
}

func (e *expander) step(i int, written *Step) {
	step := *written
	switch a := step.Action.(type) {
	case Restart:
		e.restart(i, step, a.normalised())
	case Drain:
		if bound := a.Target; narrowed(&bound) {
			a = a.normalised()
			a.Target = e.bind(i, bound)
			step.Action = a
			e.add(i, step)
			return
		}
		step.Action = normalised(step.Action)
		e.add(i, step)
	default:
		step.Action = normalised(step.Action)
		e.add(i, step)
	}
}

// narrowed reports whether t is about some instances of its service only.
func narrowed(t *Target) bool {
	return t.Instance != "" || t.UID != "" || t.Zone != "" || t.Version != "" || len(t.UIDs) > 0
}

// single reports whether t names one instance.
func single(t *Target) bool { return t.Instance != "" || t.UID != "" }

// bind writes the UIDs of a narrowed target.
func (e *expander) bind(step int, t Target) Target {
	found := e.instances(step, t)
	if len(found) == 1 {
		return Target{Service: t.Service, UID: found[0].UID}
	}
	t.UIDs = nil
	for _, instance := range found {
		t.UIDs = append(t.UIDs, instance.UID)
	}
	slices.Sort(t.UIDs)
	return t
}

// instances lists what t is about: services in restart order, instances by name.
func (e *expander) instances(step int, t Target) []*mesh.Instance {
	services := t.Group
	if len(t.Group) > 0 {
		services = e.env.inRestartOrder(t.Group)
	}
	out := e.found[:0]
	for k := range max(1, len(services)) {
		service := t.Service
		if len(services) > 0 {
			service = services[k]
		}
		before := len(out)
		if facts := e.env.Find(service); facts != nil {
			for i := range facts.Instances {
				if t.Selects(&facts.Instances[i]) {
					out = append(out, &facts.Instances[i])
				}
			}
		}
		if found := out[before:]; len(found) == 0 {
			e.fault(step, CodeUnknownTarget,
				"no instance of "+quote(string(service))+" is meant by "+quote(FormatTarget(t)),
				"name instances that exist")
		} else {
			slices.SortFunc(found, func(a, b *mesh.Instance) int {
				return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.UID, b.UID))
			})
		}
	}
	e.found = out
	return out
}

// inRestartOrder returns set without repetition in env's restart order, then by name.
func (e *Env) inRestartOrder(set []mesh.Service) []mesh.Service {
	out := make([]mesh.Service, 0, len(set))
	for _, service := range e.RestartOrder {
		if slices.Contains(set, service) && !slices.Contains(out, service) {
			out = append(out, service)
		}
	}
	for _, service := range sortedSet(set) {
		if !slices.Contains(out, service) {
			out = append(out, service)
		}
	}
	return out
}

func (e *expander) restart(i int, step Step, a Restart) {
	found := e.instances(i, a.Target)
	switch {
	case len(found) > MaxExpandedSteps/3:
		e.fault(i, CodeTooLarge, fmt.Sprintf("%d instances in one restart", len(found)),
			"restart fewer instances in one plan")
	case a.Drain == "" && !a.NoDrain && !single(&a.Target):
		e.macro(i, step, a, found)
	case len(found) == 1:
		step.Action = e.one(step.Action, a, found[0])
		e.add(i, step)
	case a.Drain != "" && !e.quorum(a.Target):
		e.sideBySide(i, step, a, found)
	default:
		e.inTurn(i, step, a, found)
	}
}

// one returns restart a of one instance: as written, if nothing had to be written out.
func (e *expander) one(written Action, a Restart, instance *mesh.Instance) Action {
	target := Target{Service: instance.Service, UID: instance.UID}
	if w, ok := written.(Restart); ok && w.complete() && w.Target.onlyUID() && w.Target.UID == target.UID {
		return written
	}
	a.Target = target
	return a
}

// quorum reports whether the members of the target must not be down together.
func (e *expander) quorum(t Target) bool {
	facts := e.env.Find(t.Service)
	return facts != nil && facts.Quorum > 0
}

func (e *expander) sideBySide(i int, step Step, a Restart, found []*mesh.Instance) {
	start := len(e.after)
	for n, instance := range found {
		a.Target = Target{Service: instance.Service, UID: instance.UID}
		id := e.numbered(step.ID, n, "")
		e.after = append(e.after, id)
		e.add(i, Step{ID: id, After: step.After, Action: a})
	}
	e.ends = append(e.ends, ending{step.ID, e.after[start:len(e.after):len(e.after)]})
}

func (e *expander) inTurn(i int, step Step, a Restart, found []*mesh.Instance) {
	after := step.After
	for n, instance := range found {
		a.Target = Target{Service: instance.Service, UID: instance.UID}
		id := e.numbered(step.ID, n, "")
		e.append(i, Step{ID: id, After: after, Action: a}, n > 0)
		after = e.list(id)
	}
	e.ends = append(e.ends, ending{step.ID, after})
}

// macro writes (drain, restart, restore) for each instance.
func (e *expander) macro(i int, step Step, a Restart, found []*mesh.Instance) {
	after := step.After
	for n, instance := range found {
		target := Target{Service: instance.Service, UID: instance.UID}
		drain := e.numbered(step.ID, n, "-d")
		restart := e.numbered(step.ID, n, "-r")
		restore := e.numbered(step.ID, n, "-t")
		e.append(i, Step{ID: drain, After: after, Action: Drain{
			Target: target, Share: 100, OnEmpty: e.onEmpty(instance), Streams: mesh.StreamsWait,
			Deadline: DefaultDrainDeadline, Lease: macroLease(a.Deadline),
		}}, n > 0)
		a.Target, a.Drain = target, drain
		e.append(i, Step{ID: restart, After: e.list(drain), Action: a}, true)
		e.append(i, Step{ID: restore, After: e.list(restart), Action: RestoreTraffic{Drain: drain}}, true)
		after = e.list(restore)
	}
	e.ends = append(e.ends, ending{step.ID, after})
}

// macroLease is the lease of a macro's drain: it covers the drain and one restart.
func macroLease(restart time.Duration) time.Duration {
	return max(DefaultLease, DefaultDrainDeadline+restart)
}

// onEmpty holds requests where no other instance is ready to take them.
func (e *expander) onEmpty(instance *mesh.Instance) mesh.OnEmpty {
	facts := e.env.Find(instance.Service)
	for i := range facts.Instances {
		if other := &facts.Instances[i]; other.UID != instance.UID && serving(other) {
			return mesh.OnEmptyNone
		}
	}
	return mesh.OnEmptyHold
}

// serving reports whether an instance may be counted on; an unknown state may.
func serving(i *mesh.Instance) bool { return i.State == mesh.Ready || i.State == "" }

// numbered makes an id; all of a program stand in few pieces of memory.
func (e *expander) numbered(id StepID, n int, suffix string) StepID {
	const piece = 256
	number := strconv.Itoa(n + 1)
	if e.ids.Cap()-e.ids.Len() < len(id)+1+len(number)+len(suffix) {
		e.ids = strings.Builder{}
		e.ids.Grow(piece)
	}
	start := e.ids.Len()
	e.ids.WriteString(string(id))
	e.ids.WriteByte('-')
	e.ids.WriteString(number)
	e.ids.WriteString(suffix)
	return StepID(e.ids.String()[start:])
}

// ending is the expanded steps that end a written one.
type ending struct {
	id StepID
	by []StepID
}

// ending returns the steps that end the written step called id, nil if it does so itself.
func (e *expander) ending(id StepID) []StepID {
	for _, end := range slices.Backward(e.ends) {
		if end.id == id {
			return end.by
		}
	}
	return nil
}

// rewire makes steps that follow a written step follow what ends it now.
func (e *expander) rewire() {
	for i := range e.steps {
		after := e.steps[i].After
		if e.inner[i] || !slices.ContainsFunc(after, func(id StepID) bool { return e.ending(id) != nil }) {
			continue
		}
		start := len(e.after)
		for _, id := range after {
			if ends := e.ending(id); ends != nil {
				e.after = append(e.after, ends...)
			} else {
				e.after = append(e.after, id)
			}
		}
		e.steps[i].After = e.after[start:len(e.after):len(e.after)]
	}
}

// unique refuses expanded ids that meet an id as written.
func (e *expander) unique() []Fault {
	for i := range e.steps {
		id := e.steps[i].ID
		if last := e.earlier(i); last >= 0 && e.origin[last] != e.origin[i] {
			e.fault(e.origin[i], CodeName, "the id "+quote(string(id))+" is also made by an expansion",
				"rename the step")
		}
	}
	return e.faults
}

// earlier returns the last step before i with the id of i, -1 if there is none. It must be
// asked about each step in turn.
func (e *expander) earlier(i int) int {
	const few = 20 // are searched one by one
	id := e.steps[i].ID
	if len(e.steps) <= few {
		for k := i - 1; k >= 0; k-- {
			if e.steps[k].ID == id {
				return k
			}
		}
		return -1
	}
	if i == 0 {
		e.seen = emptied(e.seen, len(e.steps))
	}
	last, found := e.seen[id]
	e.seen[id] = i
	if !found {
		return -1
	}
	return last
}

// emptied returns seen without entries, made for n if there is none.
func emptied(seen map[StepID]int, n int) map[StepID]int {
	if seen == nil {
		return make(map[StepID]int, n)
	}
	clear(seen)
	return seen
}

// onlyUID reports whether t names its instance by UID and by nothing else.
func (t *Target) onlyUID() bool {
	return t.UID != "" && t.Instance == "" && t.Zone == "" && t.Version == "" && len(t.UIDs) == 0 && len(t.Group) == 0
}
