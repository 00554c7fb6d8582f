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
func Expand(p Program, env *Env) (Program, []Fault) { return new(Checker).Expand(&p, env) }

// tooMany refuses to expand a program of too many steps.
func tooMany(p *Program) []Fault {
	if len(p.Steps) <= MaxSteps {
		return nil
	}
	return []Fault{{Code: CodeTooLarge, Path: "steps", Reason: fmt.Sprintf("%d steps", len(p.Steps)),
		Remedy: fmt.Sprintf("at most %d as written; split the plan", MaxSteps)}}
}

// expand makes out what becomes of written. That ids are unique is left to the function
// unique.
func (e *expander) expand(written, out *Listing, env *Env) []Fault {
	if env == nil {
		env = &Env{}
	}
	e.reset(env, written, out)
	for i := range written.Lines {
		if e.step(i); len(out.Lines) > MaxExpandedSteps {
			e.fault(i, CodeTooLarge, "the program is too large when expanded",
				fmt.Sprintf("at most %d steps; restart fewer instances in one plan", MaxExpandedSteps))
			break
		}
	}
	if len(e.faults) > 0 {
		return e.faults
	}
	e.rewire()
	return nil
}

// expander builds the expanded program. Its slices and maps are used again for the next.
type expander struct {
	env    *Env
	in     *Listing
	out    *Listing
	origin []int      // line i of out came of this line of in
	inner  []bool     // line i of out follows a line of the same expansion
	ends   [][]StepID // what ends the written steps that do not end themselves
	ended  names      // the numbers in ends
	faults []Fault
	after  []StepID         // where After lists and ends stand
	found  []*mesh.Instance // of one target
	seen   names
	ids    [256]StepID // that were made of late, see numbered
}

// reset makes e ready to write out.
func (e *expander) reset(env *Env, in, out *Listing) {
	n := len(in.Lines)
	e.env, e.in, e.out, e.faults = env, in, out, nil
	out.ID, out.Epoch, out.Deadline, out.Verify = in.ID, in.Epoch, in.Deadline, in.Verify
	out.empty(n)
	e.origin, e.inner = slices.Grow(e.origin[:0], n), slices.Grow(e.inner[:0], n)
	e.ends, e.after = e.ends[:0], e.after[:0]
	e.ended.begin(n)
}

// list keeps id as an After list.
func (e *expander) list(id StepID) []StepID {
	start := len(e.after)
	e.after = append(e.after, id)
	return e.after[start:len(e.after):len(e.after)]
}

func (e *expander) fault(step int, code Code, reason, remedy string) {
	e.faults = append(e.faults, Fault{Code: code, Path: itemPath("steps", step), Reason: reason, Remedy: remedy})
}

// line appends a line; inner says that its After is not as written.
func (e *expander) line(origin int, line Line, inner bool) {
	e.out.Lines = append(e.out.Lines, line)
	e.origin = append(e.origin, origin)
	e.inner = append(e.inner, inner)
}

// keep appends line i with the operands as written, but for an action that stands for one.
func (e *expander) keep(i int, action Action) {
	line, in, out := e.in.Lines[i], e.in, e.out
	line.written = action
	switch at := line.At; line.Op {
	case OpRestart:
		line.At = put(&out.Restarts, &in.Restarts[at])
	case OpDrain:
		line.At = put(&out.Drains, &in.Drains[at])
	case OpRestore:
		line.At = put(&out.Restores, &in.Restores[at])
	case OpBreak:
		line.At = put(&out.Breaks, &in.Breaks[at])
	case OpLimit:
		line.At = put(&out.Limits, &in.Limits[at])
	case OpScale:
		line.At = put(&out.Scales, &in.Scales[at])
	case OpRollback:
		line.At = put(&out.Rollbacks, &in.Rollbacks[at])
	case OpAwait:
		line.At = put(&out.Awaits, &in.Awaits[at])
	}
	e.line(i, line, false)
}

func (e *expander) step(i int) {
	line, in := &e.in.Lines[i], e.in
	switch line.Op {
	case OpRestart:
		e.restart(i, &in.Restarts[line.At])
		return
	case OpDrain:
		a := &in.Drains[line.At]
		if !a.complete() || narrowed(&a.Target) {
			e.drain(i, a.normalised())
			return
		}
	case OpBreak:
		if a := &in.Breaks[line.At]; !a.complete() {
			e.keep(i, nil)
			last(e.out.Breaks).normalise()
			return
		}
	case OpLimit:
		if a := &in.Limits[line.At]; !a.complete() {
			e.keep(i, nil)
			last(e.out.Limits).normalise()
			return
		}
	}
	e.keep(i, line.written)
}

// last returns the last value of a list that is not empty.
func last[T any](list []T) *T { return &list[len(list)-1] }

// drain appends line i as drain a, bound to UIDs if its target is narrowed.
func (e *expander) drain(i int, a Drain) {
	if narrowed(&a.Target) {
		a.Target = e.bind(i, &a.Target)
	}
	line := e.in.Lines[i]
	line.written, line.At = nil, put(&e.out.Drains, &a)
	e.line(i, line, false)
}

// narrowed reports whether t is about some instances of its service only.
func narrowed(t *Target) bool {
	return t.Instance != "" || t.UID != "" || t.Zone != "" || t.Version != "" || len(t.UIDs) > 0
}

// single reports whether t names one instance.
func single(t *Target) bool { return t.Instance != "" || t.UID != "" }

// bind writes the UIDs of a narrowed target.
func (e *expander) bind(step int, narrow *Target) Target {
	t, found := *narrow, e.instances(step, narrow)
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
func (e *expander) instances(step int, t *Target) []*mesh.Instance {
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
				"no instance of "+quote(string(service))+" is meant by "+quote(FormatTarget(*t)),
				"name instances that exist")
		} else {
			slices.SortFunc(found, byName)
		}
	}
	e.found = out
	return out
}

func byName(a, b *mesh.Instance) int {
	if c := strings.Compare(a.Name, b.Name); c != 0 {
		return c
	}
	return strings.Compare(string(a.UID), string(b.UID))
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

func (e *expander) restart(i int, a *Restart) {
	found := e.instances(i, &a.Target)
	switch {
	case len(found) > MaxExpandedSteps/3:
		e.fault(i, CodeTooLarge, fmt.Sprintf("%d instances in one restart", len(found)),
			"restart fewer instances in one plan")
	case a.Drain == "" && !a.NoDrain && !single(&a.Target):
		e.macro(i, a, found)
	case len(found) == 1:
		e.one(i, a, found[0])
	case a.Drain != "" && !e.quorum(&a.Target):
		e.sideBySide(i, a, found)
	default:
		e.inTurn(i, a, found)
	}
}

// one appends restart a of one instance: as written, if nothing has to be written out.
func (e *expander) one(i int, a *Restart, instance *mesh.Instance) {
	if a.complete() && a.Target.onlyUID() && a.Target.UID == instance.UID {
		e.keep(i, e.in.Lines[i].written)
		return
	}
	line := &e.in.Lines[i]
	e.reboot(i, line.ID, line.After, a, instance)
}

// reboot appends the restart of one instance, which is else like a.
func (e *expander) reboot(i int, id StepID, after []StepID, a *Restart, instance *mesh.Instance) *Restart {
	e.line(i, Line{ID: id, After: after, Op: OpRestart, At: put(&e.out.Restarts, a)}, false)
	r := last(e.out.Restarts)
	if !r.complete() {
		*r = r.normalised()
	}
	r.Target = Target{Service: instance.Service, UID: instance.UID}
	return r
}

// quorum reports whether the members of the target must not be down together.
func (e *expander) quorum(t *Target) bool {
	facts := e.env.Find(t.Service)
	return facts != nil && facts.Quorum > 0
}

func (e *expander) sideBySide(i int, a *Restart, found []*mesh.Instance) {
	line, start := &e.in.Lines[i], len(e.after)
	for n, instance := range found {
		id := e.numbered(line.ID, n, "")
		e.after = append(e.after, id)
		e.reboot(i, id, line.After, a, instance)
	}
	e.end(line.ID, e.after[start:len(e.after):len(e.after)])
}

func (e *expander) inTurn(i int, a *Restart, found []*mesh.Instance) {
	line := &e.in.Lines[i]
	after := line.After
	for n, instance := range found {
		id := e.numbered(line.ID, n, "")
		e.reboot(i, id, after, a, instance)
		*last(e.inner) = n > 0
		after = e.list(id)
	}
	e.end(line.ID, after)
}

// macro writes (drain, restart, restore) for each instance.
func (e *expander) macro(i int, a *Restart, found []*mesh.Instance) {
	line := &e.in.Lines[i]
	after, deadline := line.After, cmp.Or(a.Deadline, DefaultRestartDeadline)
	for n, instance := range found {
		drain := e.numbered(line.ID, n, "-d")
		restart := e.numbered(line.ID, n, "-r")
		restore := e.numbered(line.ID, n, "-t")
		e.line(i, Line{ID: drain, After: after, Op: OpDrain, At: put(&e.out.Drains, &Drain{
			Target: Target{Service: instance.Service, UID: instance.UID},
			Share:  100, OnEmpty: e.onEmpty(instance), Streams: mesh.StreamsWait,
			Deadline: DefaultDrainDeadline, Lease: macroLease(deadline),
		})}, n > 0)
		e.reboot(i, restart, e.list(drain), a, instance).Drain = drain
		*last(e.inner) = true
		e.line(i, Line{ID: restore, After: e.list(restart), Op: OpRestore,
			At: put(&e.out.Restores, &RestoreTraffic{Drain: drain})}, true)
		after = e.list(restore)
	}
	e.end(line.ID, after)
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

// numbered makes an id. Steps have the same few names in most plans, so what was made of
// late is kept and found again: then nothing is allocated.
func (e *expander) numbered(id StepID, n int, suffix string) StepID {
	var digits [20]byte
	number := strconv.AppendInt(digits[:0], int64(n+1), 10)
	hash := uint32(n)*31 + uint32(len(suffix))
	if len(suffix) > 0 {
		hash = hash*31 + uint32(suffix[len(suffix)-1])
	}
	for k := range len(id) {
		hash = hash*31 + uint32(id[k])
	}
	made := &e.ids[hash%uint32(len(e.ids))]
	if !made.is(id, number, suffix) {
		*made = id + "-" + StepID(number) + StepID(suffix)
	}
	return *made
}

// is reports whether id is base, a hyphen, number and suffix.
func (id StepID) is(base StepID, number []byte, suffix string) bool {
	at := len(base) + 1
	return len(id) == at+len(number)+len(suffix) && id[:len(base)] == base && id[len(base)] == '-' &&
		string(id[at:at+len(number)]) == string(number) && string(id[at+len(number):]) == suffix
}

// end notes which steps end the written step called id.
func (e *expander) end(id StepID, by []StepID) {
	e.ended.set(id, len(e.ends))
	e.ends = append(e.ends, by)
}

// ending returns the steps that end the written step called id, nil if it does so itself.
func (e *expander) ending(id StepID) []StepID {
	if i := e.ended.find(id); i >= 0 {
		return e.ends[i]
	}
	return nil
}

// rewire makes steps that follow a written step follow what ends it now.
func (e *expander) rewire() {
	if len(e.ends) == 0 {
		return
	}
	for i := range e.out.Lines {
		line := &e.out.Lines[i]
		if e.inner[i] {
			continue
		}
		start, changed := len(e.after), false
		for _, id := range line.After {
			if ends := e.ending(id); ends != nil {
				e.after, changed = append(e.after, ends...), true
			} else {
				e.after = append(e.after, id)
			}
		}
		if !changed {
			e.after = e.after[:start]
			continue
		}
		line.After = e.after[start:len(e.after):len(e.after)]
	}
}

// unique refuses expanded ids that meet an id as written.
func (e *expander) unique() []Fault {
	e.seen.begin(len(e.out.Lines))
	for i := range e.out.Lines {
		id := e.out.Lines[i].ID
		if last := e.seen.set(id, i); last >= 0 && e.origin[last] != e.origin[i] {
			e.fault(e.origin[i], CodeName, "the id "+quote(string(id))+" is also made by an expansion",
				"rename the step")
		}
	}
	return e.faults
}

// onlyUID reports whether t names its instance by UID and by nothing else.
func (t *Target) onlyUID() bool {
	return t.UID != "" && t.Instance == "" && t.Zone == "" && t.Version == "" && len(t.UIDs) == 0 && len(t.Group) == 0
}
