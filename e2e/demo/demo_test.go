package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	sluicev1 "github.com/sluicemesh/sluice/api/sluice/v1"
	"github.com/sluicemesh/sluice/e2e/app/shape"
	"github.com/sluicemesh/sluice/e2e/fault"
	"github.com/sluicemesh/sluice/e2e/load"
)

const second = time.Second

var began = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// at is a time of the API, s seconds after the load began.
func at(s float64) *timestamppb.Timestamp {
	return timestamppb.New(began.Add(time.Duration(s * float64(second))))
}

// testPlan drains two services one after the other, restarts both, restores both.
func testPlan() *sluicev1.Plan {
	return &sluicev1.Plan{Id: "p-1", Phase: "committed", Harm: "clean", Proposed: at(22), RestartSet: []string{"h/cache", "h/profile"},
		Steps: []*sluicev1.PlanStep{
			{Action: "drain", Target: "h/profile", Started: at(22.5), Acked: at(22.6), Ended: at(22.8), Acks: 1, Required: 1, ProofGrade: "A"},
			{Action: "drain", Target: "h/cache", Started: at(22.8), Acked: at(22.9), Ended: at(23.4), Acks: 2, Required: 2, ProofGrade: "A"},
			{Action: "restart", Target: "h/cache#cache-0", Started: at(23.4), Ended: at(23.6)},
			{Action: "restart", Target: "h/profile#profile-0", Started: at(23.6), Ended: at(24)},
			{Action: "restoreTraffic", Target: "h/profile", Started: at(24), Ended: at(24.1)},
		}}
}

// testArm is 40 s of load: fault at 20 s, plan from 22.5 s, well from 24 s on.
func testArm(name string) *arm {
	notice := 1500 * time.Millisecond
	recovered := 4 * second
	a := &arm{name: name, envoy: "1.40.0", envoys: 5, objective: load.Objective{P99: 500 * time.Millisecond, Errors: 0.01},
		timeline: load.Timeline{Injected: 20 * second, Acted: 22500 * time.Millisecond, Confirmed: 22600 * time.Millisecond},
		notice:   &notice, recovered: &recovered, plan: testPlan(), log: load.Log{Start: began},
		group: &sluicev1.GetGroupResponse{Symptom: "h/front", RestartSet: []string{"h/cache", "h/profile"},
			RestartOrder: []string{"h/cache", "h/profile"}, Members: []*sluicev1.Member{{Service: "h/profile"}, {Service: "h/cache"}}}}
	for i := range 40 * 50 {
		r := load.Record{Operation: "buy", Intended: time.Duration(i) * 20 * time.Millisecond, Status: 200}
		if r.Intended >= 20*second && r.Intended < 22*second {
			r.Status, r.Fault = 502, "poison-1"
		}
		r.Started, r.Ended = r.Intended, r.Intended+10*time.Millisecond
		a.log.Records = append(a.log.Records, r)
	}
	return a
}

func TestReportOfAnArm(t *testing.T) {
	r := testArm(armSluice).report([]string{"buy"})
	for name, c := range map[string]struct {
		got  *float64
		want float64
	}{
		"notice": {r.Notice, 1.5}, "decide": {r.Decide, 1}, "drain": {r.Drain, 0.2}, "gate": {r.Gate, 0.7},
		"restart": {r.Restart, 0.6}, "restore": {r.Restore, 0.1}, "recover": {r.Recover, 4}, "p50": {r.P50, 0.01},
	} {
		if c.got == nil || *c.got < c.want-1e-6 || *c.got > c.want+1e-6 {
			t.Errorf("%s is %v, want %g s", name, number(c.got), c.want)
		}
	}
	if want := (load.Counts{Sent: 2000, OK: 1900, FailedFault: 100}); r.Requests != want {
		t.Errorf("requests are %+v, want %+v", r.Requests, want)
	}
	if r.Harm == nil || *r.Harm != harmClean {
		t.Errorf("label is %v, want clean", r.Harm)
	}
	if s := r.Plan.Steps[0]; s.Acks == nil || *s.Acks != 1 || s.InFlightAtGate == nil || *s.InFlightAtGate != 0 || *s.Started != 0.5 {
		t.Errorf("first step is %+v", s)
	}
	if s := r.Plan.Steps[2]; s.Acks != nil || s.InFlightAtGate != nil || s.ProofGrade != nil {
		t.Errorf("a restart has proofs: %+v", s)
	}
	if len(r.Group.Members) != 2 || r.Group.Members[0] != "h/cache" {
		t.Errorf("members are %v, want them sorted", r.Group.Members)
	}
}

// What was not measured is null in the report, never zero.
func TestUnknownIsNull(t *testing.T) {
	a := &arm{name: armNone, timeline: load.Timeline{Injected: 0, Acted: load.Never}}
	text, err := json.Marshal(a.report(nil))
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"p50_s", "notice_s", "decide_s", "drain_s", "gate_s", "restart_s", "restore_s", "recover_s", "plan", "group"} {
		if !strings.Contains(string(text), `"`+key+`":null`) {
			t.Errorf("%s is not null in %s", key, text)
		}
	}
}

func TestHarmLabels(t *testing.T) {
	spoil := func(a *arm, from, to time.Duration) {
		for i := range a.log.Records {
			if r := &a.log.Records[i]; r.Intended >= from && r.Intended < to {
				r.Status = 503
			}
		}
	}
	clean := testArm(armNaive)
	lost := testArm(armNaive)
	lost.recovered = nil
	few := testArm(armNaive)
	few.log.Records = few.log.Records[:1000]
	worse := testArm(armNaive)
	worse.recovered = nil
	for i := range 30 * 50 { // 30 s more
		r := load.Record{Operation: "buy", Status: 200, Intended: 40*second + time.Duration(i)*20*time.Millisecond}
		r.Ended = r.Intended + 1
		worse.log.Records = append(worse.log.Records, r)
	}
	for i := range worse.log.Records { // healthy under the fault, broken by the action
		worse.log.Records[i].Status, worse.log.Records[i].Fault = 200, ""
	}
	spoil(worse, 22500*time.Millisecond, 70*second)
	short := testArm(armNaive)
	for i := range short.log.Records {
		short.log.Records[i].Status, short.log.Records[i].Fault = 200, ""
	}
	spoil(short, 28*second, 33*second)
	for name, c := range map[string]struct {
		arm  *arm
		want string
	}{"clean": {clean, harmClean}, "not recovered": {lost, harmNotRecovered}, "few": {few, harmInconclusive},
		"worse": {worse, harmHarm}, "five bad seconds": {short, harmClean}} {
		// 50 requests a second of one operation: 250 in a window, 125 before the action.
		if got := c.arm.harm([]string{"buy"}); *got != c.want {
			t.Errorf("%s: label is %s, want %s", name, *got, c.want)
		}
	}
}

// The first effect of any plan begins the recovery; the last plan that can have healed
// the application is the one shown.
func TestWatcherConcludes(t *testing.T) {
	first, last := testPlan(), testPlan()
	last.Id = "p-2"
	for _, step := range last.Steps {
		step.Started, step.Acked, step.Ended = nil, nil, nil
	}
	last.Steps[0].Started = at(30)
	a := testArm(armSluice)
	a.timeline = load.Timeline{Injected: 20 * second, Acted: load.Never}
	noticed := began.Add(21 * second)
	w := watcher{arm: a, start: began, plans: []*sluicev1.Plan{first, last}, noticed: &noticed,
		order: []string{"h/other", "h/front"},
		groups: map[string]*sluicev1.GetGroupResponse{
			"h/other": {Symptom: "h/other"}, "h/front": {Symptom: "h/front", RestartSet: []string{"h/profile", "h/cache"}}}}
	a.recovered = nil
	w.conclude()
	w.explain()
	if a.timeline.Acted != 22500*time.Millisecond || a.timeline.Confirmed != 22600*time.Millisecond {
		t.Errorf("timeline is %+v", a.timeline)
	}
	if a.plan.GetId() != "p-2" || a.group.GetSymptom() != "h/front" || *a.notice != second {
		t.Errorf("plan %s, group of %s, noticed after %s", a.plan.GetId(), a.group.GetSymptom(), *a.notice)
	}
	recovered := 5 * second
	a.recovered, a.plan = &recovered, nil
	if w.explain(); a.plan.GetId() != "p-1" {
		t.Errorf("plan %s is reported, but the application was well before it began", a.plan.GetId())
	}
	if w.final() != true {
		t.Error("two committed plans are not final")
	}
}

// The naive arm does what the plan did, when it did; without a plan, what the fault asks for.
func TestNaivePlan(t *testing.T) {
	d := &demo{options: options{kind: "poison"}, fault: fault.Fault{Service: "h/profile"},
		shape: shape.Topology{Faults: map[string]shape.Target{"poison": {Service: "h/profile", Store: "h/store"}}}}
	if delay, order := d.naivePlan(); delay != naiveDelay || strings.Join(order, " ") != "h/store h/profile" {
		t.Errorf("without a plan: %v after %s", order, delay)
	}
	d.arms = []*arm{testArm(armSluice)}
	if delay, order := d.naivePlan(); delay != 2500*time.Millisecond || strings.Join(order, " ") != "h/cache h/profile" {
		t.Errorf("with a plan: %v after %s", order, delay)
	}
}

func TestVerdict(t *testing.T) {
	good := testArm(armSluice)
	lost := testArm(armSluice)
	lost.recovered = nil
	costly := testArm(armSluice)
	costly.log.Records[1200].Status = 503
	other := testArm(armNaive)
	other.recovered = nil
	for name, c := range map[string]struct {
		arms []*arm
		ok   bool
	}{"good": {[]*arm{good, other}, true}, "lost": {[]*arm{lost}, false}, "costly": {[]*arm{costly}, false}} {
		if err := (&demo{arms: c.arms}).verdict(); (err == nil) != c.ok {
			t.Errorf("%s: verdict %v", name, err)
		}
	}
}

func TestPageStandsAlone(t *testing.T) {
	a := testArm(armSluice)
	a.plan.Steps[0].Target = `<script>alert(1)</script>`
	d := &demo{arms: []*arm{a, testArm(armNaive)}, started: began, shape: shape.Topology{Name: "hotel"}, fault: fault.Fault{ID: "poison-1"}}
	path := filepath.Join(t.TempDir(), "demo-report.html")
	if err := writePage(path, d.report(), d.arms); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, banned := range []string{"http://", "https://", "src=", "@import", "<script"} {
		if strings.Contains(string(text), banned) {
			t.Errorf("the page contains %q", banned)
		}
	}
	for _, want := range []string{"failed 0 of 2000 requests", "1.40.0", "<svg", "prefers-color-scheme:dark", "recovered</text>"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the page lacks %q", want)
		}
	}
}

func TestTableHasARowAnArm(t *testing.T) {
	d := &demo{arms: []*arm{testArm(armSluice), testArm(armNone)}, started: began}
	var out strings.Builder
	printTable(&out, d.report())
	if got := out.String(); !strings.Contains(got, "failed: recovery") || strings.Count(got, "clean") != 2 || !strings.Contains(got, "Envoy 1.40.0") {
		t.Errorf("table:\n%s", got)
	}
}

func TestParse(t *testing.T) {
	if o, err := parse([]string{"-topology", "social", "-fault", "crash", "-seed", "7", "-rps", "50", "-out", "/x", "-keep"}); err != nil ||
		o.topology != "social" || o.kind != "crash" || o.seed != 7 || !o.keep {
		t.Errorf("options are %+v, error %v", o, err)
	}
	for _, args := range [][]string{{"-rps", "0"}, {"-rps", "NaN"}, {"extra"}, {"-speed", "1"}} {
		if _, err := parse(args); err == nil {
			t.Errorf("%v was accepted", args)
		}
	}
	if _, err := armNames("sluice,best"); err == nil {
		t.Error("an unknown arm was accepted")
	}
}
