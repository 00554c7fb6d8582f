package rules

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/isa/compose"
	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/topology"
)

const zero = 1_700_000_000

func second(s float64) time.Time {
	return time.Unix(zero, 0).Add(time.Duration(s * float64(time.Second)))
}

// bench is a control plane as a planner sees it: it holds symptoms and plans, takes
// proposals and answers them.
type bench struct {
	t        *testing.T
	settings Settings
	state    State
	graph    *topology.Snapshot
	symptoms []Symptom
	plans    []Plan
	answer   Answer // to the next proposal
	log      []string
}

func newBench(t *testing.T) *bench {
	g := topology.NewGraph()
	g.RegisterNames([]mesh.Service{
		"outside/ingress", "hotel/frontend", "hotel/profile", "hotel/memcached-profile", "hotel/geo", "hotel/search",
	})
	g.Declare("outside/ingress", "hotel/frontend", false)
	g.Declare("hotel/frontend", "hotel/profile", false)
	g.Declare("hotel/frontend", "hotel/search", false)
	g.Declare("hotel/search", "hotel/geo", false)
	g.Declare("hotel/profile", "hotel/memcached-profile", true)
	return &bench{t: t, settings: Defaults(), graph: g.Snapshot(second(0)), answer: Answer{Verdict: Admit}}
}

// symptom returns a symptom of service since onset whose culprit is another.
func (b *bench) symptom(service, culprit mesh.Service, onset float64) Symptom {
	group := b.graph.Planned([]mesh.Service{culprit})
	group.Suspects = []topology.Suspect{{Service: culprit, Level: topology.LevelService, Score: 1, Reason: "errors"}}
	group.Members = append(group.Members, topology.Member{Service: service, Level: topology.LevelWatch})
	return Symptom{Service: service, Onset: second(onset), Group: group}
}

// poison is the hotel's: the store forgot profile's session.
func (b *bench) poison() {
	b.symptoms = []Symptom{
		b.symptom("hotel/frontend", "hotel/memcached-profile", 10), b.symptom("hotel/profile", "hotel/memcached-profile", 10),
	}
}

// run looks every 250 ms of [from, to).
func (b *bench) run(from, to float64) {
	for at := from; at < to; at += 0.25 {
		now := second(at)
		state, proposal := Decide(b.settings, b.state, Observation{
			Now: now, Symptoms: b.symptoms, Graph: b.graph, Plans: b.plans,
			Facts: map[mesh.Service]compose.Facts{
				"hotel/geo": {Protocol: mesh.HTTP, Instances: 3}, "hotel/memcached-profile": {Protocol: mesh.TCP, Instances: 1},
			},
		})
		b.state = state
		if proposal != nil {
			b.take(at, proposal)
		}
	}
}

// take answers a proposal and, if it is admitted, opens its plan.
func (b *bench) take(at float64, proposal *Proposal) {
	program := proposal.Program
	if _, _, faults := isa.Parse(isa.FormatJSON(program)); len(faults) > 0 {
		b.t.Errorf("program %s does not parse: %v", program.ID, faults)
	}
	set := restarted(program)
	b.log = append(b.log, fmt.Sprintf("%.2f %s restarts %s", at, program.ID, strings.Join(set, " ")))
	answer := b.answer
	answer.ID = program.ID
	b.state = Learn(b.settings, b.state, answer, second(at))
	if answer.Verdict == Admit {
		plan := Plan{ID: program.ID, Phase: Open}
		for _, name := range set {
			service, _, _ := strings.Cut(name, ":")
			plan.RestartSet = append(plan.RestartSet, mesh.Service(service))
		}
		plan.BlastRadius = b.graph.Blast(plan.RestartSet)
		b.plans = append(b.plans, plan)
	}
}

// restarted lists what a program restarts, with the instance if it names one.
func restarted(p isa.Program) []string {
	var set []string
	for _, step := range p.Steps {
		if restart, ok := step.Action.(isa.Restart); ok {
			name := string(restart.Target.Service)
			if part := restart.Target.Instance + restart.Target.Version + restart.Target.Zone; part != "" {
				name += ":" + part
			}
			set = append(set, name)
			for _, service := range restart.Target.Group {
				set = append(set, string(service))
			}
		}
	}
	return set
}

// end ends the last plan.
func (b *bench) end(phase Phase, at float64) {
	b.plans[len(b.plans)-1].Phase, b.plans[len(b.plans)-1].Ended = phase, second(at)
}

func (b *bench) expect(want ...string) {
	b.t.Helper()
	if !slices.Equal(b.log, want) {
		b.t.Errorf("proposals:\n%s\nwant:\n%s", strings.Join(b.log, "\n"), strings.Join(want, "\n"))
	}
}

func TestPoisonIsProposedOnceInOrder(t *testing.T) {
	b := newBench(t)
	b.poison()
	b.run(12, 30)
	b.end(Committed, 29)
	b.symptoms = nil
	b.run(30, 200)
	b.expect("13.00 hotel-frontend-1700000010-0 restarts hotel/memcached-profile hotel/profile")
	if len(b.state.Incidents) != 0 {
		t.Errorf("incidents %+v remembered after a minute of health", b.state.Incidents)
	}
}

func TestAChangingDiagnosisSettlesFirst(t *testing.T) {
	b := newBench(t)
	for i, culprit := range []mesh.Service{"hotel/profile", "hotel/geo", "hotel/profile", "hotel/geo"} {
		b.symptoms = []Symptom{b.symptom("hotel/frontend", culprit, 10)}
		b.run(12+float64(i)*0.75, 12+float64(i+1)*0.75)
	}
	b.expect()
	b.run(15, 17)
	b.expect("15.25 hotel-frontend-1700000010-0 restarts hotel/geo")
}

func TestNotRecoveredEscalatesToTheGroupAndThenToAHuman(t *testing.T) {
	b := newBench(t)
	one := b.symptom("hotel/search", "hotel/geo", 10)
	one.Group.Suspects[0].Level, one.Group.Suspects[0].Instance = topology.LevelInstance, "geo-1"
	b.symptoms = []Symptom{one}
	for i := range 5 {
		b.run(12+float64(i)*100, 110+float64(i)*100)
		if b.plans[len(b.plans)-1].Phase == Open {
			b.end(Committed, 110+float64(i)*100)
		}
	}
	b.expect(
		"13.00 hotel-search-1700000010-0 restarts hotel/geo:geo-1",
		"126.00 hotel-search-1700000010-1 restarts hotel/geo",
		"226.00 hotel-search-1700000010-2 restarts hotel/geo hotel/search")
	if len(b.state.Incidents) != 1 || !b.state.Incidents[0].Human {
		t.Errorf("incidents %+v, want one left to a human", b.state.Incidents)
	}
}

func TestABadVersionIsRestartedBeforeItsService(t *testing.T) {
	b := newBench(t)
	one := b.symptom("hotel/search", "hotel/geo", 10)
	one.Group.Suspects[0].Level, one.Group.Suspects[0].Version = topology.LevelSubset, "v2"
	b.symptoms = []Symptom{one}
	for i := range 2 {
		b.run(12+float64(i)*100, 110+float64(i)*100)
		b.end(Committed, 110+float64(i)*100)
	}
	b.expect(
		"13.00 hotel-search-1700000010-0 restarts hotel/geo:v2",
		"126.00 hotel-search-1700000010-1 restarts hotel/geo")
}

func TestADisjointIncidentIsProposedBesideAnOpenPlan(t *testing.T) {
	b := newBench(t)
	b.symptoms = []Symptom{b.symptom("hotel/geo", "hotel/geo", 10), b.symptom("hotel/profile", "hotel/memcached-profile", 10)}
	b.run(12, 20)
	b.expect(
		"13.00 hotel-geo-1700000010-0 restarts hotel/geo",
		"13.25 hotel-profile-1700000010-0 restarts hotel/memcached-profile hotel/profile")
}

func TestAnOperatorsPlanIsWaitedFor(t *testing.T) {
	b := newBench(t)
	b.plans = []Plan{{ID: "by-hand", Phase: Open, RestartSet: []mesh.Service{"hotel/profile"}, BlastRadius: []mesh.Service{"hotel/frontend"}}}
	b.poison()
	b.run(12, 40)
	b.expect()
	b.end(Committed, 40)
	b.run(40, 60)
	b.expect("56.00 hotel-frontend-1700000010-0 restarts hotel/memcached-profile hotel/profile")
}

func TestFailuresAboveAnotherPlanAreNotOfItsMaking(t *testing.T) {
	other := Plan{
		ID: "geo", Phase: Open, RestartSet: []mesh.Service{"hotel/geo"}, BlastRadius: []mesh.Service{"hotel/frontend", "hotel/search"},
	}
	b := newBench(t)
	b.plans = []Plan{other}
	b.poison()
	b.run(12, 14)
	b.expect("13.00 hotel-frontend-1700000010-0 restarts hotel/memcached-profile hotel/profile")

	b = newBench(t)
	b.plans = []Plan{other}
	b.poison()
	for i := range b.symptoms {
		b.symptoms[i].Slow = true
	}
	b.symptoms = b.symptoms[:1] // hotel/frontend, which the plan's hold makes slow
	b.run(12, 40)
	b.expect()
}

func TestSlownessMustLast(t *testing.T) {
	b := newBench(t)
	b.symptoms = []Symptom{b.symptom("hotel/geo", "hotel/geo", 10)}
	b.symptoms[0].Slow = true
	b.run(12, 16)
	b.expect()
	b.run(16, 18)
	b.expect("17.00 hotel-geo-1700000010-0 restarts hotel/geo")
}

func TestSlownessOfServicesThatShareNoCallIsNotRestartedAway(t *testing.T) {
	b := newBench(t)
	b.symptoms = []Symptom{b.symptom("hotel/geo", "hotel/geo", 10), b.symptom("hotel/profile", "hotel/profile", 10)}
	for i := range b.symptoms {
		b.symptoms[i].Slow = true
	}
	b.run(12, 60)
	b.expect()
	b.symptoms = b.symptoms[1:] // the machine has time again; profile is slow all the same
	b.run(60, 66)
	b.expect("65.00 hotel-profile-1700000010-0 restarts hotel/profile")
}

func TestACallerWithACauseOfItsOwnComesNext(t *testing.T) {
	b := newBench(t)
	b.symptoms = []Symptom{b.symptom("hotel/frontend", "hotel/frontend", 10), b.symptom("hotel/geo", "hotel/geo", 11)}
	b.run(12, 20)
	b.end(Committed, 20)
	b.symptoms = b.symptoms[:1]
	b.run(20, 40)
	b.expect(
		"13.00 hotel-geo-1700000011-0 restarts hotel/geo",
		"36.00 hotel-geo-1700000011-1 restarts hotel/frontend")
}

func TestThrottleWaitsAndCountsNoAttempt(t *testing.T) {
	b := newBench(t)
	b.poison()
	b.answer = Answer{Verdict: Throttle, RetryAfter: 20 * time.Second}
	b.run(12, 134)
	if len(b.log) != 6 || b.state.Incidents[0].Attempts != 0 {
		t.Errorf("proposals %v and %d attempts, want 6 and 0", b.log, b.state.Incidents[0].Attempts)
	}
}

func TestRejectionsAreBounded(t *testing.T) {
	b := newBench(t)
	b.poison()
	b.answer = Answer{Verdict: Reject, Code: isa.CodeRestartBudget}
	b.run(12, 300)
	if len(b.log) != b.settings.Attempts {
		t.Errorf("%d proposals, want %d: %v", len(b.log), b.settings.Attempts, b.log)
	}
}

func TestAnAnswerThatWasLostIsFollowed(t *testing.T) {
	b := newBench(t)
	b.poison()
	b.answer = Answer{Verdict: Lost}
	b.run(12, 16)
	b.plans = append(b.plans, Plan{ID: "hotel-frontend-1700000010-0", Phase: Open})
	b.run(16, 60)
	b.expect("13.00 hotel-frontend-1700000010-0 restarts hotel/memcached-profile hotel/profile")
	b.plans = nil // it was never taken after all
	b.answer = Answer{Verdict: Admit}
	b.run(60, 63)
	if len(b.log) != 2 {
		t.Errorf("proposals %v, want a second one", b.log)
	}
}

func TestAPlannerThatDiedGoesOnWhereItWas(t *testing.T) {
	b := newBench(t)
	b.poison()
	b.run(12, 20)
	b.state = State{}
	b.run(20, 40)
	b.end(Compensated, 40)
	b.state = State{}
	b.run(41, 60)
	b.expect(
		"13.00 hotel-frontend-1700000010-0 restarts hotel/memcached-profile hotel/profile",
		"56.00 hotel-frontend-1700000010-1 restarts hotel/memcached-profile hotel/profile")
}

func TestFrozenIsLeftToAHuman(t *testing.T) {
	b := newBench(t)
	b.poison()
	b.run(12, 20)
	b.end(Frozen, 20)
	b.run(20, 300)
	if len(b.log) != 1 {
		t.Errorf("proposals %v, want one", b.log)
	}
}

func TestDecideLeavesItsStateAlone(t *testing.T) {
	b := newBench(t)
	b.poison()
	b.run(12, 12.5)
	before := fmt.Sprintf("%+v", b.state)
	for range 3 {
		Decide(b.settings, b.state, Observation{Now: second(14), Symptoms: b.symptoms[1:], Graph: b.graph})
	}
	if after := fmt.Sprintf("%+v", b.state); after != before {
		t.Errorf("state became\n%s, was\n%s", after, before)
	}
}

func TestPlanIDs(t *testing.T) {
	valid := regexp.MustCompile(`^[a-z0-9-]{1,64}$`)
	long := strings.Repeat("n", 63)
	seen := map[string]mesh.Service{}
	for _, service := range []mesh.Service{"a/b", "a-b/c", "a/b-c", mesh.Service(long + "/" + long), mesh.Service(long + "/" + long[1:]), "Bad/näme"} {
		id := planID(service, second(0), 7)
		if other, twice := seen[id]; twice || !valid.MatchString(id) {
			t.Errorf("id %q of %s is not valid, or that of %s", id, service, other)
		}
		seen[id] = service
	}
}

// FuzzDecide drives the planner with arbitrary worlds: never two open proposals for one
// incident, never more than the bound, always valid ids.
func FuzzDecide(f *testing.F) {
	f.Add([]byte{1, 5, 9, 200, 3, 77, 0, 255, 18, 4})
	f.Fuzz(func(t *testing.T, script []byte) {
		b := newBench(t)
		services := b.graph.Services()
		open := map[string]bool{}
		for i, op := range script {
			at := float64(12 + i)
			service, culprit := services[int(op)%len(services)], services[int(op/7)%len(services)]
			switch op % 5 {
			case 0:
				b.symptoms = nil
			case 1, 2:
				b.symptoms = append(b.symptoms[:min(len(b.symptoms), 4)], b.symptom(service, culprit, float64(op%3)))
			case 3:
				b.answer.Verdict = []Verdict{Admit, Hold, Reject, Throttle, Lost}[int(op/5)%5]
			case 4:
				if len(b.plans) > 0 {
					b.end([]Phase{Committed, Compensated, Refused, Frozen}[int(op/5)%4], at)
				}
			}
			b.run(at, at+1)
			clear(open)
			for _, incident := range b.state.Incidents {
				if incident.Attempts > b.settings.Attempts || incident.Plan != "" && open[incident.Plan] {
					t.Fatalf("incident %+v", incident)
				}
				open[incident.Plan] = true
			}
		}
	})
}
