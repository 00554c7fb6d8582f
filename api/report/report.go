// Package report writes the incident report of one plan, as Markdown and as HTML: what was
// wrong, what was decided and why, what was done when and with which proof, what was
// harmed and undone. It rests on the kernel's record alone. It is not for live views.
package report

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/microkernel"
)

// report is what both spellings show, in the order in which they show it. Texts are plain:
// each template escapes them.
type report struct {
	Title    string
	Outcome  string // one sentence
	Facts    []fact
	Wrong    []string // sentences: symptoms and evidence
	Members  []member
	Orders   []fact
	Written  string // compact text
	Expanded string // "" if it is what was written
	Faults   []isa.Fault
	Steps    []step
	Off      []string // sentences: which traffic was away from where, how long
	Harm     []string
	Undone   []string
	Hash     string
}

type fact struct{ Name, Value string }

// member is a service of the restart set, and why it is in it.
type member struct{ Service, Why, Instances, FanIn string }

// step is a line of the table of steps.
type step struct {
	ID, Action, Target, State, At, Took, Acks, InFlight, Grade, Note string
}

// gather makes the report of record.
func gather(record *microkernel.Record) *report {
	r := &report{
		Title:   "Plan " + string(record.ID),
		Outcome: outcome(record),
		Facts:   facts(record),
		Wrong:   wrong(&record.View),
		Orders:  orders(&record.View),
		Faults:  record.Verdict.Faults,
		Off:     off(record),
		Harm:    harm(record),
		Hash:    record.Hash,
	}
	r.Written = strings.TrimSpace(string(isa.FormatText(record.Written)))
	if expanded := strings.TrimSpace(string(isa.FormatText(record.Expanded))); expanded != r.Written {
		r.Expanded = expanded
	}
	for _, service := range record.RestartSet {
		r.Members = append(r.Members, newMember(record, service))
	}
	targets := NewTargets(record)
	for i := range record.Steps {
		s := &record.Steps[i]
		r.Steps = append(r.Steps, newStep(record, s, targets))
		if s.State == microkernel.StepUndone {
			r.Undone = append(r.Undone, fmt.Sprintf("%s (%s) was undone.", s.Step.ID, kind(s)))
		}
	}
	return r
}

// outcome says in one sentence how it ended.
func outcome(record *microkernel.Record) string {
	took := ""
	if record.Ended != 0 {
		took = " after " + seconds(record.Ended.Sub(record.Proposed))
	}
	switch record.Phase {
	case microkernel.Committed:
		return "Committed" + took + ": every step was confirmed, and what was watched stayed inside its objectives."
	case microkernel.Compensated:
		return "Aborted and undone" + took + because(record.Reason)
	case microkernel.Frozen:
		return "Frozen" + took + because(record.Reason) + " A person has to look at it."
	case microkernel.Refused:
		return "Refused (" + verdict(record.Verdict) + "); nothing was done."
	case microkernel.Held:
		return "Held for approval (" + string(record.Verdict.Code) + "); nothing has been done."
	}
	return "Not ended: " + string(record.Phase) + because(record.Waiting)
}

func because(reason string) string {
	if reason == "" {
		return "."
	}
	return ": " + strings.TrimRight(reason, ".") + "."
}

func facts(record *microkernel.Record) []fact {
	list := []fact{
		{"Proposed", instant(record.Proposed)},
		{"Proposer", principal(record.Proposer)},
		{"Approver", principal(record.Approver)},
		{"Verdict", verdict(record.Verdict)},
		{"Epoch", record.Verdict.Epoch},
		{"Locked", after(record, record.Locked)},
		{"Ended", after(record, record.Ended)},
		{"Phase", string(record.Phase)},
	}
	return slices.DeleteFunc(list, func(f fact) bool { return f.Value == "" })
}

func principal(p microkernel.Principal) string {
	if p.Name == "" {
		return ""
	}
	return fmt.Sprintf("%s (%s)", p.Name, p.Role)
}

func verdict(v microkernel.Verdict) string {
	if v.Code == "" {
		return string(v.Outcome)
	}
	return string(v.Outcome) + ": " + string(v.Code)
}

// wrong says what was known of the failure when the verdict was given.
func wrong(view *microkernel.View) []string {
	var lines []string
	for i := range view.Services {
		if s := &view.Services[i]; s.Symptom {
			lines = append(lines, fmt.Sprintf("%s broke its objective%s.", s.Name, objective(s.Objective)))
		}
	}
	if others := view.Incident; len(others) > 0 {
		lines = append(lines, "Broken as well, in the blast radius: "+services(others)+".")
	}
	if len(lines) == 0 {
		lines = append(lines, "No objective was broken among the services of this plan: it was a planned one, or a precaution.")
	}
	evidence := fmt.Sprintf("The graph had %d services and rested on %d requests", view.GraphSize, view.Requests)
	switch {
	case view.Sampling >= 1:
		evidence += ", none left out"
	case view.Sampling > 0:
		evidence += fmt.Sprintf(", of which at least %.3g %% were seen", 100*view.Sampling)
	}
	if view.Declared {
		evidence += ", and on declared dependencies"
	}
	return append(lines, evidence+".")
}

func objective(o mesh.Objective) string {
	var parts []string
	if o.P99 > 0 {
		parts = append(parts, "p99 "+o.P99.String())
	}
	if o.Errors > 0 {
		parts = append(parts, fmt.Sprintf("errors %.3g %%", 100*o.Errors))
	}
	if len(parts) == 0 {
		return ""
	}
	return " (" + strings.Join(parts, ", ") + ")"
}

// newMember says why service is in the restart set.
func newMember(record *microkernel.Record, service mesh.Service) member {
	m := member{Service: string(service), Why: "named by the plan"}
	view := record.View.Find(service)
	if view == nil {
		return m
	}
	m.Instances, m.FanIn = strconv.Itoa(len(view.Instances)), strconv.Itoa(view.FanIn)
	for _, other := range record.RestartSet {
		o := record.View.Find(other)
		switch {
		case o == nil || other == service:
		case slices.Contains(o.StickyCallers, service):
			m.Why = "does not survive a restart of " + string(other) + " (sticky)"
			return m
		case slices.Contains(o.Component, service):
			m.Why = "in a cycle with " + string(other)
		}
	}
	return m
}

func orders(view *microkernel.View) []fact {
	list := []fact{
		{"Drained, callers before callees", services(view.DrainOrder)},
		{"Restarted, callees before callers", services(view.RestartSeq)},
		{"Restored, callees before callers", services(view.RestoreSeq)},
		{"Watched with them (group)", services(view.Group)},
		{"Blast radius: all that reach them by calls", services(view.BlastRadius)},
	}
	return slices.DeleteFunc(list, func(f fact) bool { return f.Value == "" })
}

// newStep makes the line of one step.
func newStep(record *microkernel.Record, s *microkernel.StepRecord, targets Targets) step {
	line := step{
		ID: string(s.Step.ID), Action: kind(s), Target: targets.Of(s.Step.Action), State: string(s.State),
		At: after(record, s.Started), Grade: string(s.Grade), Note: s.Waiting,
	}
	if s.Started != 0 && s.Ended != 0 {
		line.Took = seconds(s.Ended.Sub(s.Started))
	}
	if required := max(s.Acks.Required, s.Proof.Required); required > 0 {
		line.Acks = fmt.Sprintf("%d of %d", max(s.Acks.Acked, s.Proof.Acked), required)
	}
	if s.Grade != "" {
		line.InFlight = strconv.Itoa(s.Proof.InFlight)
	}
	var notes []string
	if s.Proof.Cut > 0 {
		notes = append(notes, fmt.Sprintf("%d streams cut", s.Proof.Cut))
	}
	if s.New.UID != "" {
		notes = append(notes, fmt.Sprintf("incarnation %d after %d", s.New.Incarnation, s.Old.Incarnation))
	}
	if line.Note != "" {
		notes = append(notes, line.Note)
	}
	line.Note = strings.Join(notes, "; ")
	return line
}

func kind(s *microkernel.StepRecord) string {
	if s.Step.Action == nil {
		return ""
	}
	return string(s.Step.Action.Kind())
}

// off says for each drain how long its traffic was away.
func off(record *microkernel.Record) []string {
	var lines []string
	targets := NewTargets(record)
	for i := range record.Steps {
		s := &record.Steps[i]
		drain, is := s.Step.Action.(isa.Drain)
		if !is || s.Acked == 0 {
			continue
		}
		line := fmt.Sprintf("%s: %d %% of its traffic was %s from %s on", targets.Of(drain), share(drain), way(drain),
			after(record, s.Acked))
		if back := restored(record, s.Step.ID); back != 0 {
			line += ", for " + seconds(back.Sub(s.Acked))
		}
		lines = append(lines, line+".")
	}
	return lines
}

// share is the percentage that a drain takes off; all of it if it does not say.
func share(drain isa.Drain) int {
	if drain.Share == 0 {
		return 100
	}
	return drain.Share
}

func way(drain isa.Drain) string {
	switch {
	case drain.To != "":
		return "sent to " + string(drain.To)
	case drain.OnEmpty == mesh.OnEmptyShed:
		return "answered 503 (shed) where nothing else could take it"
	case drain.OnEmpty == mesh.OnEmptyHold:
		return "held where nothing else could take it"
	}
	return "sent to the other instances"
}

// restored returns when the drain with this id was closed, 0 if it was not.
func restored(record *microkernel.Record, id isa.StepID) microkernel.Instant {
	for i := range record.Steps {
		s := &record.Steps[i]
		if restore, is := s.Step.Action.(isa.RestoreTraffic); is && restore.Drain == id {
			return s.Ended
		}
	}
	return 0
}

func harm(record *microkernel.Record) []string {
	v := record.Harm
	if v.Label == "" {
		return []string{"Not judged: nothing was done that could have harmed."}
	}
	line := string(v.Label)
	if v.Service != "" {
		line += ": " + string(v.Service)
	}
	if v.Evidence != "" {
		line += ": " + v.Evidence
	}
	return []string{strings.ToUpper(line[:1]) + line[1:]}
}

func services(list []mesh.Service) string {
	names := make([]string, len(list))
	for i, s := range list {
		names[i] = string(s)
	}
	return strings.Join(names, ", ")
}

func instant(at microkernel.Instant) string {
	if at == 0 {
		return ""
	}
	return time.Unix(0, int64(at)).UTC().Format("2006-01-02 15:04:05.000 MST")
}

// after spells an instant as the time since the plan was proposed.
func after(record *microkernel.Record, at microkernel.Instant) string {
	if at == 0 {
		return ""
	}
	return "+" + seconds(at.Sub(record.Proposed))
}

func seconds(d time.Duration) string {
	return strconv.FormatFloat(d.Seconds(), 'f', 3, 64) + " s"
}
