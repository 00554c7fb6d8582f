package rules

import (
	"cmp"
	"slices"
	"time"

	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/mesh"
)

// Decide returns what to remember after o, and the next program to propose, nil if
// there is nothing to propose now. It is total and deterministic.
func Decide(settings Settings, state State, o Observation) (State, *Proposal) {
	next := state.clone()
	next.follow(settings, o)
	symptoms := slices.Clone(o.Symptoms[:min(len(o.Symptoms), MaxSymptoms)])
	slices.SortFunc(symptoms, byService)
	for _, symptom := range symptoms {
		if incident := next.covering(symptom.Service); incident != nil {
			incident.Seen = o.Now
		}
	}
	var proposal *Proposal
	for len(symptoms) > 0 && proposal == nil {
		best := explainsMost(symptoms)
		proposal = next.consider(settings, o, symptoms, symptoms[best])
		covered := explained(symptoms[best], symptoms)
		symptoms = slices.DeleteFunc(symptoms, func(s Symptom) bool { return slices.Contains(covered, s.Service) })
	}
	next.forget(settings, o.Now)
	return next, proposal
}

// follow takes each open proposal to its end.
func (st *State) follow(settings Settings, o Observation) {
	for i := range st.Incidents {
		incident := &st.Incidents[i]
		if incident.Plan == "" {
			continue
		}
		at := slices.IndexFunc(o.Plans, func(p Plan) bool { return p.ID == incident.Plan })
		if at < 0 {
			if o.Now.Sub(incident.Proposed) > settings.Appear {
				incident.close(o.Now.Add(settings.Settle))
			}
			continue
		}
		incident.ended(settings, &o.Plans[at], o.Now)
	}
}

// ended takes the end of the incident's plan.
func (in *Incident) ended(settings Settings, plan *Plan, now time.Time) {
	end := plan.Ended
	if end.IsZero() || end.After(now) {
		end = now
	}
	switch plan.Phase {
	case Committed:
		in.close(end.Add(settings.Grace))
		in.climb()
	case Compensated:
		in.close(end.Add(settings.Retry << min(in.Failed, 3)))
		if in.Failed++; in.Failed > 1 {
			in.climb()
		}
	case Refused:
		in.close(now.Add(settings.Retry))
	case Frozen:
		in.close(now)
		in.Human = true
	}
}

// culpritOf returns the first suspect, "" if there is none.
func culpritOf(symptom Symptom) mesh.Service {
	if len(symptom.Group.Suspects) == 0 {
		return ""
	}
	return symptom.Group.Suspects[0].Service
}

func (in *Incident) climb() { in.Rung, in.Failed = in.Rung+1, 0 }

// close forgets the open plan and waits.
func (in *Incident) close(until time.Time) { in.Plan, in.NotBefore, in.Diagnosis = "", until, "" }

// consider returns the proposal for the incident of symptom, nil while it must wait.
func (st *State) consider(settings Settings, o Observation, all []Symptom, symptom Symptom) *Proposal {
	covers := explained(symptom, all)
	incident := st.incident(o, symptom, covers)
	if incident == nil {
		return nil
	}
	for _, covered := range covers {
		if at, found := slices.BinarySearch(incident.Covers, covered); !found {
			incident.Covers = slices.Insert(incident.Covers, at, covered)
		}
	}
	if incident.Plan != "" || incident.Human || o.Now.Before(incident.NotBefore) || touched(settings, o, symptom) ||
		common(symptom, o.Symptoms, covers) {
		incident.Diagnosis = ""
		return nil
	}
	ladder := rungs(settings, o, symptom)
	if culprit := culpritOf(symptom); incident.Culprit != culprit {
		incident.Culprit = culprit
		if !incident.resumed {
			incident.Rung, incident.Failed = 0, 0
		}
	}
	incident.resumed = false
	if incident.Attempts >= settings.Attempts || incident.Rung >= len(ladder) {
		incident.Human = true
		return nil
	}
	wanted := ladder[incident.Rung]
	if diagnosis := wanted.String(); incident.Diagnosis != diagnosis {
		incident.Diagnosis, incident.Since = diagnosis, o.Now
	}
	settle := settings.Settle
	if symptom.Slow {
		settle = max(settle, settings.SlowSettle)
	}
	if o.Now.Sub(incident.Since) < settle {
		return nil
	}
	id := planID(incident.Service, incident.Onset, incident.Number)
	incident.Plan, incident.Proposed = id, o.Now
	incident.Number++
	incident.Attempts++
	return &Proposal{Program: wanted.program(id, o), Symptom: symptom.Service, Reason: wanted.reason}
}

// incident returns the one that symptom, or one that it explains, belongs to; a new one
// if there is none; nil if there is no room.
func (st *State) incident(o Observation, symptom Symptom, covers []mesh.Service) *Incident {
	if known := st.covering(symptom.Service); known != nil {
		return known
	}
	for _, service := range covers {
		if known := st.covering(service); known != nil {
			return known
		}
	}
	if len(st.Incidents) >= MaxIncidents {
		return nil
	}
	fresh := Incident{
		Service: symptom.Service, Onset: symptom.Onset, Covers: []mesh.Service{symptom.Service}, Seen: o.Now,
	}
	fresh.resume(o.Plans)
	at, _ := slices.BinarySearchFunc(st.Incidents, symptom.Service, func(in Incident, name mesh.Service) int {
		return cmp.Compare(in.Service, name)
	})
	st.Incidents = slices.Insert(st.Incidents, at, fresh)
	return &st.Incidents[at]
}

// resume learns from the plans of the same incident what a planner that died knew.
func (in *Incident) resume(plans []Plan) {
	for n := range MaxNumber {
		id := planID(in.Service, in.Onset, n)
		at := slices.IndexFunc(plans, func(p Plan) bool { return p.ID == id })
		if at < 0 {
			continue
		}
		in.Number, in.resumed = n+1, true
		in.Attempts++
		switch plans[at].Phase {
		case Open:
			in.Plan = id
		case Committed:
			in.Rung++
		}
	}
}

// covering returns the incident that service belongs to, nil if none.
func (st *State) covering(service mesh.Service) *Incident {
	for i := range st.Incidents {
		if _, found := slices.BinarySearch(st.Incidents[i].Covers, service); found {
			return &st.Incidents[i]
		}
	}
	return nil
}

// forget drops incidents whose symptoms have been gone for long.
func (st *State) forget(settings Settings, now time.Time) {
	st.Incidents = slices.DeleteFunc(st.Incidents, func(in Incident) bool {
		return in.Plan == "" && now.Sub(in.Seen) > settings.Forget
	})
}

// Learn returns what to remember after the answer to a proposal at now.
func Learn(settings Settings, state State, answer Answer, now time.Time) State {
	next := state.clone()
	for i := range next.Incidents {
		incident := &next.Incidents[i]
		if incident.Plan != answer.ID {
			continue
		}
		switch answer.Verdict {
		case Throttle:
			incident.Attempts--
			incident.close(now.Add(max(answer.RetryAfter, settings.Settle)))
		case Reject:
			incident.refused(settings, answer, now)
		}
		// Admit, Hold, Replayed: the plan is open. Lost: it may be; follow finds out.
	}
	return next
}

// refused takes a rejection: what passes with time does not count as an attempt.
func (in *Incident) refused(settings Settings, answer Answer, now time.Time) {
	switch answer.Code {
	case isa.CodeStaleEpoch:
		in.close(now)
	case isa.CodePaused, isa.CodeFrozen, isa.CodeObserve, isa.CodeConflict:
		in.Attempts--
		in.close(now.Add(max(answer.RetryAfter, settings.Retry)))
	default:
		in.close(now.Add(max(answer.RetryAfter, settings.Retry)))
	}
}

// touched reports whether a plan of anybody works on what symptom is about, or did so
// until a moment ago: what a restart disturbed looks like a symptom until it has passed.
// A hold makes all that reach it slow; that requests fail there has another cause, unless
// it is what the plan restarts.
func touched(settings Settings, o Observation, symptom Symptom) bool {
	return slices.ContainsFunc(o.Plans, func(p Plan) bool {
		if p.Phase == Refused || p.Phase != Open && o.Now.Sub(p.Ended) >= settings.Grace {
			return false
		}
		return slices.Contains(p.RestartSet, symptom.Service) ||
			symptom.Slow && slices.Contains(p.BlastRadius, symptom.Service) ||
			slices.ContainsFunc(symptom.Group.RestartSet, func(s mesh.Service) bool {
				return slices.Contains(p.RestartSet, s)
			})
	})
}

// common reports whether slowness has a cause that no restart of its services removes:
// others that they do not explain are slow at the same time, as on a busy machine.
func common(symptom Symptom, all []Symptom, covers []mesh.Service) bool {
	return symptom.Slow && slices.ContainsFunc(all, func(other Symptom) bool {
		return other.Slow && !slices.Contains(covers, other.Service)
	})
}

// explainsMost returns the index of the symptom whose restart set explains most of the
// others; of equals the one with the smallest restart set, then the earliest onset,
// then the first name.
func explainsMost(symptoms []Symptom) int {
	best := 0
	for i := range symptoms {
		if cmp.Or(
			cmp.Compare(len(explained(symptoms[best], symptoms)), len(explained(symptoms[i], symptoms))),
			cmp.Compare(len(symptoms[i].Group.RestartSet), len(symptoms[best].Group.RestartSet)),
			symptoms[i].Onset.Compare(symptoms[best].Onset)) < 0 {
			best = i
		}
	}
	return best
}

// explained lists the symptoms that the restart set of one may cure, itself always
// among them: those in it, and those that reach it by calls. One further up with a cause
// of its own is seen again when that is cured.
func explained(one Symptom, all []Symptom) []mesh.Service {
	var list []mesh.Service
	for _, other := range all {
		if other.Service == one.Service || slices.Contains(one.Group.RestartSet, other.Service) ||
			slices.Contains(one.Group.BlastRadius, other.Service) {
			list = append(list, other.Service)
		}
	}
	return list
}

func byService(a, b Symptom) int { return cmp.Compare(a.Service, b.Service) }

// clone copies what Decide changes.
func (st State) clone() State {
	next := State{Incidents: slices.Clone(st.Incidents)}
	for i := range next.Incidents {
		next.Incidents[i].Covers = slices.Clone(next.Incidents[i].Covers)
	}
	return next
}
