package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/microkernel"
)

// missingRows are what cannot be tried here, with the reason; they count as nothing.
func missingRows() []attack {
	missing := func(row, name, expected, why string) attack {
		return attack{row: row, name: name, expected: expected, missing: why}
	}
	return []attack{
		missing("43", "a forged nonce", "IGNORED", "the xDS stream is tried in xds/server's own tests"),
		missing("46", "a paused leader whose lease was taken", "REJECT", "fencing by the cluster's API server is not there yet"),
		missing("17", "the same as a custom resource", "REJECT:decode", "there is no custom resource yet"),
		missing("48", "HTTP/2 rapid reset", "THROTTLE", "the API is bounded by net/http itself, xDS is tried in xds/server's own tests; no client here sends it"),
	}
}

// benignRows are the twins that must be admitted, run, and committed.
func benignRows() []attack {
	twin := func(row, name string, programs ...string) attack {
		return attack{row: row, name: name, door: "api", expected: "ADMIT", run: func(t *trial) (result, error) {
			id, source := t.plan("%s", pick(t, programs...))
			return t.one(shop(), pick(t, agent, approver), id, source)
		}}
	}
	return []attack{
		twin("B1", "one leaf of three replicas", "r1 = restart shop/leaf", "r1 = restart shop/leaf rolling\nverify shop/leaf for 10s"),
		twin("B2", "drain, then restart, many callers", "d1 = drain shop/hub hold\nr1 = restart shop/hub with d1 after d1\nt1 = restore d1 after r1",
			"d1 = drain shop/hub#hub-1\nr1 = restart shop/hub#hub-1 with d1 after d1\nt1 = restore d1 ramp 1s after r1"),
		twin("B3", "drain one of three", "d1 = drain shop/cart#cart-1\nt1 = restore d1 after d1", "d1 = drain shop/leaf{zone=b} streams ask\nt1 = restore d1 after d1"),
		{row: "B4", name: "two disjoint groups at once", door: "api", expected: "ADMIT", run: disjoint},
		twin("B5", "more replicas", "s1 = scale shop/cart to 5", "s1 = scale shop/leaf to 4"),
		twin("B6", "a limit near the load", "l1 = limit shop/cart 80/s", "l1 = limit shop/cart from shop/front 80/s burst 100 lease 30s"),
		twin("B7", "a sane breaker", "b1 = break shop/cart from shop/front requests 40 5xx 5", "b1 = break shop/cart connections 100 pending 50 lease 60s"),
		twin("B8", "back to the last that was ACKed", "c1 = rollback configmap/shop/cart to 7"),
		twin("B9", "restored by the same plan", "d1 = drain shop/single hold\nr1 = restart shop/single with d1 after d1\nt1 = restore d1 ramp 10s after r1"),
		text("B11", "a component of six, together", "ADMIT", approver, func(*trial) (*fleet, string) { return shop(), wheel() }),
		twin("B12", "a name of 63 digits", "r1 = restart "+string(long()), "r1 = restart "+string(long())+"{zone=a}"),
		twin("B13", "a single instance, briefly", "r1 = restart shop/single", "d1 = drain shop/single hold deadline 5s\nr1 = restart shop/single in-place with d1 deadline 5s after d1\nt1 = restore d1 after r1"),
	}
}

// wheel drains, restarts and restores the ring in the orders of the graph.
func wheel() string {
	f := shop()
	w := f.world()
	group := f.graph(w, newClock().Now()).Snapshot(newClock().Now()).Planned([]mesh.Service{ring(0)})
	var b strings.Builder
	last := ""
	step := func(id, format string, args ...any) {
		fmt.Fprintf(&b, "%s = %s%s\n", id, fmt.Sprintf(format, args...), last)
		last = " after " + id
	}
	for _, s := range group.DrainOrder {
		step("d-"+s.Name(), "drain %s hold deadline 5s lease 120s", s)
	}
	for _, s := range group.RestartOrder {
		step("r-"+s.Name(), "restart %s with d-%s deadline 5s", s, s.Name())
	}
	for _, s := range group.RestoreOrder {
		step("t-"+s.Name(), "restore d-%s", s.Name())
	}
	return b.String()
}

// disjoint runs two plans at once that have nothing in common.
func disjoint(t *trial) (result, error) {
	p, err := t.start(shop())
	if err != nil {
		return result{}, err
	}
	if _, err := t.begun(p, second, "d1 = drain shop/cart hold lease 120s\na1 = await d1 until restore after d1"); err != nil {
		return result{}, err
	}
	id, source := t.plan("r1 = restart %s", pick(t, "shop/leaf", "zoo/s01"))
	return t.finish(p, id, p.propose(agent, source))
}

// confine gives an agent the namespace zoo alone.
func confine(p *plane, name, how string) {
	scope := microkernel.Scope{Principal: name, Allow: []string{"zoo"}}
	if how == "deny" {
		scope = microkernel.Scope{Principal: name, Deny: []string{"shop"}}
	}
	p.policy.Scopes = append(p.policy.Scopes, scope)
}

// demandEvidence has services known for a while before they are acted on.
func demandEvidence(p *plane, age time.Duration) { p.policy.EvidenceAge = age }
