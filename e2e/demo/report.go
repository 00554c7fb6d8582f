package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	sluicev1 "github.com/sluicemesh/sluice/api/sluice/v1"
	"github.com/sluicemesh/sluice/e2e/load"
	"github.com/sluicemesh/sluice/e2e/rig"
)

// report is demo-report.json. What is not known is null.
type report struct {
	Schema   string      `json:"schema"`
	Version  string      `json:"version"`
	Commit   string      `json:"commit"`
	Started  string      `json:"started"`
	Seconds  float64     `json:"seconds"`
	Topology string      `json:"topology"`
	Fault    string      `json:"fault"` // id: kind and seed
	Service  string      `json:"fault_service"`
	Seed     uint64      `json:"seed"`
	RPS      float64     `json:"rps"`
	Arms     []armReport `json:"arms"`
}

// armReport is one arm. Seconds of the phases are wall-clock time in which at least
// one step of the kind was under way.
type armReport struct {
	Name         string                   `json:"name"`
	Envoys       int                      `json:"envoys"`
	EnvoyVersion string                   `json:"envoy_version"`
	Requests     load.Counts              `json:"requests"`
	Sessions     map[string]load.Sessions `json:"sessions"` // streams and websockets: cut ones are no failed requests
	P50          *float64                 `json:"p50_s"`    // of successful requests since the fault
	P99          *float64                 `json:"p99_s"`
	Notice       *float64                 `json:"notice_s"`  // fault to symptom; controls: fault to first action
	Decide       *float64                 `json:"decide_s"`  // symptom to the plan's first effect
	Drain        *float64                 `json:"drain_s"`   // drains: pushed to ACKed by all
	Gate         *float64                 `json:"gate_s"`    // drains: ACKed to proved
	Restart      *float64                 `json:"restart_s"` // restarts: told to ready
	Restore      *float64                 `json:"restore_s"`
	Recover      *float64                 `json:"recover_s"` // fault to the first of ten seconds within the objective
	Harm         *string                  `json:"harm"`
	Plan         *planReport              `json:"plan"`
	Group        *groupReport             `json:"group"`
}

type planReport struct {
	ID    string       `json:"id"`
	Phase string       `json:"phase"`
	Steps []stepReport `json:"steps"`
}

// stepReport is one step; seconds count from the proposal of the plan.
type stepReport struct {
	Action         string   `json:"action"`
	Target         string   `json:"target"`
	Started        *float64 `json:"started_s"`
	Ended          *float64 `json:"ended_s"`
	Acks           *int32   `json:"acks"`
	InFlightAtGate *int32   `json:"in_flight_at_gate"`
	ProofGrade     *string  `json:"proof_grade"`
}

type groupReport struct {
	Symptom    string   `json:"symptom"`
	Members    []string `json:"members"`
	RestartSet []string `json:"restart_set"`
	Order      []string `json:"order"` // of the restarts
}

// report gathers what was measured.
func (d *demo) report() report {
	r := report{Schema: "sluice.demo/1", Version: version, Commit: commit,
		Started: d.started.UTC().Format(time.RFC3339), Seconds: time.Since(d.started).Seconds(),
		Topology: d.shape.Name, Fault: d.fault.ID, Service: d.fault.Service, Seed: d.seed, RPS: d.rps}
	for _, a := range d.arms {
		r.Arms = append(r.Arms, a.report(operations(&d.shape)))
	}
	return r
}

func (r report) write(dir string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "demo-report.json"), append(text, '\n'), 0o644)
	}
	if err != nil {
		return fmt.Errorf("demo-report.json: %w", err)
	}
	return nil
}

// report is the arm as it stands in the report.
func (a *arm) report(operations []string) armReport {
	r := armReport{Name: a.name, Envoys: a.envoys, EnvoyVersion: a.envoy, Requests: a.counts(), Sessions: a.streams,
		Notice: seconds(a.notice), Recover: seconds(a.recovered), Harm: a.harm(operations)}
	since := load.Between(a.log.Records, a.timeline.Injected, load.Never)
	r.P50, r.P99 = percentile(since, 0.50), percentile(since, 0.99)
	if a.plan != nil {
		a.reportPlan(&r)
	}
	if a.group != nil {
		r.Group = newGroupReport(a.group)
	}
	if n := len(a.restarts); n > 0 {
		took := a.restarts[n-1].end - a.restarts[0].began
		r.Restart = seconds(&took)
	}
	return r
}

// reportPlan adds the plan and the seconds of its phases.
func (a *arm) reportPlan(r *armReport) {
	r.Plan = newPlanReport(a.plan)
	if a.notice != nil && a.timeline.Acted != load.Never {
		decide := max(a.timeline.Acted-a.timeline.Injected-*a.notice, 0)
		r.Decide = seconds(&decide)
	}
	var drains, gates, restarts, restores []span
	for _, step := range a.plan.GetSteps() {
		began, acked, ended := rig.At(step.GetStarted()), rig.At(step.GetAcked()), rig.At(step.GetEnded())
		switch strings.ToLower(step.GetAction()) {
		case "drain":
			drains, gates = addSpan(drains, began, acked), addSpan(gates, acked, ended)
		case "restart":
			restarts = addSpan(restarts, began, ended)
		case "restoretraffic":
			restores = addSpan(restores, began, ended)
		}
	}
	r.Drain, r.Gate, r.Restart, r.Restore = covered(drains), covered(gates), covered(restarts), covered(restores)
}

func newPlanReport(plan *sluicev1.Plan) *planReport {
	p := &planReport{ID: plan.GetId(), Phase: plan.GetPhase(), Steps: []stepReport{}}
	proposed := rig.At(plan.GetProposed())
	for _, step := range plan.GetSteps() {
		s := stepReport{Action: step.GetAction(), Target: step.GetTarget(),
			Started: offset(proposed, rig.At(step.GetStarted())), Ended: offset(proposed, rig.At(step.GetEnded()))}
		if step.GetAcked() != nil {
			s.Acks = &step.Acks
		}
		if step.GetProofGrade() != "" {
			s.ProofGrade, s.InFlightAtGate = &step.ProofGrade, &step.InFlightAtGate
		}
		p.Steps = append(p.Steps, s)
	}
	return p
}

func newGroupReport(group *sluicev1.GetGroupResponse) *groupReport {
	g := &groupReport{Symptom: group.GetSymptom(), Members: []string{},
		RestartSet: append([]string{}, group.GetRestartSet()...), Order: append([]string{}, group.GetRestartOrder()...)}
	for _, member := range group.GetMembers() {
		g.Members = append(g.Members, member.GetService())
	}
	slices.Sort(g.Members)
	return g
}

// span is a stretch of time.
type span struct{ from, to time.Time }

// addSpan appends [from, to) if both are known.
func addSpan(list []span, from, to *time.Time) []span {
	if from == nil || to == nil || !to.After(*from) {
		return list
	}
	return append(list, span{*from, *to})
}

// covered is the time that spans cover together, in seconds; nil if there is none.
func covered(spans []span) *float64 {
	if len(spans) == 0 {
		return nil
	}
	slices.SortFunc(spans, func(a, b span) int { return a.from.Compare(b.from) })
	var total time.Duration
	end := spans[0].from
	for _, s := range spans {
		from := s.from
		if from.Before(end) {
			from = end
		}
		if s.to.After(from) {
			total += s.to.Sub(from)
			end = s.to
		}
	}
	return seconds(&total)
}

func seconds(d *time.Duration) *float64 {
	if d == nil {
		return nil
	}
	s := d.Seconds()
	return &s
}

func offset(from, at *time.Time) *float64 {
	if from == nil || at == nil {
		return nil
	}
	d := at.Sub(*from)
	return seconds(&d)
}

func percentile(records []load.Record, q float64) *float64 {
	if d, ok := load.Percentile(records, q); ok {
		return seconds(&d)
	}
	return nil
}
