package report_test

import (
	"strings"
	"testing"
	"time"

	"github.com/sluicemesh/sluice/api/report"
	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/microkernel"
)

// aborted is the record of a plan that a NACK ended; what the proxy wrote is hostile.
func aborted(t *testing.T, text string) microkernel.Record {
	t.Helper()
	program, _, faults := isa.ParseText([]byte("plan cart-1\nd1 = drain shop/cart hold\nr1 = restart shop/cart with d1 after d1\n" +
		"t1 = restore d1 after r1\n"))
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	at := func(d time.Duration) microkernel.Instant { return microkernel.Instant(1_700_000_000e9).Add(d) }
	cart := microkernel.ServiceView{
		ServiceState: mesh.ServiceState{Name: "shop/cart", Objective: mesh.Objective{P99: 100 * time.Millisecond, Errors: 0.01}},
		Symptom:      true, FanIn: 3, Component: []mesh.Service{"shop/cart"},
	}
	front := microkernel.ServiceView{ServiceState: mesh.ServiceState{Name: "shop/front"}}
	cart.StickyCallers = []mesh.Service{"shop/front"}
	return microkernel.Record{
		ID: "cart-1", Proposer: microkernel.Principal{Name: "rules", Role: microkernel.Proposer}, Hash: "sha256:ab",
		Written: program, Expanded: program, Phase: microkernel.Compensated, Reason: text,
		Verdict: microkernel.Verdict{Outcome: microkernel.Admit, Epoch: "sha256:cd"},
		View: microkernel.View{
			Services: []microkernel.ServiceView{cart, front}, GraphSize: 5, Requests: 1200, Sampling: 1, Declared: true,
		},
		RestartSet: []mesh.Service{"shop/cart", "shop/front"}, Proposed: at(0), Locked: at(time.Second), Ended: at(4 * time.Second),
		Harm: microkernel.HarmVerdict{Label: microkernel.Harm, Service: "shop/cart", Evidence: text},
		Steps: []microkernel.StepRecord{{
			Step: program.Steps[0], State: microkernel.StepUndone, Started: at(time.Second), Acked: at(2 * time.Second),
			Ended: at(3 * time.Second), Acks: mesh.Acks{Required: 7, Acked: 6}, Waiting: text,
		}, {Step: program.Steps[1], State: microkernel.StepWaiting}},
	}
}

func TestAReportTellsWhatHappened(t *testing.T) {
	t.Parallel()
	got, err := report.Markdown(aborted(t, "a proxy refused"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"Aborted and undone after 4.000 s: a proxy refused.",
		"shop/cart broke its objective (p99 100ms, errors 1 %).",
		"rested on 1200 requests, none left out, and on declared dependencies.",
		"| shop/front | does not survive a restart of shop/cart (sticky) |",
		"| d1 | drain | shop/cart | undone | +1.000 s | 2.000 s | 6 of 7 |",
		"100 % of its traffic was held where nothing else could take it from +2.000 s on.",
		"- Harm: shop/cart: a proxy refused",
		"- d1 (drain) was undone.",
		"    d1 = drain shop/cart",
	} {
		if !strings.Contains(string(got), want) {
			t.Errorf("the report lacks %q", want)
		}
	}
	if t.Failed() {
		t.Log(string(got))
	}
}

// What proxies and people wrote changes neither the Markdown nor the page around it.
func TestTextFromOutsideIsInert(t *testing.T) {
	t.Parallel()
	const evil = "# x\n\n| <script>alert(1)</script> | [a](http://b) `c` \x1b[31m ![d](e)"
	plain := aborted(t, "quiet")
	hostile := aborted(t, evil)
	markdown, err := report.Markdown(hostile)
	if err != nil {
		t.Fatal(err)
	}
	quiet, err := report.Markdown(plain)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Count(string(markdown), "\n"), strings.Count(string(quiet), "\n"); got != want {
		t.Errorf("a hostile text makes %d lines of %d", got, want)
	}
	for _, live := range []string{" <script", "[a](http", "\x1b", "![", "| # x"} {
		if strings.Contains(string(markdown), live) {
			t.Errorf("%q is live in the Markdown:\n%s", live, markdown)
		}
	}
	page, err := report.HTML(hostile)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(page), "<script") || !strings.Contains(string(page), "&lt;script&gt;") {
		t.Errorf("the page does not escape what a proxy wrote:\n%s", page)
	}
}

// Every phase, also of a plan that did nothing, has a report in both spellings.
func TestEveryPhaseHasAReport(t *testing.T) {
	t.Parallel()
	for _, phase := range []microkernel.Phase{
		microkernel.Held, microkernel.Queued, microkernel.Running, microkernel.Verifying, microkernel.Compensating,
		microkernel.Committed, microkernel.Compensated, microkernel.Frozen, microkernel.Refused,
	} {
		for _, record := range []microkernel.Record{aborted(t, ""), {}} {
			record.Phase = phase
			if _, err := report.Markdown(record); err != nil {
				t.Errorf("%s: %v", phase, err)
			}
			if _, err := report.HTML(record); err != nil {
				t.Errorf("%s: %v", phase, err)
			}
		}
	}
}
