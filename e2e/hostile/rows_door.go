package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/sluicemesh/sluice/microkernel"
)

// doorRows are the attacks on who may ask, and on the door itself (phase A).
func doorRows() []attack {
	door := func(row, name, expected string, run func(*trial) (result, error)) attack {
		return attack{row: row, name: name, door: "api", expected: expected, run: run}
	}
	return []attack{
		door("11", "a namespace that is not the agent's", "REJECT:authz", tenant),
		door("20", "the same bytes again", "REPLAYED", replayed),
		door("21", "other bytes, or another proposer, with the same id", "REJECT:id-conflict", conflicting),
		door("28", "a flood", "THROTTLE", flood),
		door("29", "nobody, or somebody else", "REJECT:authn", stranger),
		door("48", "a header that does not end", "REFUSED", headerBomb),
		{row: "48", name: "uploads that do not end", door: "api", expected: "TIMEOUT", waits: true, run: slowloris},
		door("49", "an agent that does what operators do", "REJECT:authz", usurped),
		door("49", "an operator who approves their own plan", "REJECT:authz", selfApproved),
	}
}

// tenant lets an agent act outside of the namespaces that policy gives it.
func tenant(t *trial) (result, error) {
	p, err := t.make(shop())
	if err != nil {
		return result{}, err
	}
	confine(p, "rules", pick(t, "deny", "allow"))
	if err := p.start(); err != nil {
		return result{}, err
	}
	id, source := t.plan("%s", pick(t, "r1 = restart shop/leaf", "s1 = scale shop/cart to 5", "l1 = limit shop/cart 90/s",
		"d1 = drain zoo/s01 to shop/other\nt1 = restore d1 after d1", "r1 = restart [zoo/s01,shop/leaf]"))
	return t.finish(p, id, p.propose(agent, source))
}

// replayed hands in the same plan twice.
func replayed(t *trial) (result, error) {
	p, err := t.start(shop())
	if err != nil {
		return result{}, err
	}
	id, source := t.plan("r1 = restart %s", pick(t, "shop/leaf", "shop/cart", "zoo/s11"))
	if a := p.propose(agent, source); a.got() != "ADMIT" {
		return result{got: a.got()}, fmt.Errorf("the first was refused")
	}
	if t.IntN(2) == 0 {
		p.ended(id)
		p.pass(time.Duration(t.IntN(20)) * time.Hour)
	} else {
		p.pass(0)
	}
	a := p.propose(agent, source)
	p.ended(id)
	before := p.platform.state()
	again := p.propose(agent, source)
	p.pass(time.Minute)
	r := result{got: a.got(), code: a.Code}
	if again.got() != a.got() || p.platform.state() != before {
		return r, fmt.Errorf("asked again: %s, then %s", again.got(), p.platform.state())
	}
	r, err = t.recorded(p, id, r, true)
	r.changed = false // but for the first
	return r, err
}

// conflicting reuses the id of another plan.
func conflicting(t *trial) (result, error) {
	p, err := t.start(shop())
	if err != nil {
		return result{}, err
	}
	id := t.id()
	if a := p.propose(agent, t.spelled("plan "+id+"\nr1 = restart shop/slow")); a.got() != "HOLD:too-slow" {
		return result{got: a.got()}, fmt.Errorf("the first is not held")
	}
	p.pass(time.Duration(t.IntN(600)) * time.Second)
	var a answer
	if t.IntN(2) == 0 {
		a = p.propose(agent, t.spelled("plan "+id+"\nr1 = restart "+pick(t, "shop/leaf", "shop/glacial", "shop/slow deadline 19s")))
	} else {
		a = p.propose(pick(t, second, approver), t.spelled("plan "+id+"\nr1 = restart shop/slow"))
	}
	return t.finish(p, id, a)
}

// stranger asks without a credential that is ours. Nothing of it is journalled: a journal
// that strangers can write to is a disk that they can fill.
func stranger(t *trial) (result, error) {
	p, err := t.start(shop())
	if err != nil {
		return result{}, err
	}
	_, source := t.plan("r1 = restart shop/leaf")
	body, _ := json.Marshal(map[string]any{"program": map[string]any{"source": []byte(source)}})
	header := pick(t,
		map[string]string{},
		map[string]string{"Authorization": "Bearer"},
		map[string]string{"Authorization": "Bearer " + agent + "x"},
		map[string]string{"Authorization": "Bearer " + agent[1:]},
		map[string]string{"Authorization": "Basic " + admin},
		map[string]string{"Authorization": "Bearer eyJhbGciOiJub25lIn0.eyJhdWQiOiJvdGhlciIsInN1YiI6ImFkYW0ifQ."},
		map[string]string{"X-Agent": "adam"},
		map[string]string{"X-Forwarded-User": "adam", "X-Remote-User": "adam"},
		map[string]string{"X-Forwarded-Client-Cert": "By=spiffe://mesh/sluiced;Hash=00;URI=spiffe://mesh/ns/shop/sa/cart"},
	)
	a := p.call("ProposePlan", body, header)
	p.pass(time.Second)
	return result{got: a.got(), code: a.Code, changed: p.changed()}, nil
}

// headerBomb sends more header than anybody needs.
func headerBomb(t *trial) (result, error) {
	p, err := t.start(shop())
	if err != nil {
		return result{}, err
	}
	request, err := http.NewRequest(http.MethodPost, p.url+"/sluice.v1.SluiceService/ProposePlan", strings.NewReader("{}"))
	if err != nil {
		return result{}, err
	}
	request.Header.Set("Authorization", "Bearer "+agent)
	for i := range 1 + t.IntN(100) {
		request.Header.Set(fmt.Sprintf("X-Bomb-%d", i), strings.Repeat("x", 64<<10))
	}
	r := result{got: "TAKEN"}
	response, err := p.client.Do(request)
	if err != nil { // the server hung up while we were still writing
		r.got = "REFUSED"
	} else {
		response.Body.Close()
		if response.StatusCode == http.StatusRequestHeaderFieldsTooLarge {
			r.got = "REFUSED"
		}
	}
	r.changed = p.changed()
	return r, p.serves(t)
}

// serves checks that an honest request is answered.
func (p *plane) serves(t *trial) error {
	id, source := t.plan("r1 = restart shop/slow")
	if a := p.propose(second, source); a.got() != "HOLD:too-slow" {
		return fmt.Errorf("an honest plan %s: %s", id, a.got())
	}
	return nil
}

// slowloris opens connections that never finish a request. The server's patience is real
// time: 5 s for a header.
func slowloris(t *trial) (result, error) {
	p, err := t.start(shop())
	if err != nil {
		return result{}, err
	}
	var open []net.Conn
	for range 64 {
		c, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
		if err != nil {
			return result{}, err
		}
		defer c.Close()
		fmt.Fprintf(c, "POST /sluice.v1.SluiceService/ProposePlan HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: %s", strings.Repeat("a", t.IntN(100)))
		open = append(open, c)
	}
	if err := p.serves(t); err != nil {
		return result{}, err
	}
	r := result{got: "TIMEOUT"}
	for _, c := range open {
		if err := c.SetReadDeadline(time.Now().Add(12 * time.Second)); err != nil {
			return r, err
		}
		if _, err := bufio.NewReader(c).ReadByte(); err != nil {
			if timeout := (net.Error)(nil); asTimeout(err, &timeout) {
				r.got = "OPEN"
			}
		}
	}
	r.changed = p.changed()
	return r, nil
}

// usurped has an agent approve, resume, pause and abort.
func usurped(t *trial) (result, error) {
	p, err := t.start(shop())
	if err != nil {
		return result{}, err
	}
	id, source := t.plan("r1 = restart shop/slow")
	if a := p.propose(pick(t, agent, second, approver), source); a.got() != "HOLD:too-slow" {
		return result{got: a.got()}, fmt.Errorf("the plan is not held")
	}
	method := pick(t, "ApprovePlan", "Resume", "Pause", "AbortPlan")
	a := p.act(pick(t, agent, second, viewer), method, id)
	p.pass(time.Minute)
	r := result{got: a.got(), code: a.Code, changed: p.changed()}
	if now, _ := p.kernel.Record(microkernel.PlanID(id)); now.Phase != microkernel.Held || p.kernel.Status().Paused != "" {
		return r, fmt.Errorf("%s had an effect: %s", method, now.Phase)
	}
	return r, nil
}

// selfApproved has an operator approve what they proposed.
func selfApproved(t *trial) (result, error) {
	p, err := t.start(shop())
	if err != nil {
		return result{}, err
	}
	by := pick(t, approver, admin)
	id, source := t.plan("r1 = restart %s", pick(t, "shop/slow", "shop/glacial"))
	if a := p.propose(by, source); a.got() != "HOLD:too-slow" {
		return result{got: a.got()}, fmt.Errorf("the plan is not held")
	}
	a := p.act(by, "ApprovePlan", id)
	a.Message = a.Message[max(0, strings.Index(a.Message, "authz")):] // "reject: authz: why"
	return t.recorded(p, id, result{got: a.got(), code: a.Code}, false)
}
