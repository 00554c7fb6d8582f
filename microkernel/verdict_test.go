package microkernel

import (
	"testing"
	"time"

	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/mesh"
)

// proposed is a kernel that leads, and src proposed to it in a mesh of 5,000 services.
func proposed(b testing.TB, src string) (State, Submitted) {
	s := New(DefaultPolicy())
	s, _ = Step(s, Led{Stamp: Stamp{At: Instant(time.Hour)}, Term: 1})
	s, _ = Step(s, Probed{Stamp: Stamp{At: Instant(time.Hour)}})
	p, _, faults := isa.ParseText([]byte(src))
	if len(faults) > 0 {
		b.Fatal(faults)
	}
	view := View{Epoch: "e1", GraphSize: 5000, Requests: 100000, Declared: true, Sampling: 1,
		RestartSet:  []mesh.Service{"shop/a", "shop/b", "shop/c"},
		DrainOrder:  []mesh.Service{"shop/a", "shop/b", "shop/c"},
		RestartSeq:  []mesh.Service{"shop/c", "shop/b", "shop/a"},
		RestoreSeq:  []mesh.Service{"shop/c", "shop/b", "shop/a"},
		BlastRadius: []mesh.Service{"outside/gw", "shop/a", "shop/b", "shop/c"},
	}
	callers := map[mesh.Service][]mesh.Service{"shop/a": {"outside/gw"}, "shop/b": {"shop/a"}, "shop/c": {"shop/b"}}
	for _, n := range []mesh.Service{"shop/a", "shop/b", "shop/c", "shop/d"} {
		v := ServiceView{
			Capability: mesh.Capability{
				Drain: true, Hold: true, Shed: true, Reroute: true, Limit: true, Break: true, Grade: mesh.GradeA, InPlace: true,
			},
			FanIn: len(callers[n]), Callers: callers[n], Component: []mesh.Service{n}, RestartP99: time.Second,
			CallerDeadline: 30 * time.Second, Rate: 100, Concurrency: 10, Takes: true, Declares: true,
		}
		v.Name = n
		v.Replicas = 2
		for _, i := range []string{"0", "1"} {
			v.Instances = append(v.Instances, mesh.Instance{
				Ref:  mesh.Ref{Service: n, UID: mesh.UID("u-" + n.Name() + "-" + i), Incarnation: 1},
				Name: n.Name() + "-" + i, State: mesh.Ready, Proxy: "x",
			})
		}
		view.Services = append(view.Services, v)
	}
	by := Principal{Name: "ann", Role: Approver}
	return s, Submitted{Stamp: Stamp{At: Instant(2 * time.Hour)}, Program: p, View: view, By: by}
}

// tenActions restarts a chain of three services with two instances each, and limits a
// fourth; every operand is written out.
const tenActions = `plan p
d1 = drain shop/a 100% hold streams wait deadline 30s lease 120s
d2 = drain shop/b 100% hold streams wait deadline 30s lease 120s after d1
d3 = drain shop/c 100% hold streams wait deadline 30s lease 120s after d2
r3 = restart shop/c rolling with d3 deadline 10s after d3
r2 = restart shop/b rolling with d2 deadline 10s after r3
r1 = restart shop/a rolling with d1 deadline 10s after r2
t3 = restore d3 after r1
t2 = restore d2 after t3
t1 = restore d1 after t2
l1 = limit shop/d 80/s burst 80 lease 60s
verify shop/a for 30s`

// A Judge that has judged other programs says what Step answers.
func TestAJudgeAnswersAsStepDoes(t *testing.T) {
	var judge Judge
	for name, c := range map[string]struct {
		src  string
		want Outcome
	}{
		"ten actions":       {tenActions, Admit},
		"a macro":           {"plan p\nr1 = restart shop/c\nr2 = restart shop/b after r1\nr3 = restart shop/a after r2", Admit},
		"against the order": {"plan p\nr1 = restart shop/a\nr2 = restart shop/b after r1\nr3 = restart shop/c after r2", Reject},
		"a part":            {"plan p\nr1 = restart shop/c", Reject},
		"too long a lease":  {"plan p\nl1 = limit shop/d 80/s lease 10m", Hold},
		"nobody":            {"plan p\nl1 = limit shop/nobody 80/s", Reject},
		"at once": {"plan p\nd1 = drain shop/d hold\nd2 = drain shop/d shed\nt1 = restore d1 after d1\n" +
			"t2 = restore d2 after d2", Reject},
	} {
		for range 2 {
			s, ev := proposed(t, c.src)
			_, effects := Step(s, ev)
			want := effects[0].(Answer).Verdict
			if got := judge.Verdict(&s, &ev); !same(got, want) || got.Outcome != c.want {
				t.Errorf("%s: %+v, Step answers %+v, want %s", name, got, want, c.want)
			}
		}
	}
}

// The expanded program, too, stands in memory that is used again: six restarts of single
// instances, and their ids.
func TestAWarmJudgeAllocatesNothing(t *testing.T) {
	s, ev := proposed(t, tenActions)
	var judge Judge
	if n := testing.AllocsPerRun(100, func() { judge.Verdict(&s, &ev) }); n != 0 {
		t.Errorf("%g allocations, want none", n)
	}
}

// Where expansion has nothing to write, nothing is left.
func TestAPlanOfInstancesIsJudgedWithoutAllocating(t *testing.T) {
	s, ev := proposed(t, tenActions)
	steps := ev.Program.Steps[:0:0]
	for _, step := range ev.Program.Steps {
		a, ok := step.Action.(isa.Restart)
		if !ok {
			steps = append(steps, step)
			continue
		}
		for _, i := range []string{"0", "1"} {
			a.Target.UID = mesh.UID("u-" + a.Target.Service.Name() + "-" + i)
			one := isa.Step{ID: step.ID + isa.StepID("-"+i), After: step.After, Action: a}
			steps = append(steps, one)
		}
	}
	both := func(id isa.StepID) []isa.StepID { return []isa.StepID{id + "-0", id + "-1"} }
	for i := range steps {
		if len(steps[i].After) == 1 && steps[i].After[0][0] == 'r' {
			steps[i].After = both(steps[i].After[0])
		}
	}
	ev.Program.Steps = steps
	var judge Judge
	if v := judge.Verdict(&s, &ev); v.Outcome != Admit {
		t.Fatalf("%+v", v)
	}
	if n := testing.AllocsPerRun(100, func() { judge.Verdict(&s, &ev) }); n != 0 {
		t.Errorf("%g allocations, want none", n)
	}
}

func BenchmarkJudge(b *testing.B) {
	s, ev := proposed(b, tenActions)
	var judge Judge
	b.ReportAllocs()
	for b.Loop() {
		judge.Verdict(&s, &ev)
	}
}

// BenchmarkStep judges and takes in.
func BenchmarkStep(b *testing.B) {
	s, ev := proposed(b, tenActions)
	b.ReportAllocs()
	for b.Loop() {
		Step(s, ev)
	}
}
