package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/topology"
)

// topologyRows are the attacks that only the call graph shows (phase T).
func topologyRows() []attack {
	return []attack{
		{row: "12", name: "a restart set above the limit", door: "api", expected: "HOLD:group-too-large", run: cuttable},
		text("12", "a component that cannot be cut", "HOLD:group-too-large", agent, func(t *trial) (*fleet, string) {
			f, names := circle(300)
			return f, "g1 = restart [" + strings.Join(names, ",") + "]"
		}),
		static("13", "many callers, no drain", "REJECT:drain-required", "r1 = restart shop/hub", "r1 = restart shop/hub rolling deadline 10s",
			"r1 = restart shop/hub with none", "r1 = restart shop/hub#hub-1", "r1 = restart shop/hub{zone=a}", "r1 = restart [shop/hub]"),
		static("14", "the caller first", "REJECT:order", "r1 = restart shop/front\nr2 = restart shop/cart after r1",
			"r1 = restart shop/front\nr2 = restart shop/cart",
			"r1 = restart shop/cart\nr2 = restart shop/ledger after r1", "r1 = restart zoo/c01 \nr2 = restart shop/leaf after r1",
			"d1 = drain shop/ledger hold\nd2 = drain shop/cart hold after d1\nt2 = restore d2 after d2\nt1 = restore d1 after t2"),
		{row: "23", name: "the restart set has grown", door: "api", expected: "REJECT:stale-epoch", run: stale(true)},
		{row: "24", name: "the group is the same", door: "api", expected: "ADMIT", run: stale(false)},
		{row: "B10", name: "another epoch, the same group", door: "api", expected: "ADMIT", run: stale(false)},
		text("42", "no telemetry, nothing declared", "REJECT:insufficient-evidence", agent, func(t *trial) (*fleet, string) {
			f := shop()
			f.quiet, f.silent = true, true
			return f, pick(t, "r1 = restart shop/leaf", "d1 = drain shop/cart hold\nt1 = restore d1 after d1", "s1 = scale shop/cart to 5")
		}),
		{row: "42", name: "one request in a thousand is sampled", door: "api", expected: "REJECT:insufficient-evidence", run: sampled},
		{row: "42", name: "the same with a declared graph", door: "api", expected: "WIDEN", run: widened},
		{row: "50", name: "a workload that declares nothing and is hardly known", door: "api", expected: "HOLD:insufficient-evidence", run: young},
	}
}

// coupled is a store with a caller that sticks to it, one that sticks to that, and so on: n
// services restart together.
func coupled(n int) (*fleet, []string) {
	f, names := newFleet(), []string{"shop/store"}
	f.add("shop/store", 1)
	f.calls("outside/web", "shop/front")
	for i := range n - 1 {
		name := mesh.Service(fmt.Sprintf("shop/user%03d", i))
		f.calls("shop/front", name)
		f.calls(name, mesh.Service(names[i])).sticky = true
		names = append(names, string(name))
	}
	return f, names
}

// cuttable asks for too large a set, and looks for the cut that an approver is to see.
func cuttable(t *trial) (result, error) {
	f, names := coupled(pick(t, 31, 32, 40, 60))
	p, err := t.start(f)
	if err != nil {
		return result{}, err
	}
	id, source := t.plan("g1 = restart [%s]", strings.Join(names, ","))
	a := p.propose(agent, source)
	const shown = "the cheapest cut that keeps every set within it is 1 of their calls or sticky marks (5000 calls seen): shop/user"
	if len(a.Faults) == 0 || !strings.Contains(a.Faults[0].Reason, shown) {
		return result{got: a.got(), code: a.Code}, fmt.Errorf("no cut is shown: %v", a.Faults)
	}
	return t.finish(p, id, a)
}

// circle is a component of n services.
func circle(n int) (*fleet, []string) {
	f, names := newFleet(), make([]string, n)
	for i := range n {
		names[i] = fmt.Sprintf("round/m%03d", i)
		f.add(mesh.Service(names[i]), 1)
	}
	for i := range n {
		f.calls(mesh.Service(names[i]), mesh.Service(names[(i+1)%n]))
	}
	return f, names
}

// stale binds a plan to an epoch that is over when it comes in. What has changed since
// concerns the plan, or does not.
func stale(concerns bool) func(*trial) (result, error) {
	return func(t *trial) (result, error) {
		p, err := t.start(shop())
		if err != nil {
			return result{}, err
		}
		was := p.platform.Snapshot().Epoch()
		p.platform.observe(func(g *topology.Graph) {
			if concerns {
				g.MarkSticky(pick(t, mesh.Service("zoo/c01"), "zoo/c02", "zoo/c03"), "shop/leaf")
			} else {
				g.Observe(call(pick(t, leaf(1), leaf(2)), pick(t, leaf(20), leaf(21)), p.clock.Now(), topology.AccessLog))
			}
		})
		id := t.id()
		source := t.spelled(fmt.Sprintf("plan %s epoch %s\nr1 = restart shop/leaf", id, was))
		a := p.propose(agent, source)
		if now := p.platform.Snapshot().Epoch(); a.Epoch != now || now == was {
			return result{got: a.got()}, fmt.Errorf("the answer has epoch %q, now is %q, it was %q", a.Epoch, now, was)
		}
		return t.finish(p, id, a)
	}
}

func call(caller, callee mesh.Service, at time.Time, source topology.Source) topology.Call {
	return topology.Call{Caller: caller, Callee: callee, At: at, Latency: time.Millisecond, Source: source, Weight: 1}
}

// sampled sees a share of the requests that says nothing.
func sampled(t *trial) (result, error) {
	f := shop()
	f.silent = true
	p, err := t.make(f)
	if err != nil {
		return result{}, err
	}
	p.sampling = pick(t, 0.001, 0.0001, 0.009)
	if err := p.start(); err != nil {
		return result{}, err
	}
	id, source := t.plan("r1 = restart %s", pick(t, "shop/leaf", "zoo/s07"))
	return t.finish(p, id, p.propose(agent, source))
}

// widened has nothing but declarations: the restart set has the declared sticky caller,
// and what is only declared to be called must be drained.
func widened(t *trial) (result, error) {
	f, names := coupled(3)
	f.quiet = true
	p, err := t.make(f)
	if err != nil {
		return result{}, err
	}
	p.sampling = pick(t, 0.001, 1)
	if err := p.start(); err != nil {
		return result{}, err
	}
	_, source := t.plan("r1 = restart shop/store#store-0 with none")
	if a := p.propose(agent, source); a.got() != "REJECT:drain-required" {
		return result{got: a.got(), code: a.Code}, nil
	}
	p.pass(time.Second)
	_, source = t.plan("r1 = restart shop/store")
	if a := p.propose(agent, source); a.got() != "REJECT:order" { // its sticky callers are missing
		return result{got: a.got(), code: a.Code}, nil
	}
	changed := p.changed()
	p.pass(time.Second)
	id, source := t.plan("r1 = restart [%s]", strings.Join(names, ","))
	r, err := t.finish(p, id, p.propose(agent, source))
	if r.got == "ADMIT" && err == nil {
		r.got = "WIDEN"
	}
	r.changed = changed
	return r, err
}

// young is a service that nobody declares, and whose first request was seen minutes ago.
func young(t *trial) (result, error) {
	f := shop()
	f.silent = true
	p, err := t.make(f)
	if err != nil {
		return result{}, err
	}
	demandEvidence(p, 7*24*time.Hour)
	if err := p.start(); err != nil {
		return result{}, err
	}
	id, source := t.plan("r1 = restart %s", pick(t, "shop/leaf", "zoo/s07", "shop/cart"))
	return t.finish(p, id, p.propose(agent, source))
}
