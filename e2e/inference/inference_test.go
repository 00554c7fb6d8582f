package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// made writes a recording of front -> cart -> db and front -> mail in which, after the
// injection, cart takes ten times as long; two cases name cart and mail as culprit, and
// one of them begins with the injection.
func made(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	write := func(name string, lines []string) {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const columns = "trace_id,span_id,parent_id,service,instance,operation,kind,peer,start_us,duration_us,error"
	all, late, normal := []string{columns}, []string{columns}, []string{columns}
	for i := -60; i < 60; i++ {
		cart := 4000 + 100*((i+60)%5)
		if i >= 0 {
			cart *= 10
		}
		lines := made1(i, cart)
		all = append(all, lines...)
		if i >= 0 {
			late = append(late, lines...)
		} else {
			normal = append(normal, lines...)
		}
	}
	write("all.csv", all)
	write("late.csv", late)
	write("normal.csv", normal)
	write("cases_made.json", []string{`[
 {"id":"made-normal","app":"made","fault":null,"file":"normal.csv"},
 {"id":"one","app":"made","fault":"slow","root_cause_service":"cart","root_in_symptoms":true,"file":"all.csv"},
 {"id":"two","app":"made","fault":"slow","root_cause_service":"cart","root_on_degraded_edge":true,"file":"late.csv"},
 {"id":"wrong","app":"made","fault":"none","root_cause_service":"mail","root_in_symptoms":true,"file":"all.csv"},
 {"id":"hidden","app":"made","fault":"none","root_cause_service":"ghost","file":"all.csv"}]`})
	return folder
}

// made1 is one trace, at second i.
func made1(i, cart int) []string {
	at := i*1_000_000 + 1000
	row := func(id, parent, service, kind, peer string, start, took int) string {
		return fmt.Sprintf("t%d,%s,%s,%s,%s-0,op,%s,%s,%d,%d,0", i, id, parent, service, service, kind, peer, start, took)
	}
	return []string{
		row("1", "", "front", "server", "", at, cart+4000), row("2", "1", "front", "client", "cart", at+100, cart+200),
		row("3", "2", "cart", "server", "", at+200, cart), row("4", "3", "cart", "client", "db", at+300, 900),
		row("5", "1", "front", "client", "mail", at+cart+400, 1200), row("6", "5", "mail", "server", "", at+cart+500, 1000),
	}
}

func TestTheCulpritOfAMadeFaultIsFound(t *testing.T) {
	out := filepath.Join(t.TempDir(), "topology.json")
	var table strings.Builder
	if err := run(options{data: made(t), out: out}, &table, &strings.Builder{}); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	var r report
	if err := json.Unmarshal(data, &r); err != nil {
		t.Fatal(err)
	}
	for i, want := range []struct {
		rank int
		why  string
	}{{1, ""}, {1, ""}, {0, whyNoise}, {0, whyAbsent}} {
		c := r.Cases[i]
		if c.Symptom != "front" || !slices.Equal(c.RestartSet, []string{"cart"}) || c.Services != 4 {
			t.Errorf("%s: %+v, want the symptom front and cart restarted", c.ID, c)
		}
		if rank := c.Rank; want.rank == 0 && rank != nil || want.rank > 0 && (rank == nil || *rank != want.rank) {
			t.Errorf("%s: rank %v, want %d", c.ID, rank, want.rank)
		}
		if c.Why != nil != (want.why != "") || c.Why != nil && *c.Why != want.why {
			t.Errorf("%s: why %v, want %q", c.ID, c.Why, want.why)
		}
	}
	s := r.Summary
	if s.Cases != 4 || s.Shown.Cases != 3 || fmt.Sprintf("%.3f %.3f %.3f", s.Shown.InSet, *s.Shown.First, s.All.InSet) != "0.667 0.667 0.500" {
		t.Errorf("summary %+v", s)
	}
	if s.Beside[0].InSet != 1 || s.Beside[1].InSet != 0 || s.Beside[2].InSet != 0.25 || len(s.Targets) != 5 || s.Targets[0].Met || !s.Targets[1].Met {
		t.Errorf("beside %+v, targets %+v", s.Beside, s.Targets)
	}
	if !strings.Contains(table.String(), "ranked in the first three") {
		t.Errorf("table:\n%s", table.String())
	}
}

func TestAFolderWithoutCasesIsMissing(t *testing.T) {
	err := run(options{data: t.TempDir(), out: filepath.Join(t.TempDir(), "out")}, &strings.Builder{}, &strings.Builder{})
	if err == nil || !strings.Contains(err.Error(), "DATA=") {
		t.Errorf("got %v, want the remedy", err)
	}
}

// The labelled recordings are optional; with them inference must beat what needs none.
func TestRealRecordings(t *testing.T) {
	folder := os.Getenv("SLUICE_DATA")
	if folder == "" {
		folder = filepath.Join("..", "..", "..", "shared", "data")
	}
	if _, err := os.Stat(filepath.Join(folder, "cases_nezha.json")); err != nil || testing.Short() {
		t.Skip("optional data absent: no cases_nezha.json; name its folder with SLUICE_DATA")
	}
	faults, normal, err := readCases(folder)
	if err != nil {
		t.Fatal(err)
	}
	var cases []result
	for i := 0; i < len(faults); i += 6 {
		recorded, err := load(folder, &faults[i], normal)
		if err != nil {
			t.Fatal(err)
		}
		cases = append(cases, infer(&faults[i], recorded))
	}
	s := summarise(cases)
	if s.Shown.InSet < 0.5 || s.Shown.MeanShare > 0.25 || s.Shown.InSet <= s.Beside[1].InSet {
		t.Errorf("shown %+v, beside %+v", s.Shown, s.Beside)
	}
}
