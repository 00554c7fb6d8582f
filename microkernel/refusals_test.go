package microkernel_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/microkernel"
)

// lone is the view of a service of three instances that shop/front calls.
func lone(change func(*microkernel.View)) microkernel.View {
	s := microkernel.ServiceView{
		ServiceState: mesh.ServiceState{Name: "shop/cart", Protocol: mesh.HTTP, Replicas: 3, Startup: time.Second},
		Capability:   mesh.Capability{Drain: true, Hold: true, Shed: true, InPlace: true, Grade: mesh.GradeA},
		FanIn:        1, Callers: []mesh.Service{"shop/front"}, Component: []mesh.Service{"shop/cart"}, Takes: true,
	}
	for _, uid := range []mesh.UID{"u0", "u1", "u2"} {
		s.Instances = append(s.Instances, mesh.Instance{
			Ref: mesh.Ref{Service: s.Name, UID: uid, Incarnation: 1}, Name: "cart-" + string(uid[1:]), State: mesh.Ready,
		})
	}
	cart := []mesh.Service{"shop/cart"}
	v := microkernel.View{
		Epoch: "sha256:1", GraphSize: 20, Services: []microkernel.ServiceView{s}, RestartSet: cart, DrainOrder: cart,
		RestartSeq: cart, RestoreSeq: cart, BlastRadius: []mesh.Service{"shop/front"}, Requests: 1000, Declared: true, Sampling: 1,
	}
	if change != nil {
		change(&v)
	}
	return v
}

// alone leaves the service one instance, all of whose traffic must be held.
func alone(v *microkernel.View, c mesh.Capability) {
	s := &v.Services[0]
	s.Instances, s.Replicas, s.Capability = s.Instances[:1], 1, c
}

// led is a kernel that takes plans.
func led(policy microkernel.Policy) microkernel.State {
	s, _ := microkernel.Step(microkernel.New(policy), microkernel.Led{Term: 1, Policy: policy})
	s, _ = microkernel.Step(s, microkernel.Probed{})
	return s
}

func verdict(t *testing.T, effects []microkernel.Effect) string {
	t.Helper()
	for _, e := range effects {
		if a, ok := e.(microkernel.Answer); ok {
			return strings.TrimSuffix(string(a.Verdict.Outcome)+":"+string(a.Verdict.Code), ":")
		}
	}
	return ""
}

func restart(id string) isa.Program {
	return isa.Program{ID: id, Steps: []isa.Step{{ID: "r1", Action: isa.Restart{Target: isa.Target{Service: "shop/cart"}}}}}
}

func TestWhoMayActOnWhatAndWhen(t *testing.T) {
	agent, operator := microkernel.Principal{Name: "rules", Role: microkernel.Proposer}, microkernel.Principal{Name: "anna", Role: microkernel.Approver}
	deny := func(p *microkernel.Policy) {
		p.Scopes = []microkernel.Scope{{Principal: "rules", Deny: []string{"shop"}}}
	}
	allow := func(p *microkernel.Policy) {
		p.Scopes = []microkernel.Scope{{Principal: "rules", Allow: []string{"zoo"}}}
	}
	age := func(p *microkernel.Policy) { p.EvidenceAge = time.Hour }
	incident := func(v *microkernel.View) { v.Incident = []mesh.Service{"shop/front"} }
	for _, c := range []struct {
		name, want string
		by         microkernel.Principal
		policy     func(*microkernel.Policy)
		view       func(*microkernel.View)
	}{
		{"nothing against it", "admit", agent, nil, nil},
		{"denied namespace", "reject:authz", agent, deny, nil},
		{"another namespace is allowed", "reject:authz", agent, allow, nil},
		{"scopes are of one principal", "admit", operator, deny, nil},
		{"an incident above it", "reject:budget", agent, nil, incident},
		{"an incident of its own group", "admit", agent, nil, func(v *microkernel.View) {
			incident(v)
			v.Group = []mesh.Service{"shop/cart", "shop/front"}
		}},
		{"an operator during an incident", "admit", operator, nil, incident},
		{"hardly known", "hold:insufficient-evidence", agent, age, nil},
		{"known for long", "admit", agent, age, func(v *microkernel.View) { v.Services[0].Known = 2 * time.Hour }},
		{"declared", "admit", agent, age, func(v *microkernel.View) { v.Services[0].Declares = true }},
		{"nothing can hold its requests", "reject:hold-unavailable", agent, nil, func(v *microkernel.View) {
			alone(v, mesh.Capability{Drain: true, Shed: true, InPlace: true, Grade: mesh.GradeA})
		}},
		{"gRPC clients without a proxy hold nothing", "reject:unsupported", agent, nil, func(v *microkernel.View) {
			alone(v, mesh.Capability{Drain: true, InPlace: true, Grade: mesh.GradeA, Proxyless: true})
		}},
	} {
		policy := microkernel.DefaultPolicy()
		if c.policy != nil {
			c.policy(&policy)
		}
		_, effects := microkernel.Step(led(policy), microkernel.Submitted{By: c.by, Program: restart("p"), View: lone(c.view)})
		if got := verdict(t, effects); got != c.want {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
	}
}

func TestAPlanWhoseRestartSetGrewWhileItWaitedIsStale(t *testing.T) {
	s := led(microkernel.DefaultPolicy())
	by := microkernel.Principal{Name: "rules", Role: microkernel.Proposer}
	s, _ = microkernel.Step(s, microkernel.Submitted{By: by, Program: restart("p"), View: lone(nil)})
	_, effects := microkernel.Step(s, microkernel.Viewed{Plan: "p", View: lone(func(v *microkernel.View) {
		v.Epoch, v.RestartSet = "sha256:2", []mesh.Service{"shop/cart", "shop/front"}
	})})
	if got := verdict(t, effects); got != "reject:stale-epoch" {
		t.Errorf("got %s, want reject:stale-epoch", got)
	}
}

func TestTooLargeAGroupIsHeldWithTheCheapestCut(t *testing.T) {
	policy := microkernel.DefaultPolicy()
	policy.MaxGroupSize = 1
	program := restart("p")
	program.Steps = program.Steps[:1]
	program.Steps[0].Action = isa.Restart{Target: isa.Target{Group: []mesh.Service{"shop/cart", "shop/front"}}}
	by := microkernel.Principal{Name: "rules", Role: microkernel.Proposer}
	view := lone(func(v *microkernel.View) {
		front := v.Services[0]
		front.Name, front.Instances = "shop/front", slices.Clone(front.Instances)
		for i := range front.Instances {
			front.Instances[i].Service, front.Instances[i].UID = front.Name, "f-"+front.Instances[i].UID
		}
		front.Component, front.Callers, front.FanIn = []mesh.Service{"shop/front"}, nil, 0
		v.Services[0].StickyCallers = []mesh.Service{"shop/front"}
		v.Services = append(v.Services, front)
		v.RestartSet, v.RestartSeq = []mesh.Service{"shop/cart", "shop/front"}, []mesh.Service{"shop/cart", "shop/front"}
		v.RestoreSeq, v.DrainOrder = v.RestartSeq, []mesh.Service{"shop/front", "shop/cart"}
		v.Cut = []microkernel.CallEdge{{Caller: "shop/front", Callee: "shop/cart", Calls: 17}}
	})
	s, effects := microkernel.Step(led(policy), microkernel.Submitted{By: by, Program: program, View: view})
	if got := verdict(t, effects); got != "hold:group-too-large" {
		t.Fatalf("got %s, want hold:group-too-large", got)
	}
	r, _ := s.Record("p")
	if reason := r.Verdict.Faults[0].Reason; !strings.Contains(reason, "1 of their calls or sticky marks (17 calls seen): shop/front -> shop/cart (17)") {
		t.Errorf("reason %q", reason)
	}
}

func TestAQueuedPlanThatNothingOverlapsWithExpires(t *testing.T) {
	s := led(microkernel.DefaultPolicy())
	by, admin := microkernel.Principal{Name: "rules", Role: microkernel.Proposer}, microkernel.Principal{Name: "adam", Role: microkernel.Admin}
	for _, id := range []string{"p", "q"} {
		s, _ = microkernel.Step(s, microkernel.Submitted{By: by, Program: restart(id), View: lone(nil)})
	}
	s, _ = microkernel.Step(s, microkernel.Paused{By: admin})
	s, _ = microkernel.Step(s, microkernel.Aborted{By: admin, Plan: "p"})
	ttl := microkernel.Stamp{At: microkernel.Instant(5 * time.Minute)}
	_, effects := microkernel.Step(s, microkernel.Fired{Stamp: ttl, Timer: microkernel.TimerID{Plan: "q", Name: "ttl"}})
	if got := verdict(t, effects); got != "reject:expired" {
		t.Errorf("got %s, want reject:expired", got)
	}
}

func TestWhatCannotBeReadCountsAgainstItsProposersRate(t *testing.T) {
	s := led(microkernel.DefaultPolicy())
	ev := microkernel.Unread{By: microkernel.Principal{Name: "rules"}, Faults: []isa.Fault{{Code: isa.CodeName, Reason: "no"}}}
	counts := map[string]int{}
	for range 25 {
		var effects []microkernel.Effect
		s, effects = microkernel.Step(s, ev)
		counts[verdict(t, effects)]++
	}
	if counts["reject:name"] != 20 || counts["throttle:rate"] != 5 {
		t.Errorf("got %v", counts)
	}
}

func TestAReplicaCountOfAnotherOwnerIsNotFoughtOver(t *testing.T) {
	s := led(microkernel.DefaultPolicy())
	scale := isa.Program{ID: "p", Steps: []isa.Step{{ID: "s1", Action: isa.Scale{Target: isa.Target{Service: "shop/cart"}, Replicas: 5}}}}
	by := microkernel.Principal{Name: "anna", Role: microkernel.Approver}
	s, _ = microkernel.Step(s, microkernel.Submitted{By: by, Program: scale, View: lone(nil)})
	s, _ = microkernel.Step(s, microkernel.Viewed{Plan: "p", View: lone(nil)})
	s, effects := microkernel.Step(s, microkernel.Failed{Plan: "p", Step: "s1", Code: isa.CodeForeignOwner, Reason: "an autoscaler"})
	for _, e := range effects {
		if set, ok := e.(microkernel.SetReplicas); ok {
			t.Errorf("sets %d replicas over another owner", set.Replicas)
		}
	}
	if r, _ := s.Record("p"); r.Phase != microkernel.Compensated {
		t.Errorf("the plan is %s", r.Phase)
	}
}
