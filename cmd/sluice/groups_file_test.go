package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
)

// made is a recording in CSV of front -> cart and front -> mail for two minutes from
// 18:00:00; from 18:01:00 on, cart takes 60 ms instead of 5.
func made() string {
	var b strings.Builder
	b.WriteString("trace_id,span_id,parent_id,service,instance,operation,kind,peer,start_us,duration_us,error\n")
	for i := range 120 {
		cart, at := 5000+100*(i%5), i*1_000_000
		if i >= 60 {
			cart += 55_000
		}
		for _, span := range []struct {
			id, parent, service, kind string
			at, took                  int
		}{
			{"1", "", "front", "server", 0, cart + 4000}, {"2", "1", "front", "client", 100, cart + 500},
			{"3", "2", "cart", "server", 200, cart}, {"4", "1", "front", "client", cart + 700, 2000},
			{"5", "4", "mail", "server", cart + 800, 1500},
		} {
			fmt.Fprintf(&b, "t%d,%s,%s,%s,,op,%s,,%d,%d,\n", i, span.id, span.parent, span.service, span.kind, at+span.at, span.took)
		}
	}
	return b.String()
}

func TestAGroupOfARecordingNamesTheCulprit(t *testing.T) {
	b := newBench(t)
	b.token = ""
	delete(b.env, "SLUICE_SERVER")
	if err := os.WriteFile("spans.csv", []byte(made()), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, stderr, code := b.run(t.Context(), "", "topology", "import", "--format", "csv", "spans.csv",
		"--origin", "2026-11-22T18:00:00Z", "--out", "mesh.json"); code != 0 {
		t.Fatal(stderr)
	}
	for _, when := range [][]string{{"--onset", "2026-11-22T18:01:00Z", "--window", "1m"}, nil} {
		args := append([]string{"groups", "front", "--topology", "mesh.json", "-o", "json"}, when...)
		stdout, stderr, code := b.run(t.Context(), "", args...)
		if code != 0 {
			t.Fatal(stderr)
		}
		var view groupView
		if err := json.Unmarshal([]byte(stdout), &view); err != nil {
			t.Fatal(err)
		}
		if fmt.Sprint(view.RestartSet) != "[cart]" || view.Suspects[0].Service != "cart" || *view.Symptom != "front" {
			t.Errorf("%v: %s", when, stdout)
		}
		why := view.Members[0].Why
		if len(why) != 1 || why[0].Caller != "front" || why[0].Calls != 120 || why[0].LastSeen == nil || view.Missed == nil {
			t.Errorf("%v: why %+v, want the figures of the whole file", when, why)
		}
	}
}

// A file that was written from a file has the same epoch: nothing of the shape is lost.
func TestTheEpochOfAFileIsThatOfItsGraph(t *testing.T) {
	b := newBench(t)
	stdout, stderr, code := b.run(t.Context(), "", "topology", "export")
	if code != 0 {
		t.Fatal(stderr)
	}
	if err := os.WriteFile("live.json", []byte(stdout), 0o600); err != nil {
		t.Fatal(err)
	}
	view, err := readGraph("live.json")
	if err != nil {
		t.Fatal(err)
	}
	snapshot, err := view.snapshot()
	if err != nil || snapshot.Epoch() != view.Epoch {
		t.Errorf("epoch %s, %v, want that of the file, %s", snapshot.Epoch(), err, view.Epoch)
	}
}

func TestADamagedRecordingIsRefused(t *testing.T) {
	b := newBench(t)
	for _, cells := range []string{`"-1 5 0 1"`, `"0 -5 0 1"`, `"0 5 2 1"`, `"0 5 0 0"`, `"0 5 0"`, `""`} {
		text := `{"schema":"sluice.topology/1","services":[{"name":"a"}],"edges":[],"recording":{"from":"2026-11-22T18:00:00Z",` +
			`"calls":[{"caller":"a","callee":"a","cells":` + cells + `}],"served":[]}}`
		if err := os.WriteFile("bad.json", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, stderr, code := b.run(t.Context(), "", "groups", "a", "--topology", "bad.json")
		if code != exitUsage || !strings.Contains(stderr, "recording of a -> a: cell") {
			t.Errorf("%s: %d %s", cells, code, stderr)
		}
	}
}

// A latency is kept to within a sixty-fourth, whatever its size.
func TestCoarseKeepsLeadingDigits(t *testing.T) {
	for n := int64(0); n < 1<<40; n = n*3/2 + 1 {
		if got := coarse(n); got-n > n/32 || n-got > n/32 {
			t.Errorf("coarse(%d) = %d", n, got)
		}
	}
}
