package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/microkernel"
	"github.com/sluicemesh/sluice/topology"
)

// liveRows are the attacks that only the state of now shows (phase L).
func liveRows() []attack {
	live := func(row, name, expected string, run func(*trial) (result, error)) attack {
		return attack{row: row, name: name, door: "api", expected: expected, run: run}
	}
	return []attack{
		live("2", "a slow drip over an hour", "THROTTLE then HOLD", drip),
		static("3", "all of it, and nothing said of the requests", "REJECT:no-capacity",
			"d1 = drain shop/cart\nt1 = restore d1 after d1", "d1 = drain shop/single#single-0\nt1 = restore d1 after d1",
			"d1 = drain shop/single{zone=a}\nt1 = restore d1 after d1", "d1 = drain shop/cart 100% streams cut\nt1 = restore d1 after d1",
			"d1 = drain shop/leaf#leaf-0\nt1 = restore d1 after d1\nd2 = drain shop/cart\nt2 = restore d2 after d2"),
		static("3", "a hold that callers do not wait for", "HOLD:too-slow", "r1 = restart shop/slow", "r1 = restart shop/glacial",
			"d1 = drain shop/slow hold\nr1 = restart shop/slow with d1 after d1\nt1 = restore d1 after r1",
			"d1 = drain shop/glacial hold\nr1 = restart shop/glacial with d1 after d1\nt1 = restore d1 after r1"),
		live("4", "two zones, each safe alone", "REJECT:conflict", zones),
		live("22", "a held plan that nobody approves", "REJECT:expired", unapproved),
		live("22", "a queued plan whose turn never comes", "REJECT:expired", paused),
		live("27", "two agents, one restart set, the first ends", "ADMIT", overlap(true)),
		live("27", "two agents, one restart set, the first stays", "REJECT:conflict", overlap(false)),
		static("31", "back to what never was", "REJECT:unknown-version", "c1 = rollback configmap/shop/cart to 999", "c1 = rollback deployment/shop/leaf to none"),
		static("31", "back to what is denied", "REJECT:denied", "c1 = rollback configmap/shop/cart to 6"),
		live("32", "drain and restore, over and over", "THROTTLE then HOLD", flap),
		live("33", "a second member of a quorum", "REJECT:quorum", quorum),
		live("34", "another service during an incident", "REJECT:budget", incident),
		live("35", "the fifth restart, by an agent", "REJECT:restart-budget", storm(agent)),
		live("35", "the fifth restart, asked again with approval", "HOLD:restart-budget", storm(approver)),
	}
}

// sequence spells the different refusals of a long attack in the order of their first
// appearance.
type sequence []string

func (s *sequence) note(got string) {
	kind, _, _ := strings.Cut(got, ":")
	if kind != "ADMIT" && (len(*s) == 0 || (*s)[len(*s)-1] != kind) {
		*s = append(*s, kind)
	}
}

func (s *sequence) String() string {
	var first []string
	seen := map[string]bool{}
	for _, kind := range *s {
		if !seen[kind] {
			first = append(first, kind)
		}
		seen[kind] = true
	}
	return strings.Join(first, " then ")
}

// drip restarts another service every twenty seconds for an hour.
func drip(t *trial) (result, error) {
	p, err := t.start(shop())
	if err != nil {
		return result{}, err
	}
	every := time.Duration(18+t.IntN(5)) * time.Second
	var seen sequence
	done := map[int]bool{}
	last, id := answer{}, ""
	order := t.Perm(40)
	for began := p.clock.Now(); p.clock.Now().Sub(began) < time.Hour && len(done) < 40; {
		next := order[len(done)]
		id = t.id()
		a := p.propose(agent, t.spelled(fmt.Sprintf("plan %s\nr1 = restart %s", id, leaf(next))))
		seen.note(a.got())
		if a.got() == "ADMIT" {
			done[next] = true
			p.ended(id)
		} else {
			last = a
		}
		if strings.HasPrefix(a.got(), "HOLD") {
			break
		}
		p.pass(every)
	}
	if len(done) < 10 || len(done) > 30 {
		return result{got: seen.String()}, fmt.Errorf("%d services were restarted", len(done))
	}
	r, err := t.recorded(p, id, result{got: seen.String(), code: last.Code}, false)
	r.changed = false // but for what was admitted
	return r, err
}

// flap drains and restores one service twenty times.
func flap(t *trial) (result, error) {
	p, err := t.start(shop())
	if err != nil {
		return result{}, err
	}
	target := pick(t, "shop/cart#cart-0", "shop/leaf#leaf-1", "shop/zoned{zone=b}", "zoo/s03#s03-0")
	var seen sequence
	last, id, ran := answer{}, "", 0
	for range 20 {
		id = t.id()
		a := p.propose(agent, t.spelled(fmt.Sprintf("plan %s\nd1 = drain %s\nt1 = restore d1 after d1", id, target)))
		seen.note(a.got())
		if a.got() == "ADMIT" {
			ran++
			p.ended(id)
		} else {
			last = a
		}
		if strings.HasPrefix(a.got(), "HOLD") {
			break
		}
		p.pass(time.Duration(1+t.IntN(20)) * time.Second)
	}
	if ran != p.policy.DrainsPerTarget {
		return result{got: seen.String()}, fmt.Errorf("%d drains were allowed", ran)
	}
	r, err := t.recorded(p, id, result{got: seen.String(), code: last.Code}, false)
	r.changed = false // but for what was admitted
	return r, err
}

// begun proposes a plan that must be admitted, and waits until it has changed something.
func (t *trial) begun(p *plane, token, body string) (string, error) {
	id, source := t.plan("%s", body)
	if a := p.propose(token, source); a.got() != "ADMIT" {
		return id, fmt.Errorf("the plan before it: %s: %v", a.got(), a.Faults)
	}
	if !p.until(time.Minute, func() bool { return len(p.platform.Installed()) > 0 }) {
		return id, fmt.Errorf("the plan before it has not begun")
	}
	return id, nil
}

// waits proposes a plan and checks that it is only queued.
func (t *trial) waits(p *plane, token, body string) (string, error) {
	id, source := t.plan("%s", body)
	a := p.propose(token, source)
	p.pass(0)
	if r, _ := p.kernel.Record(microkernel.PlanID(id)); a.got() != "ADMIT" || r.Phase != microkernel.Queued {
		return id, fmt.Errorf("the second plan: %s, %s", a.got(), r.Phase)
	}
	return id, nil
}

// after reports what became of a plan that waited, and that it never did anything.
func (t *trial) after(p *plane, id string) (result, error) {
	end := p.ended(id)
	r := result{got: "REJECT:" + string(end.Verdict.Code), code: string(end.Verdict.Code)}
	if end.Phase == microkernel.Committed {
		r.got, r.code = "ADMIT", ""
	}
	p.platform.mu.Lock()
	did := p.platform.touched[id]
	p.platform.mu.Unlock()
	r, err := t.recorded(p, id, r, r.got == "ADMIT")
	r.changed = did > 0
	return r, err
}

const (
	zoneA = "d1 = drain shop/zoned{zone=a} streams ask lease 120s\na1 = await d1 until restore after d1"
	zoneB = "d1 = drain shop/zoned{zone=b} streams ask lease 120s\na1 = await d1 until restore after d1"
)

// zones takes one zone off for good, and asks for the other.
func zones(t *trial) (result, error) {
	p, err := t.start(shop())
	if err != nil {
		return result{}, err
	}
	one, other := zoneA, zoneB
	if t.IntN(2) == 0 {
		one, other = other, one
	}
	if _, err := t.begun(p, agent, one); err != nil {
		return result{}, err
	}
	p.pass(time.Duration(t.IntN(60)) * time.Second)
	id, err := t.waits(p, pick(t, agent, second, approver), other)
	if err != nil {
		return result{}, err
	}
	return t.after(p, id)
}

// overlap restarts one service by two agents at once.
func overlap(ends bool) func(*trial) (result, error) {
	return func(t *trial) (result, error) {
		p, err := t.start(shop())
		if err != nil {
			return result{}, err
		}
		first, err := t.begun(p, agent, "d1 = drain shop/cart hold lease 120s\na1 = await d1 until restore after d1")
		if err != nil {
			return result{}, err
		}
		id, err := t.waits(p, second, pick(t, "r1 = restart shop/cart", "r1 = restart shop/cart#cart-1 with d1 after d1\nd1 = drain shop/cart#cart-1\nt1 = restore d1 after r1"))
		if err != nil {
			return result{}, err
		}
		p.pass(time.Duration(1+t.IntN(200)) * time.Second)
		if ends {
			if a := p.act(approver, "AbortPlan", first); a.Status != 200 {
				return result{}, fmt.Errorf("abort of the first: %s", a.got())
			}
		}
		return t.after(p, id)
	}
}

// unapproved lets a held plan wait for longer than it may.
func unapproved(t *trial) (result, error) {
	p, err := t.start(shop())
	if err != nil {
		return result{}, err
	}
	id, source := t.plan("r1 = restart %s", pick(t, "shop/slow", "shop/glacial"))
	if a := p.propose(agent, source); !strings.HasPrefix(a.got(), "HOLD") {
		return result{got: a.got(), code: a.Code}, nil
	}
	p.pass(p.policy.HeldTTL + time.Second)
	return t.after(p, id)
}

// paused lets a plan's turn never come, though nothing overlaps with it any more.
func paused(t *trial) (result, error) {
	p, err := t.start(shop())
	if err != nil {
		return result{}, err
	}
	first, err := t.begun(p, agent, "d1 = drain shop/cart hold lease 120s\na1 = await d1 until restore after d1")
	if err != nil {
		return result{}, err
	}
	id, err := t.waits(p, second, "r1 = restart shop/cart")
	if err != nil {
		return result{}, err
	}
	for _, a := range []answer{p.act(admin, "Pause", ""), p.act(admin, "AbortPlan", first)} {
		if a.Status != 200 {
			return result{}, fmt.Errorf("pause and abort: %s", a.got())
		}
	}
	return t.after(p, id)
}

// quorum restarts a member while another is down.
func quorum(t *trial) (result, error) {
	f := shop()
	down := t.IntN(3)
	downed(&f.services["shop/ledger"].Instances[down])
	up := (down + 1 + t.IntN(2)) % 3
	id, source := t.plan("d1 = drain shop/ledger#ledger-%d\nr1 = restart shop/ledger#ledger-%d with d1 after d1\nt1 = restore d1 after r1", up, up)
	return t.one(f, pick(t, agent, approver), id, source)
}

// incident restarts what a broken service calls, though nothing says that it is the cause.
// A service that nothing broken depends on spends nobody's budget, and is no such row.
func incident(t *trial) (result, error) {
	p, err := t.start(shop())
	if err != nil {
		return result{}, err
	}
	p.platform.symptoms = []topology.Symptom{{Service: "shop/front", Onset: p.clock.Now().Add(-time.Minute)}}
	id, source := t.plan("r1 = restart %s", pick(t, leaf(3), leaf(17), "shop/other", "shop/cart"))
	return t.finish(p, id, p.propose(agent, source))
}

// storm restarts one service for the fifth time within ten minutes.
func storm(token string) func(*trial) (result, error) {
	return func(t *trial) (result, error) {
		p, err := t.start(shop())
		if err != nil {
			return result{}, err
		}
		target := pick(t, mesh.Service("shop/single"), leaf(4), "shop/other")
		for range p.policy.RestartsPerService {
			id := t.id()
			if a := p.propose(agent, t.spelled(fmt.Sprintf("plan %s\nr1 = restart %s", id, target))); a.got() != "ADMIT" {
				return result{got: a.got(), code: a.Code}, nil
			}
			p.ended(id)
			p.pass(time.Duration(5+t.IntN(100)) * time.Second)
		}
		before := p.platform.state()
		id := t.id()
		a := p.propose(token, t.spelled(fmt.Sprintf("plan %s\nr1 = restart %s", id, target)))
		r, err := t.finish(p, id, a)
		r.changed = before != p.platform.state()
		return r, err
	}
}

// flood asks for thousands of plans at once, while another principal has one.
func flood(t *trial) (result, error) {
	p, err := t.start(shop())
	if err != nil {
		return result{}, err
	}
	verdicts := map[string]int{}
	const asked = 1500
	for i := range asked {
		if i == asked/2 {
			id, source := t.plan("r1 = restart shop/leaf")
			if a := p.propose(second, source); a.got() != "ADMIT" {
				return result{got: a.got()}, fmt.Errorf("another principal was refused")
			}
			p.ended(id)
		}
		body, _ := json.Marshal(map[string]any{"program": map[string]any{"source": []byte(fmt.Sprintf("plan f%d\ns1 = scale shop/cart to 0", i))}})
		a := p.call("ProposePlan", body, map[string]string{"Authorization": "Bearer " + agent})
		verdicts[a.got()]++
	}
	p.stop()
	say, err := p.audit("f0")
	if err != nil {
		return result{}, err
	}
	r := result{got: "THROTTLE", code: "rate", audit: say.id}
	if verdicts["THROTTLE"] < asked-2*p.policy.PlansBurst || say.entries > 200 {
		return r, fmt.Errorf("verdicts %v, %d entries in the journal", verdicts, say.entries)
	}
	return r, nil
}
