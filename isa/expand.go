package isa

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
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
func Expand(p Program, env *Env) (Program, []Fault) {
	if len(p.Steps) > MaxSteps {
		return p, []Fault{{Code: CodeTooLarge, Path: "steps", Reason: fmt.Sprintf("%d steps", len(p.Steps)),
			Remedy: fmt.Sprintf("at most %d as written; split the plan", MaxSteps)}}
	}
	if env == nil {
		env = &Env{}
	}
	e := expander{env: env, ends: make(map[StepID][]StepID, len(p.Steps))}
	for i := range p.Steps {
		if e.step(i, p.Steps[i]); len(e.steps) > MaxExpandedSteps {
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

// expander builds the expanded program.
type expander struct {
	env    *Env
	steps  []Step
	origin []int               // steps[i] came of this written step
	inner  []bool              // steps[i] follows a step of the same expansion
	ends   map[StepID][]StepID // the expanded steps that end a written one; absent = itself
	faults []Fault
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

func (e *expander) step(i int, step Step) {
	step.Action = normalised(step.Action)
	switch a := step.Action.(type) {
	case Restart:
		e.restart(i, step, a)
	case Drain:
		if narrowed(a.Target) {
			a.Target = e.bind(i, a.Target)
			step.Action = a
		}
		e.add(i, step)
	default:
		e.add(i, step)
	}
}

// narrowed reports whether t is about some instances of its service only.
func narrowed(t Target) bool {
	return t.Instance != "" || t.UID != "" || t.Zone != "" || t.Version != "" || len(t.UIDs) > 0
}

// single reports whether t names one instance.
func single(t Target) bool { return t.Instance != "" || t.UID != "" }

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
	services := []mesh.Service{t.Service}
	if len(t.Group) > 0 {
		services = e.env.inRestartOrder(t.Group)
	}
	var out []*mesh.Instance
	for _, service := range services {
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
	case a.Drain == "" && !a.NoDrain && !single(a.Target):
		e.macro(i, step, a, found)
	case len(found) == 1:
		a.Target = Target{Service: found[0].Service, UID: found[0].UID}
		step.Action = a
		e.add(i, step)
	case a.Drain != "" && !e.quorum(a.Target):
		e.sideBySide(i, step, a, found)
	default:
		e.inTurn(i, step, a, found)
	}
}

// quorum reports whether the members of the target must not be down together.
func (e *expander) quorum(t Target) bool {
	facts := e.env.Find(t.Service)
	return facts != nil && facts.Quorum > 0
}

func (e *expander) sideBySide(i int, step Step, a Restart, found []*mesh.Instance) {
	ends := make([]StepID, len(found))
	for n, instance := range found {
		a.Target = Target{Service: instance.Service, UID: instance.UID}
		ends[n] = numbered(step.ID, n, "")
		e.add(i, Step{ID: ends[n], After: step.After, Action: a})
	}
	e.ends[step.ID] = ends
}

func (e *expander) inTurn(i int, step Step, a Restart, found []*mesh.Instance) {
	after := step.After
	for n, instance := range found {
		a.Target = Target{Service: instance.Service, UID: instance.UID}
		id := numbered(step.ID, n, "")
		e.append(i, Step{ID: id, After: after, Action: a}, n > 0)
		after = []StepID{id}
	}
	e.ends[step.ID] = after
}

// macro writes (drain, restart, restore) for each instance.
func (e *expander) macro(i int, step Step, a Restart, found []*mesh.Instance) {
	after := step.After
	for n, instance := range found {
		target := Target{Service: instance.Service, UID: instance.UID}
		drain := numbered(step.ID, n, "-d")
		restart := numbered(step.ID, n, "-r")
		restore := numbered(step.ID, n, "-t")
		e.append(i, Step{ID: drain, After: after, Action: Drain{
			Target: target, Share: 100, OnEmpty: e.onEmpty(instance), Streams: mesh.StreamsWait,
			Deadline: DefaultDrainDeadline, Lease: macroLease(a.Deadline),
		}}, n > 0)
		a.Target, a.Drain = target, drain
		e.append(i, Step{ID: restart, After: []StepID{drain}, Action: a}, true)
		e.append(i, Step{ID: restore, After: []StepID{restart}, Action: RestoreTraffic{Drain: drain}}, true)
		after = []StepID{restore}
	}
	e.ends[step.ID] = after
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

func numbered(id StepID, n int, suffix string) StepID {
	return id + "-" + StepID(strconv.Itoa(n+1)) + StepID(suffix)
}

// rewire makes steps that follow a written step follow what ends it now.
func (e *expander) rewire() {
	for i := range e.steps {
		after := e.steps[i].After
		if e.inner[i] || !slices.ContainsFunc(after, func(id StepID) bool { return e.ends[id] != nil }) {
			continue
		}
		var out []StepID
		for _, id := range after {
			if ends := e.ends[id]; ends != nil {
				out = append(out, ends...)
			} else {
				out = append(out, id)
			}
		}
		e.steps[i].After = out
	}
}

// unique refuses expanded ids that meet an id as written.
func (e *expander) unique() []Fault {
	seen := make(map[StepID]int, len(e.steps))
	for i := range e.steps {
		id := e.steps[i].ID
		if first, found := seen[id]; found && e.origin[first] != e.origin[i] {
			e.fault(e.origin[i], CodeName, "the id "+quote(string(id))+" is also made by an expansion",
				"rename the step")
		}
		seen[id] = i
	}
	return e.faults
}
