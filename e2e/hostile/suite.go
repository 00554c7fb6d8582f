package main

import (
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"strings"

	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/isa/codec"
	"github.com/sluicemesh/sluice/microkernel"
)

// attack is one way to try a row of the list, or to be its benign twin.
type attack struct {
	row      string // "12", "B3"
	name     string // what is tried
	door     string // api, mcp, otlp, core; "" = there is none yet
	expected string // the verdict as the list writes it
	missing  string // why there is no door
	waits    bool   // in real time, for what is not ours: others may be tried meanwhile
	run      func(*trial) (result, error)
}

// result is what came of one variant.
type result struct {
	got     string
	code    string
	audit   string // the entry of the journal that says why, "" = none
	changed bool   // the world is another than before
}

// trial is one variant while it runs: a source of variation, and the planes it made.
type trial struct {
	*rand.Rand
	n      int
	expect string
	mcp    bool // proposals go in by MCP
	planes []*plane
}

// newTrial returns the n-th variant of an attack; the same seed gives the same.
func newTrial(a *attack, n int, seed uint64) *trial {
	h := fnv.New64a()
	fmt.Fprintf(h, "%s %s %d", a.row, a.name, n)
	return &trial{Rand: rand.New(rand.NewPCG(seed, h.Sum64())), n: n, expect: a.expected}
}

func (t *trial) close() {
	for _, p := range t.planes {
		p.close()
	}
}

// make returns a plane that is not started.
func (t *trial) make(f *fleet) (*plane, error) {
	p, err := newPlane(f)
	if err == nil {
		t.planes = append(t.planes, p)
	}
	return p, err
}

// start returns a plane that takes plans.
func (t *trial) start(f *fleet) (*plane, error) {
	p, err := t.make(f)
	if err == nil {
		err = p.start()
	}
	return p, err
}

// pick returns one of choices.
func pick[T any](t *trial, choices ...T) T { return choices[t.IntN(len(choices))] }

// id returns an id for a plan.
func (t *trial) id() string {
	return fmt.Sprintf("%s-%06x", pick(t, "p", "plan", "0", "restart-cart", strings.Repeat("x", 40)), t.IntN(1<<24))
}

// plan completes a program's text with an id, and spells it in one of the three ways.
func (t *trial) plan(format string, args ...any) (id, source string) {
	id = t.id()
	return id, t.spelled("plan " + id + "\n" + fmt.Sprintf(format, args...))
}

// spelled writes a program in compact text, JSON or YAML, if it can be read at all.
func (t *trial) spelled(text string) string {
	p, _, faults := isa.ParseText([]byte(text))
	format := pick(t, codec.Text, codec.JSON, codec.YAML)
	if len(faults) > 0 || format == codec.Text || t.mcp && format == codec.YAML { // MCP takes text and JSON
		return text
	}
	data, err := codec.Encode(p, format)
	if err != nil || len(data) > isa.MaxBytes {
		return text
	}
	return string(data)
}

// one hands a program to a fresh plane and reports what it says and does.
func (t *trial) one(f *fleet, token, id, source string) (result, error) {
	p, err := t.start(f)
	if err != nil {
		return result{}, err
	}
	if t.mcp {
		return t.finish(p, id, p.proposeMCP(token, source))
	}
	return t.finish(p, id, p.propose(token, source))
}

// finish compares the answer with the world and with the journal.
func (t *trial) finish(p *plane, id string, a answer) (result, error) {
	if err := a.explains(); err != nil {
		return result{}, err
	}
	r := result{got: a.got(), code: a.Code}
	admitted := r.got == "ADMIT"
	if admitted {
		if done := p.ended(id); done.Phase != microkernel.Committed {
			return r, fmt.Errorf("admitted, and ended as %s: %s; %s", done.Phase, done.Reason, done.Waiting)
		}
	}
	return t.recorded(p, id, r, admitted)
}

// recorded stops the plane and looks for the reason in its journal.
func (t *trial) recorded(p *plane, id string, r result, admitted bool) (result, error) {
	p.pass(0)
	r.changed = p.changed()
	if len(p.platform.faults) > 0 {
		return r, errors.New(strings.Join(p.platform.faults, "; "))
	}
	p.stop()
	say, err := p.audit(id)
	if err != nil {
		return r, fmt.Errorf("read the journal: %w", err)
	}
	r.audit = say.id
	switch {
	case say.id == "":
		return r, errors.New("the journal says nothing of it")
	case !admitted && say.reason == "":
		return r, errors.New("the journal does not say why")
	case !admitted && string(say.code) != r.code && r.code != "":
		return r, fmt.Errorf("the journal says %s, the answer %s", say.code, r.code)
	}
	return r, nil
}

// line is one row of the report.
type line struct {
	Row          string  `json:"row"`
	Variant      int     `json:"variant"`
	Case         string  `json:"case"`
	Door         *string `json:"door"`
	Expected     string  `json:"expected"`
	Got          string  `json:"got"`
	Code         *string `json:"code"`
	WorldChanged *bool   `json:"world_changed"`
	AuditID      *string `json:"audit_id"`
	Passed       *bool   `json:"passed"`
	Reason       string  `json:"reason,omitempty"` // of a failure, or why there is no door
}

// attempt runs one variant.
func (a *attack) attempt(n int, seed uint64) line {
	l := line{Row: a.row, Variant: n, Case: a.name, Expected: a.expected}
	if a.run == nil {
		l.Reason = a.missing
		return l
	}
	l.Door = &a.door
	t := newTrial(a, n, seed)
	defer t.close()
	r, err := a.run(t)
	passed := err == nil && r.got == a.expected && r.changed == a.disturbs()
	l.Got, l.Passed, l.WorldChanged = r.got, &passed, &r.changed
	if r.code != "" {
		l.Code = &r.code
	}
	if r.audit != "" {
		l.AuditID = &r.audit
	}
	switch {
	case err != nil:
		l.Reason = err.Error()
	case passed:
	case r.got != a.expected:
		l.Reason = "another verdict than written"
	default:
		l.Reason = fmt.Sprintf("world changed: %v", r.changed)
	}
	return l
}

// disturbs reports whether the attack's verdict lets anything happen at all. A row that
// runs honest plans beside says itself whether the world is as it should be.
func (a *attack) disturbs() bool { return a.expected == "ADMIT" }
