package main

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/microkernel"
	"github.com/sluicemesh/sluice/microkernel/driver"
	"github.com/sluicemesh/sluice/microkernel/journal"
	"github.com/sluicemesh/sluice/topology"
)

// executionRows are what happens to plans that were admitted (phase X).
func executionRows() []attack {
	exec := func(row, name, expected string, run func(*trial) (result, error)) attack {
		return attack{row: row, name: name, door: "api", expected: expected, run: run}
	}
	return []attack{
		exec("25", "the topology widens while the plan waits", "REJECT:stale-epoch", widens),
		exec("25", "the topology widens after the first effect", "ABORT+COMP", widensLate),
		exec("26", "somebody else has written the overlay's object", "ABORT+COMP", foreign(func(p *platform) {
			p.refuseApply = func(o mesh.Overlay) error {
				if o.Key.Callee == "shop/leaf" {
					return &driver.Refused{Code: isa.CodeForeignOwner, Reason: "field manager kubectl-edit owns it"}
				}
				return nil
			}
		}, "d1 = drain shop/cart hold deadline 10s lease 120s\nd2 = drain shop/leaf hold deadline 10s lease 120s after d1\nt2 = restore d2 after d2\nt1 = restore d1 after t2")),
		exec("26", "an autoscaler owns the replicas", "ABORT+COMP", foreign(func(p *platform) {
			p.refuseScale = &driver.Refused{Code: isa.CodeForeignOwner, Reason: "HorizontalPodAutoscaler shop/cart owns it"}
		}, "d1 = drain shop/cart hold deadline 10s lease 120s\ns1 = scale shop/cart to 5 after d1\nt1 = restore d1 after s1")),
		static("26", "an autoscaler owns the replicas, and is known to", "REJECT:foreign-owner", "s1 = scale shop/other to 5",
			"d1 = drain shop/other hold\ns1 = scale shop/other to 3 after d1\nt1 = restore d1 after s1"),
		static("26", "GitOps owns the configuration", "REJECT:foreign-owner", "c1 = rollback configmap/shop/front to 2"),
		exec("26", "somebody writes the configuration meanwhile", "ABORT+COMP", foreign(func(p *platform) {
			p.refuseRevision = &driver.Refused{Code: isa.CodeForeignOwner, Reason: "resourceVersion conflict: kubectl-edit"}
		}, "d1 = drain shop/cart hold deadline 10s lease 120s\nc1 = rollback configmap/shop/cart to 7 after d1\nt1 = restore d1 after c1")),
		exec("26", "a rollout replaces the instance", "ABORT+COMP", foreign(func(p *platform) {
			p.refuseRestart = func(mesh.Ref) error {
				return &driver.Refused{Code: isa.CodeForeignOwner, Reason: "a rollout is in progress"}
			}
		}, "r1 = restart shop/cart#cart-0 with d1 after d1\nd1 = drain shop/cart#cart-0\nt1 = restore d1 after r1")),
		exec("43", "a proxy refuses the configuration", "ABORT+COMP", foreign(func(p *platform) {
			p.refuseApply = func(mesh.Overlay) error { return &driver.Refused{Reason: "NACK of shop.front-1: bad cluster"} }
		}, "r1 = restart shop/leaf")),
		exec("43", "the ACK never comes", "ABORT+COMP", foreign(func(p *platform) { p.muteApply = true }, "r1 = restart shop/leaf")),
		{row: "46", name: "a second kernel on the same journal", door: "core", expected: "REFUSED", run: splitBrain},
		exec("47", "what is to be undone cannot be", "FREEZE", stuck),
	}
}

// undone reports a plan that was stopped: what it changed is as it was.
func (t *trial) undone(p *plane, id string) (result, error) {
	end := p.ended(id)
	r := result{got: strings.ToUpper(string(end.Phase))}
	if end.Phase == microkernel.Compensated {
		r.got = "ABORT+COMP"
	}
	left, starts := len(p.platform.Installed()), len(p.platform.starts)
	if end.Reason == "" {
		return r, errors.New("the record does not say why")
	}
	r, err := t.recorded(p, id, r, true)
	r.changed = left > 0 || starts > 0
	return r, err
}

// foreign runs a plan against a platform that resists.
func foreign(resist func(*platform), body string) func(*trial) (result, error) {
	return func(t *trial) (result, error) {
		p, err := t.start(shop())
		if err != nil {
			return result{}, err
		}
		resist(p.platform)
		id, source := t.plan("%s", body)
		if a := p.propose(pick(t, agent, approver), source); a.got() != "ADMIT" {
			return result{got: a.got(), code: a.Code}, nil
		}
		return t.undone(p, id)
	}
}

// widens changes the restart set while a plan waits for its locks.
func widens(t *trial) (result, error) {
	p, err := t.start(shop())
	if err != nil {
		return result{}, err
	}
	first, err := t.begun(p, agent, "d1 = drain shop/leaf hold lease 120s\na1 = await d1 until restore after d1")
	if err != nil {
		return result{}, err
	}
	id := t.id()
	epoch := pick(t, "", " epoch "+p.platform.Snapshot().Epoch())
	if a := p.propose(second, t.spelled("plan "+id+epoch+"\nr1 = restart shop/leaf")); a.got() != "ADMIT" {
		return result{got: a.got()}, errors.New("the second plan was refused at once")
	}
	p.pass(time.Duration(t.IntN(100)) * time.Second)
	p.platform.observe(func(g *topology.Graph) { g.MarkSticky(pick(t, mesh.Service("zoo/c01"), "zoo/c03"), "shop/leaf") })
	if a := p.act(approver, "AbortPlan", first); a.Status != 200 {
		return result{}, fmt.Errorf("abort of the first: %s", a.got())
	}
	return t.after(p, id)
}

// widensLate changes the restart set when the drain is in force and the restart is not
// ordered yet.
func widensLate(t *trial) (result, error) {
	p, err := t.start(shop())
	if err != nil {
		return result{}, err
	}
	p.platform.refuseApply = func(o mesh.Overlay) error { // called under the platform's lock
		p.platform.graph.MarkSticky("zoo/c01", "shop/leaf")
		p.platform.snapshot = p.platform.graph.Snapshot(p.clock.Now())
		return nil
	}
	id, source := t.plan("%s", pick(t, "r1 = restart shop/leaf#leaf-0 with d1 after d1\nd1 = drain shop/leaf#leaf-0\nt1 = restore d1 after r1", "r1 = restart shop/leaf"))
	if a := p.propose(agent, source); a.got() != "ADMIT" {
		return result{got: a.got(), code: a.Code}, nil
	}
	return t.undone(p, id)
}

// splitBrain starts a second kernel while the first one leads.
func splitBrain(t *trial) (result, error) {
	p, err := t.start(shop())
	if err != nil {
		return result{}, err
	}
	rival := &plane{dir: p.dir, clock: p.clock, platform: p.platform, policy: p.policy, sampling: 1, client: p.client}
	r := result{got: "TAKEN"}
	err = rival.startKernel()
	rival.stop()
	if errors.Is(err, journal.ErrLocked) {
		r.got, err = "REFUSED", nil
	}
	r.changed = p.changed()
	return r, errors.Join(err, p.serves(t))
}

// stuck lets an overlay never be withdrawn: its plan is frozen, others go on.
func stuck(t *trial) (result, error) {
	p, err := t.start(shop())
	if err != nil {
		return result{}, err
	}
	p.platform.refuseWithdraw = func(key mesh.OverlayKey) error {
		if key.Callee == "shop/leaf" {
			return errors.New("409: the object has been modified")
		}
		return nil
	}
	id, source := t.plan("%s", pick(t, "r1 = restart shop/leaf", "d1 = drain shop/leaf hold\nt1 = restore d1 after d1"))
	if a := p.propose(agent, source); a.got() != "ADMIT" {
		return result{got: a.got(), code: a.Code}, nil
	}
	end := p.ended(id)
	r := result{got: strings.ToUpper(string(end.Phase))}
	if end.Phase == microkernel.Frozen {
		r.got = "FREEZE"
	}
	if !p.until(time.Second, p.paged) {
		return r, errors.New("nobody was paged")
	}
	other, source := t.plan("r1 = restart shop/cart")
	if a := p.propose(second, source); a.got() != "ADMIT" {
		return r, fmt.Errorf("another group: %s", a.got())
	}
	if other := p.ended(other); other.Phase != microkernel.Committed {
		return r, fmt.Errorf("another group's plan is %s: %s", other.Phase, other.Reason)
	}
	r, err = t.recorded(p, id, r, true)
	r.changed = false // but for what could not be undone
	return r, err
}

func asTimeout(err error, timeout *net.Error) bool {
	return errors.As(err, timeout) && (*timeout).Timeout()
}

// paged reports whether somebody was called.
func (p *plane) paged() bool {
	p.platform.mu.Lock()
	defer p.platform.mu.Unlock()
	return len(p.platform.pages) > 0
}
