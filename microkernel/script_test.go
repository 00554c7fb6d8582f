package microkernel_test

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/microkernel"
	"github.com/sluicemesh/sluice/microkernel/journal"
)

// TestScripts runs testdata/*.txt: each directive is one event, what follows are the
// effects that it had and where its plan stands then. go test -rewrite rewrites them.
// After every event the invariants are checked, and at the end of every file the events
// are replayed.
func TestScripts(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		s := newScript(t)
		datadriven.RunTest(t, path, s.run)
		s.replay()
	})
}

// script is a kernel and the world that its views are made of.
type script struct {
	t       *testing.T
	policy  microkernel.Policy
	state   microkernel.State
	compact microkernel.State // the same, made compact after every event
	events  []microkernel.Event
	now     microkernel.Instant
	view    microkernel.View
	late    bool // the facts at a gate are told by the script itself
	timers  map[microkernel.TimerID]microkernel.Instant
}

func newScript(t *testing.T) *script {
	s := &script{t: t, policy: microkernel.DefaultPolicy(), timers: map[microkernel.TimerID]microkernel.Instant{}}
	s.state, s.compact = microkernel.New(s.policy), microkernel.New(s.policy)
	s.now = microkernel.Instant(time.Hour)
	s.view = microkernel.View{Epoch: "e1", GraphSize: 6, Requests: 10_000, Declared: true, Sampling: 1}
	return s
}

func (s *script) run(t *testing.T, d *datadriven.TestData) string {
	s.t = t
	switch d.Cmd {
	case "policy":
		return s.setPolicy(d)
	case "service":
		return s.service(d)
	case "object":
		return s.object(d)
	case "facts":
		return s.facts(d)
	case "show":
		return s.show(arg(d, 0))
	case "pass":
		s.now = s.now.Add(duration(t, arg(d, 0)))
		return ""
	}
	ev, plan := s.event(d)
	if ev == nil {
		d.Fatalf(t, "unknown directive %s", d.Cmd)
	}
	return s.step(ev, plan)
}

// step steps the kernel and prints what came of it.
func (s *script) step(ev microkernel.Event, plan string) string {
	before := microkernel.Hash(s.state)
	next, effects := microkernel.Step(s.state, ev)
	if microkernel.Hash(s.state) != before {
		s.t.Errorf("Step changed the state that it was given, at %#v", ev)
	}
	s.state = next
	s.events = append(s.events, ev)
	s.stepCompact(ev, effects)
	if why := microkernel.Check(s.state); why != "" {
		s.t.Errorf("after %T: %s", ev, why)
	}
	var b strings.Builder
	for _, e := range effects {
		s.keep(e)
		if line := spell(e); line != "" {
			fmt.Fprintln(&b, line)
		}
	}
	for _, e := range effects {
		look, ok := e.(microkernel.Recheck)
		if r, _ := s.state.Record(look.Plan); ok && !s.late && r.Phase == microkernel.Running {
			again := microkernel.Viewed{Stamp: microkernel.Stamp{At: s.now}, Plan: look.Plan, View: s.snapshot(), Look: look.Look}
			return b.String() + s.step(again, plan)
		}
	}
	if r, found := s.state.Record(microkernel.PlanID(plan)); found {
		fmt.Fprintf(&b, "-> %s", r.Phase)
		if r.Waiting != "" {
			fmt.Fprintf(&b, ", waits for %s", r.Waiting)
		} else if r.Phase.Final() && r.Reason != "" {
			fmt.Fprintf(&b, ": %s", r.Reason)
		}
		fmt.Fprintln(&b)
	} else if b.Len() == 0 {
		fmt.Fprintln(&b, "(nothing)")
	}
	return b.String()
}

// stepCompact steps a kernel beside the real one whose state is made compact, written to a
// journal and read back after every event: it must decide and show the same.
func (s *script) stepCompact(ev microkernel.Event, effects []microkernel.Effect) {
	next, again := microkernel.Step(s.compact, ev)
	if !reflect.DeepEqual(effects, again) {
		s.t.Errorf("after compaction %T has other effects:\n%v\nwant\n%v", ev, again, effects)
	}
	payload, err := journal.EncodeEvent(microkernel.Compacted{Stamp: microkernel.Stamp{At: ev.When()}, State: next.Compact()})
	if err != nil {
		s.t.Fatalf("encode the compact state: %v", err)
	}
	back, err := journal.DecodeEvent(payload)
	if err != nil {
		s.t.Fatalf("decode the compact state: %v", err)
	}
	s.compact, _ = microkernel.Step(next, back)
	if why := microkernel.Check(s.compact); why != "" {
		s.t.Errorf("after compaction: %s", why)
	}
	if !reflect.DeepEqual(s.compact.Records(), s.state.Records()) {
		s.t.Errorf("after %T and compaction the records are\n%+v\nwant\n%+v", ev, s.compact.Records(), s.state.Records())
	}
}

func (s *script) keep(e microkernel.Effect) {
	switch e := e.(type) {
	case microkernel.SetTimer:
		s.timers[e.Timer] = s.now.Add(e.After)
	case microkernel.StopTimer:
		delete(s.timers, e.Timer)
	}
}

// replay steps through all events again and compares.
func (s *script) replay() {
	again := microkernel.New(s.policy)
	for _, ev := range s.events {
		again, _ = microkernel.Step(again, ev)
	}
	if microkernel.Hash(again) != microkernel.Hash(s.state) {
		s.t.Error("I6: replay does not yield the live state")
	}
}

func (s *script) setPolicy(d *datadriven.TestData) string {
	for _, a := range d.CmdArgs {
		switch a.Key {
		case "mode":
			s.policy.Mode = microkernel.Mode(a.Vals[0])
		case "restarts":
			s.policy.RestartsPerService = number(s.t, a.Vals[0])
		default:
			d.Fatalf(s.t, "unknown limit %s", a.Key)
		}
	}
	s.state, s.compact = microkernel.New(s.policy), microkernel.New(s.policy)
	s.events = nil
	return ""
}

// service adds or changes a service of the world.
func (s *script) service(d *datadriven.TestData) string {
	name := mesh.Service(arg(d, 0))
	v := s.view.Find(name)
	if v == nil {
		s.view.Services = append(s.view.Services, microkernel.ServiceView{
			ServiceState: mesh.ServiceState{Name: name, Protocol: mesh.HTTP, Startup: 2 * time.Second},
			Capability: mesh.Capability{
				Drain: true, Hold: true, Shed: true, Reroute: true, Limit: true, Break: true, Grade: mesh.GradeA, Lapses: true,
			},
			Component: []mesh.Service{name}, CallerDeadline: 10 * time.Second, Rate: 100, Takes: true,
		})
		v = &s.view.Services[len(s.view.Services)-1]
	}
	for _, a := range d.CmdArgs[1:] {
		s.attribute(d, v, a)
	}
	slices.SortFunc(s.view.Services, func(a, b microkernel.ServiceView) int {
		return strings.Compare(string(a.Name), string(b.Name))
	})
	return ""
}

func (s *script) attribute(d *datadriven.TestData, v *microkernel.ServiceView, a datadriven.CmdArg) {
	value := strings.Join(a.Vals, ",")
	switch a.Key {
	case "instances":
		v.Replicas = number(s.t, value)
		v.Instances = nil
		for i := range v.Replicas {
			name := fmt.Sprintf("%s-%d", v.Name.Name(), i)
			v.Instances = append(v.Instances, mesh.Instance{
				Ref: mesh.Ref{Service: v.Name, UID: mesh.UID(name), Incarnation: 1}, Name: name, State: mesh.Ready,
			})
		}
	case "down":
		v.Instances[number(s.t, value)].State = mesh.Stopped
	case "up":
		v.Instances[number(s.t, value)].State = mesh.Ready
	case "incarnation":
		v.Instances[0].Incarnation = uint64(number(s.t, value))
	case "callers":
		v.Callers = services(a.Vals)
		v.FanIn = len(v.Callers)
	case "startup":
		v.Startup = duration(s.t, value)
	case "callers-wait":
		v.CallerDeadline = duration(s.t, value)
	case "quorum":
		v.Quorum = number(s.t, value)
	case "min":
		v.MinAvailable = number(s.t, value)
	case "used":
		v.Utilisation = float64(number(s.t, value)) / 100
	case "takes":
		v.Takes = value == "yes"
	case "cannot":
		v.Capability = without(v.Capability, value)
	case "owner":
		v.Owner = value
	case "fixed":
		v.Fixed = value == "yes"
	case "symptom":
		v.Symptom = value == "yes"
	default:
		d.Fatalf(s.t, "unknown attribute %s", a.Key)
	}
}

// object adds or replaces a configuration object; from then on there can be rollbacks.
func (s *script) object(d *datadriven.TestData) string {
	o := microkernel.ObjectView{Name: arg(d, 0)}
	for _, a := range d.CmdArgs[1:] {
		switch a.Key {
		case "of":
			o.Services = services(a.Vals)
		case "at":
			o.Current = a.Vals[0]
		case "known":
			o.Known = a.Vals
		case "denied":
			o.Denied = a.Vals
		case "owner":
			o.Owner = a.Vals[0]
		default:
			d.Fatalf(s.t, "unknown attribute %s", a.Key)
		}
	}
	s.view.Rollback = true
	s.view.Objects = slices.DeleteFunc(slices.Clone(s.view.Objects), func(p microkernel.ObjectView) bool { return p.Name == o.Name })
	s.view.Objects = append(s.view.Objects, o)
	return ""
}

func without(c mesh.Capability, what string) mesh.Capability {
	switch what {
	case "drain":
		c.Drain = false
	case "hold":
		c.Hold = false
	case "shed":
		c.Shed = false
	case "reroute":
		c.Reroute = false
	case "limit":
		c.Limit = false
	case "break":
		c.Break = false
	case "prove":
		c.Grade = mesh.GradeC
	}
	return c
}

// facts changes what views say beside the services.
func (s *script) facts(d *datadriven.TestData) string {
	for _, a := range d.CmdArgs {
		switch a.Key {
		case "epoch":
			s.view.Epoch = a.Vals[0]
		case "restart-set":
			s.view.RestartSet = services(a.Vals)
			slices.Sort(s.view.RestartSet)
		case "callees-first":
			s.view.RestartSeq, s.view.RestoreSeq = services(a.Vals), services(a.Vals)
			s.view.DrainOrder = services(a.Vals)
			slices.Reverse(s.view.DrainOrder)
		case "radius":
			s.view.BlastRadius = services(a.Vals)
		case "crowded":
			s.view.Crowded = services(a.Vals)
		case "declared":
			s.view.Declared = a.Vals[0] == "yes"
		case "requests":
			s.view.Requests = uint64(number(s.t, a.Vals[0]))
		case "at-gates": // "late": only when the script says "viewed"
			s.late = a.Vals[0] == "late"
		case "graph":
			s.view.GraphSize = number(s.t, a.Vals[0])
		default:
			d.Fatalf(s.t, "unknown fact %s", a.Key)
		}
	}
	return ""
}

// snapshot is the view as it is now, with instances of its own.
func (s *script) snapshot() microkernel.View {
	v := s.view
	v.Services = slices.Clone(v.Services)
	for i := range v.Services {
		v.Services[i].Instances = slices.Clone(v.Services[i].Instances)
	}
	return v
}

func (s *script) show(id string) string {
	r, found := s.state.Record(microkernel.PlanID(id))
	if !found {
		return "unknown\n"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s by %s: %s", r.ID, r.Proposer.Name, r.Phase)
	if r.Approver.Name != "" {
		fmt.Fprintf(&b, ", approved by %s", r.Approver.Name)
	}
	if r.Harm.Label != "" {
		fmt.Fprintf(&b, ", %s", r.Harm.Label)
	}
	fmt.Fprintln(&b)
	for i := range r.Steps {
		st := &r.Steps[i]
		fmt.Fprintf(&b, "  %s %s %s", st.Step.ID, st.Step.Action.Kind(), st.State)
		if st.Grade != "" {
			fmt.Fprintf(&b, ", grade %s", st.Grade)
		}
		if st.New.UID != "" {
			fmt.Fprintf(&b, ", %s %d -> %d", st.Old.UID, st.Old.Incarnation, st.New.Incarnation)
		}
		if st.Waiting != "" {
			fmt.Fprintf(&b, ": %s", st.Waiting)
		}
		fmt.Fprintln(&b)
	}
	return b.String()
}

// arg returns the i-th argument that is not an option.
func arg(d *datadriven.TestData, i int) string {
	for _, a := range d.CmdArgs {
		if len(a.Vals) > 0 {
			continue
		}
		if i == 0 {
			return a.Key
		}
		i--
	}
	return ""
}

func option(d *datadriven.TestData, key, otherwise string) string {
	for _, a := range d.CmdArgs {
		if a.Key == key && len(a.Vals) > 0 {
			return strings.Join(a.Vals, ",")
		}
	}
	return otherwise
}

func services(names []string) []mesh.Service {
	var out []mesh.Service
	for _, n := range names {
		if n != "" {
			out = append(out, mesh.Service(n))
		}
	}
	return out
}

func number(t *testing.T, text string) int {
	t.Helper()
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func duration(t *testing.T, text string) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}
