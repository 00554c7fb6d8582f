package scenario

import (
	"testing"
	"time"

	"github.com/sluicemesh/sluice/e2e/load"
)

// plan is the plan object that commands print.
type plan struct {
	ID     string `json:"id"`
	Phase  string `json:"phase"`
	Reason string `json:"reason"`
	Steps  []step `json:"steps"`
}

type step struct {
	Action     string `json:"action"`
	Target     string `json:"target"`
	ProofGrade string `json:"proof_grade"`
	Acks       int    `json:"acks"`
	InFlight   *int   `json:"in_flight_at_gate"`
}

// failed counts the requests of a finished run that were not answered with success.
func failed(t *testing.T, log load.Log) int {
	t.Helper()
	n := 0
	for _, r := range log.Records {
		if !r.OK() {
			if n++; n <= 5 {
				t.Logf("failed: %+v", r)
			}
		}
	}
	return n
}

func TestRestartOfEachServiceLosesNoRequest(t *testing.T) {
	s := up(t, shop(t))
	generator := s.drive(200, 5000, time.Minute)
	for _, target := range []string{"shop/cart", "shop/catalog", "shop/web"} {
		before := s.one(target)
		var p plan
		s.must(&p, "restart", target)
		if p.Phase != "committed" {
			t.Errorf("restart %s: phase %s, want committed: %+v", target, p.Phase, p)
		}
		checkProofs(t, p)
		s.refresh()
		after := s.one(target)
		if after.UID != before.UID || after.Incarnation != before.Incarnation+1 {
			t.Errorf("%s: got %s incarnation %d, want %s incarnation %d",
				target, after.UID, after.Incarnation, before.UID, before.Incarnation+1)
		}
	}
	<-generator.Done()
	log := generator.Wait()
	if n := failed(t, log); n > 0 || len(log.Records) < 5000 {
		t.Errorf("%d of %d requests failed, want 0 of 5000", n, len(log.Records))
	}
}

// checkProofs wants a proof of grade A with nothing in flight before every restart.
func checkProofs(t *testing.T, p plan) {
	t.Helper()
	drains := 0
	for _, step := range p.Steps {
		if step.Action != "drain" {
			continue
		}
		drains++
		if step.ProofGrade != "A" || step.InFlight == nil || *step.InFlight != 0 || step.Acks == 0 {
			t.Errorf("plan %s: drain of %s opened its gate with %+v", p.ID, step.Target, step)
		}
	}
	if drains == 0 {
		t.Errorf("plan %s has no drain: %+v", p.ID, p.Steps)
	}
}

func TestACrashIsNoticedAndRecoveredByATypedPlan(t *testing.T) {
	s := up(t, shop(t))
	generator := s.drive(100, 100_000, 90*time.Second)
	before := s.one("shop/cart")
	s.until(20*time.Second, "evidence of the edge shop/web -> shop/cart", func() bool { return s.hasEdge("shop/web", "shop/cart") })
	if out, err := s.try("local", "kill", before.Instance, "--signal", "KILL", "--state", s.state); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	s.until(60*time.Second, "a committed plan", func() bool { return s.committed() != "" })
	s.refresh()
	if after := s.one("shop/cart"); after.Incarnation != before.Incarnation+1 || after.State != "ready" {
		t.Errorf("shop/cart: got %+v, want incarnation %d, ready", after, before.Incarnation+1)
	}
	log := generator.Wait()
	tail := load.Between(log.Records, lastSecond(log)-5*time.Second, lastSecond(log))
	for _, r := range tail {
		if !r.OK() {
			t.Errorf("after the recovery: %+v", r)
			break
		}
	}
}

func lastSecond(log load.Log) time.Duration {
	if len(log.Records) == 0 {
		return 0
	}
	return log.Records[len(log.Records)-1].Intended
}

// hasEdge reports whether the call graph has the edge by evidence, not only declared.
func (s *system) hasEdge(caller, callee string) bool {
	var graph struct {
		Edges []struct {
			Caller, Callee string
			Sources        []string
		} `json:"edges"`
	}
	s.must(&graph, "topology")
	for _, e := range graph.Edges {
		if e.Caller == caller && e.Callee == callee {
			for _, source := range e.Sources {
				if source != "declared" {
					return true
				}
			}
		}
	}
	return false
}

// committed returns the ID of a committed plan of the agent, "" if there is none.
func (s *system) committed() string {
	var list struct {
		Plans []struct {
			ID, Phase, Proposer string
		} `json:"plans"`
	}
	s.must(&list, "plan", "list")
	for _, p := range list.Plans {
		if p.Phase == "committed" && p.Proposer == "agent" {
			return p.ID
		}
	}
	return ""
}
