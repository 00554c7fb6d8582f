package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	sluicev1 "github.com/sluicemesh/sluice/api/sluice/v1"
	"github.com/sluicemesh/sluice/e2e/load"
)

// testArm is 30 s of load, restarts at 10 s and 20 s; failures at the given seconds.
func testArm(name string, failedAt ...int) *arm {
	a := &arm{run: 1, name: name, envoys: 3, envoy: "1.40.0", restarts: []restart{
		{service: "h/a", order: []string{"h/a"}, began: 10 * time.Second, phase: "committed"},
		{service: "h/b", order: []string{"h/b"}, began: 20 * time.Second, phase: "committed"},
	}}
	for at := range 30 {
		r := load.Record{Intended: time.Duration(at) * time.Second, Status: 200}
		for _, failed := range failedAt {
			if failed == at {
				r.Status = 503
			}
		}
		r.Started, r.Ended = r.Intended, r.Intended+time.Millisecond
		a.log.Records = append(a.log.Records, r)
	}
	return a
}

func TestRequestsBelongToTheRestartBeforeThem(t *testing.T) {
	var r report
	r.add(testArm(armSluice))
	r.add(testArm(armNaive, 5, 12, 25, 26))
	want := []load.Counts{{Sent: 10, OK: 10}, {Sent: 10, OK: 10},
		{Sent: 10, OK: 9, FailedRecovery: 1}, {Sent: 10, OK: 8, FailedRecovery: 2}}
	for i, w := range want {
		if r.Services[i].Requests != w {
			t.Errorf("row %d is %+v, want %+v", i, r.Services[i].Requests, w)
		}
	}
	if got := r.Totals[1].Requests; got != (load.Counts{Sent: 30, OK: 26, FailedRecovery: 4}) {
		t.Errorf("total is %+v: a failure before the first restart must count", got)
	}
	if err := r.verdict(); err != nil {
		t.Errorf("only the naive arm failed requests, verdict %v", err)
	}
}

func TestVerdict(t *testing.T) {
	undone := testArm(armSluice)
	undone.restarts[1].phase = "compensated"
	killed := testArm(armSluice)
	killed.restarts[1].phase, killed.restarts[1].killed = "compensated", true
	unfinished := testArm(armSluice)
	unfinished.log.Records[3].Ended = 0
	for name, c := range map[string]struct {
		arm *arm
		ok  bool
	}{
		"failed": {testArm(armSluice, 15), false}, "early": {testArm(armSluice, 1), false}, "clean": {testArm(armSluice), true},
		"undone": {undone, false}, "undone after a kill": {killed, true}, "unfinished": {unfinished, false},
	} {
		var r report
		r.add(c.arm)
		if err := r.verdict(); (err == nil) != c.ok {
			t.Errorf("%s: verdict %v", name, err)
		}
	}
}

func TestReportIsWritten(t *testing.T) {
	var r report
	r.Schema = "sluice.planned/1"
	r.add(testArm(armSluice))
	path := filepath.Join(t.TempDir(), "planned.json")
	if err := r.write(path); err != nil {
		t.Fatal(err)
	}
	text, _ := os.ReadFile(path)
	for _, want := range []string{`"schema": "sluice.planned/1"`, `"service": "h/a"`, `"arm": "sluice"`, `"failed_recovery": 0`, `"run": 1`} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the report lacks %s", want)
		}
	}
	var out strings.Builder
	r.print(&out)
	if !strings.Contains(out.String(), "3 Envoys 1.40.0") || strings.Count(out.String(), "h/") != 2 {
		t.Errorf("table:\n%s", out.String())
	}
}

func TestLatestIgnoresPlansOfEarlierRestarts(t *testing.T) {
	began := time.Unix(1000, 0)
	old := &sluicev1.Plan{Id: "old", Proposed: timestamppb.New(began.Add(-time.Minute))}
	mine := &sluicev1.Plan{Id: "mine", Proposed: timestamppb.New(began.Add(time.Second)), Phase: "compensated"}
	if got := latest([]*sluicev1.Plan{old}, began); got != nil {
		t.Errorf("latest is %s, want none", got.GetId())
	}
	if got := latest([]*sluicev1.Plan{old, mine}, began); got != mine {
		t.Errorf("latest is %v", got)
	}
	var done restart
	if err := conclude(&done, mine); err != nil || done.phase != "compensated" {
		t.Errorf("a plan that was undone: %v, %+v", err, done)
	}
	if err := conclude(&done, &sluicev1.Plan{Phase: "frozen"}); err == nil {
		t.Error("a frozen plan counts as ended")
	}
}

// A service is restarted at most four times in ten minutes.
func TestEarliest(t *testing.T) {
	restarts := []restart{{began: 7 * time.Second}}
	if got := earliest(restarts, 0); got != 7*time.Second+again || earliest(restarts, -3) != 0 || 4*again < 10*time.Minute {
		t.Errorf("again after %s", got)
	}
}

func TestParse(t *testing.T) {
	for _, args := range [][]string{{"-rps", "0"}, {"-requests", "0"}, {"-kill", "everything"}, {"-runs", "0"}, {"more"}, {"-workers", "0"},
		{"-kills", "3"}, {"-rolling", "3"}} {
		if _, err := parse(args); err == nil {
			t.Errorf("%v was accepted", args)
		}
	}
	o, err := parse([]string{"-kill", "control-plane", "-requests", "1000000"})
	if err != nil || o.kill != killControlPlane || o.out != "planned.json" {
		t.Errorf("options are %+v, error %v", o, err)
	}
	if got := trimSlash("//a/b"); got != "a/b" {
		t.Errorf("path is %q", got)
	}
}

// Traffic is whole when no request that is sent is held any more; those that are held still
// come free later, and the next leader's own holds are not the kill's.
func TestWholeAfterAKill(t *testing.T) {
	second := func(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
	request := func(sent, took float64, status int) load.Record {
		return load.Record{Intended: second(sent), Started: second(sent), Ended: second(sent + took), Status: status}
	}
	records := []load.Record{
		request(1, 0.1, 200),    // long over
		request(9.5, 3, 200),    // in flight at the kill, held
		request(13, 4, 200),     // held
		request(14.5, 0.1, 200), // whole
		request(30, 2, 200),     // by the next leader
	}
	done := restart{died: death{aim: phaseGate, phase: phaseGate, at: 10 * time.Second, struck: true}}
	var r report
	row := r.death(&done, records, 40*time.Second)
	if row.Whole != 3 || row.Free != 7 || !row.InTime || row.Judged != 4 || row.Held != 3 || row.Failed != 0 {
		t.Errorf("got %+v", row)
	}
	for _, late := range []load.Record{request(17, 0.1, 503), request(17.5, 2, 200)} {
		if row := r.death(&done, append(records[:3:3], late), 40*time.Second); row.InTime || r.Kills.verdict() == nil {
			t.Errorf("after %+v: got %+v", late, row)
		}
	}
}
