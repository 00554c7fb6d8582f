package explore

import (
	"slices"
	"time"

	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/microkernel"
)

// Setup is one small world and the two plans that are proposed in it.
type Setup struct {
	Name     string
	What     string // in words
	Plans    [2]isa.Program
	Sticky   bool         // web does not survive a restart of cart
	Replicas int          // instances of cart; the others have one
	Load     float64      // of cart, in instances' worth
	Slow     bool         // callers of cart wait for less than a restart takes: held
	Down     mesh.Service // whose instance does not come up
	Quorum   bool         // db is a quorum service that cannot lose its one instance
}

// Budget bounds how much trouble a path may have.
type Budget struct {
	Crashes  int // of the control plane, each also with an outage longer than every lease
	Faults   int // NACK, refused withdrawal, failed restart, lost or doubled answer, stale probe, foreign writer
	Timeouts int // timers that beat an answer that was on its way
	Acts     int // of an operator or an impostor: abort, approval
	Harms    int // harm verdicts
}

// Names of the world.
const (
	web  mesh.Service = "shop/web"
	cart mesh.Service = "shop/cart"
	db   mesh.Service = "shop/db"
)

// Setups returns every world, the smallest first.
func Setups() []Setup {
	return []Setup{
		{
			Name: "nowhere", What: "a drain that leaves nothing beside a reroute to where nothing is", Replicas: 1, Down: web,
			Plans: [2]isa.Program{away("a", cart, ""), away("b", db, web)},
		},
		{
			Name: "too full", What: "what leaves too little for the load beside what breaks a quorum", Replicas: 2, Load: 1.2, Quorum: true,
			Plans: [2]isa.Program{rolling("a"), restart("b", db)},
		},
		{
			Name: "held", What: "a restart that needs approval beside a limit", Replicas: 1, Slow: true,
			Plans: [2]isa.Program{restart("a", cart), limit("b", db)},
		},
		{
			Name: "one after another", What: "a scale, a breaker and a limit, each after the one before, beside a limit", Replicas: 1,
			Plans: [2]isa.Program{sequence("a"), limit("b", db)},
		},
		{
			Name: "rollback", What: "a configuration rolled back beside a limit", Replicas: 1,
			Plans: [2]isa.Program{rollback("a"), limit("b", db)},
		},
		{
			Name: "await", What: "a drain that is left to its lease beside a limit of the same service", Replicas: 1,
			Plans: [2]isa.Program{await("a", cart), limit("b", cart)},
		},
		{
			Name: "one of two", What: "one instance of two, beside a limit of the same service", Replicas: 2,
			Plans: [2]isa.Program{oneOf("a"), limit("b", cart)},
		},
		{
			Name: "both", What: "both instances within one drain, beside a limit of the same service", Replicas: 2,
			Plans: [2]isa.Program{restart("a", cart), limit("b", cart)},
		},
		{
			Name: "overlapping", What: "two restarts of one service", Replicas: 1,
			Plans: [2]isa.Program{restart("a", cart), restart("b", cart)},
		},
		{
			Name: "limits", What: "a rate limit beside a scale with a circuit breaker", Replicas: 1,
			Plans: [2]isa.Program{limit("a", web), scale("b", db)},
		},
		{
			Name: "rolling", What: "two instances one after the other beside a scale of the same service", Replicas: 2, Load: 0.3,
			Plans: [2]isa.Program{rolling("a"), scale("b", cart)},
		},
		{
			Name: "nested", What: "nested drains of a sticky pair beside a limit of one of them", Replicas: 1, Sticky: true,
			Plans: [2]isa.Program{restart("a", web, cart), limit("b", web)},
		},
		{
			Name: "disjoint", What: "two restarts that share nothing", Replicas: 1,
			Plans: [2]isa.Program{restart("a", cart), restart("b", db)},
		},
	}
}

// proposers are two who have nothing in common but their role.
func proposers() [2]microkernel.Principal {
	return [2]microkernel.Principal{
		{Name: "rules", Role: microkernel.Proposer}, {Name: "mallory", Role: microkernel.Proposer},
	}
}

func operator() microkernel.Principal {
	return microkernel.Principal{Name: "olga", Role: microkernel.Approver}
}

// restart drains the services in order, restarts and restores them in reverse.
func restart(id string, services ...mesh.Service) isa.Program {
	p := isa.Program{ID: id}
	add := func(step string, a isa.Action) {
		s := isa.Step{ID: isa.StepID(step), Action: a}
		if n := len(p.Steps); n > 0 {
			s.After = []isa.StepID{p.Steps[n-1].ID}
		}
		p.Steps = append(p.Steps, s)
	}
	drain := func(i int) isa.StepID { return isa.StepID("d" + string(rune('0'+i))) }
	for i, s := range services {
		add(string(drain(i)), isa.Drain{Target: isa.Target{Service: s}, Share: 100, OnEmpty: mesh.OnEmptyHold, Lease: 120 * time.Second})
	}
	for i := len(services) - 1; i >= 0; i-- {
		add("r"+string(rune('0'+i)), isa.Restart{Target: isa.Target{Service: services[i]}, Drain: drain(i)})
	}
	for i := len(services) - 1; i >= 0; i-- {
		add("t"+string(rune('0'+i)), isa.RestoreTraffic{Drain: drain(i)})
	}
	return p
}

// rolling restarts cart as the macro does: instance after instance, the rest takes the traffic.
func rolling(id string) isa.Program {
	return isa.Program{ID: id, Steps: []isa.Step{{ID: "r1", Action: isa.Restart{Target: isa.Target{Service: cart}}}}}
}

// oneOf restarts one instance of cart; what finds no endpoint is shed.
func oneOf(id string) isa.Program {
	one := isa.Target{Service: cart, Instance: "cart-0"}
	return isa.Program{ID: id, Steps: []isa.Step{
		{ID: "d1", Action: isa.Drain{Target: one, Share: 100, OnEmpty: mesh.OnEmptyShed, Lease: 120 * time.Second}},
		{ID: "r1", After: []isa.StepID{"d1"}, Action: isa.Restart{Target: one, Drain: "d1"}},
		{ID: "t1", After: []isa.StepID{"r1"}, Action: isa.RestoreTraffic{Drain: "d1"}},
	}}
}

// away sends the traffic of a service to another, or nowhere.
func away(id string, s, to mesh.Service) isa.Program {
	return isa.Program{ID: id, Steps: []isa.Step{
		{ID: "d1", Action: isa.Drain{Target: isa.Target{Service: s}, Share: 100, To: to, Lease: 40 * time.Second}},
		{ID: "a1", After: []isa.StepID{"d1"}, Action: isa.Await{Drain: "d1", Until: isa.AwaitLease}},
	}}
}

func rollback(id string) isa.Program {
	return isa.Program{ID: id, Steps: []isa.Step{{ID: "c1", Action: isa.RollbackConfig{Object: object, Revision: goodRevision}}}}
}

// everything is a plan of all seven actions, one after the other.
func everything(id string) isa.Program {
	p := restart(id, cart)
	p.Steps = append(p.Steps, rollback(id).Steps...)
	p.Steps = append(p.Steps, scale(id, cart).Steps...)
	p.Steps = append(p.Steps, limit(id, cart).Steps...)
	order := []isa.StepID{"c1", "s1", "b1", "l1", "d0", "r0", "t0"}
	slices.SortFunc(p.Steps, func(a, b isa.Step) int { return slices.Index(order, a.ID) - slices.Index(order, b.ID) })
	for i := range p.Steps {
		p.Steps[i].After = nil
		if i > 0 {
			p.Steps[i].After = []isa.StepID{p.Steps[i-1].ID}
		}
	}
	return p
}

func limit(id string, s mesh.Service) isa.Program {
	return isa.Program{ID: id, Steps: []isa.Step{
		{ID: "l1", Action: isa.RateLimit{Target: isa.Target{Service: s}, PerSecond: 80, Burst: 10, Lease: 30 * time.Second}},
	}}
}

// sequence has steps that no drain gates, so only the gates of every step hold them up.
func sequence(id string) isa.Program {
	p := scale(id, cart)
	p.Steps = append(p.Steps, limit(id, cart).Steps...)
	for i := 1; i < len(p.Steps); i++ {
		p.Steps[i].After = []isa.StepID{p.Steps[i-1].ID}
	}
	return p
}

func scale(id string, s mesh.Service) isa.Program {
	return isa.Program{ID: id, Steps: []isa.Step{
		{ID: "s1", Action: isa.Scale{Target: isa.Target{Service: s}, Replicas: 3}},
		{ID: "b1", Action: isa.CircuitBreak{Target: isa.Target{Service: s}, MaxRequests: 100, Lease: 30 * time.Second}},
	}}
}

func await(id string, s mesh.Service) isa.Program {
	return isa.Program{ID: id, Steps: []isa.Step{
		{ID: "d1", Action: isa.Drain{Target: isa.Target{Service: s}, Share: 100, OnEmpty: mesh.OnEmptyShed, Lease: 40 * time.Second}},
		{ID: "a1", After: []isa.StepID{"d1"}, Action: isa.Await{Drain: "d1", Until: isa.AwaitLease}},
	}}
}
