package simulate

import (
	"context"
	"encoding/json"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluicemesh/sluice/e2e/eval/oracle"
	"github.com/sluicemesh/sluice/topology/generate"
)

// small is a graph that can be tried whole in a moment. Every call of it is frequent.
func small() *Graph {
	g := alibaba("small", 5, generate.Settings{
		Services: 150, Edges: 330, MaxFanIn: 15, MaxFanOut: 20,
		BlastMedian: 6, BlastSigma: 0.8, BlastMax: 40, Cycles: 20, Sticky: 25,
	})
	truth := newTruth(g, 1).world(0, gentle)
	for i := range g.Edges {
		e := &g.Edges[i]
		e.Rate = 30
		// Of a sticky call within a ring no order of restarts is known to be right.
		e.Sticky = e.Sticky && !slices.Contains(truth.Component(e.Caller), e.Callee)
	}
	return g
}

func config(g *Graph) Config {
	c := Defaults()
	c.Graphs, c.PerService, c.Sample, c.Recorded = []*Graph{g}, 1, 0, time.Hour
	c.Evidence = []Evidence{Headline()}
	return c
}

func measure(t *testing.T, c Config) *Result {
	t.Helper()
	result, err := Run(context.Background(), c, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

func find(t *testing.T, rows []*Row, arm Arm, change Change) *Row {
	t.Helper()
	for _, row := range rows {
		if row.Arm == arm && row.Change == change {
			return row
		}
	}
	t.Fatalf("no row of %s %s", arm, change)
	return nil
}

func text(row *Row) string {
	data, _ := json.Marshal(row)
	return string(data)
}

// Where all is seen, Sluice harms nobody and raw commands do; each part that is switched off
// shows in the way of harm that it is there against.
func TestEachPartIsGoodForSomething(t *testing.T) {
	c := config(small())
	c.Changes = []Change{NoGroups, NoOrders, NoSticky, NoGate}
	r := measure(t, c)
	typed := find(t, r.Offline, Typed, Unchanged)
	if typed.Trials != 150 || typed.Proposed != 150 || typed.Harmful != 0 || typed.Useful < 80 {
		t.Errorf("typed: %s", text(typed))
	}
	for _, arm := range []Arm{Untyped, Naive, Symptom} {
		best, worst := find(t, r.Offline, arm, Unchanged), find(t, r.Readings, arm, Unchanged)
		if best.Harmful == 0 || best.Reading != gentle || worst.Reading != abrupt || worst.Harmful < best.Harmful {
			t.Errorf("%s: %d harmful in the best reading, %d in the worst", arm, best.Harmful, worst.Harmful)
		}
	}
	for change, why := range map[Change]oracle.Why{NoGroups: oracle.Component, NoSticky: oracle.Sticky, NoGate: oracle.InFlight} {
		if row := find(t, r.Ablations, Typed, change); row.Why[why] == 0 {
			t.Errorf("%s: no harm by %s: %v", change, why, row.Why)
		}
	}
	if row := find(t, r.Ablations, Typed, NoOrders); row.Harmful == 0 && row.Useful >= typed.Useful {
		t.Errorf("%s changes nothing: %s", NoOrders, text(row))
	}
}

// What a source never shows is not known, and then harms.
func TestHiddenEdgesHarm(t *testing.T) {
	c := config(small())
	c.Evidence = []Evidence{{Traces: 1, Hidden: 0.4}}
	typed := find(t, measure(t, c).Offline, Typed, Unchanged)
	if typed.Harmful == 0 || typed.Missed == nil || typed.Missed.MeanChance == 0 {
		t.Errorf("typed: %s", text(typed))
	}
}

// With too little evidence the kernel refuses, whatever is proposed.
func TestTooLittleEvidenceIsRefused(t *testing.T) {
	c := config(small())
	c.Evidence = []Evidence{{Traces: 0.001}}
	typed := find(t, measure(t, c).Offline, Typed, Unchanged)
	if typed.Acted != 0 || typed.Refused+typed.Held != typed.Proposed || typed.UsefulRefused == 0 {
		t.Errorf("typed: %s", text(typed))
	}
}

func TestTheSameSeedGivesTheSameRows(t *testing.T) {
	rows := func(parallel int, seed uint64) string {
		c := config(small())
		c.Sample, c.Parallel, c.Seed = 60, parallel, seed
		c.Evidence = []Evidence{Headline(), {Traces: 0.01}, {Traces: 0.1, Hidden: 0.05}}
		data, err := json.Marshal(measure(t, c))
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	one := rows(1, 1)
	if rows(3, 1) != one {
		t.Error("another number of workers gave other rows")
	}
	if rows(1, 2) == one {
		t.Error("another seed gave the same rows")
	}
}

func TestRunStopsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Run(ctx, config(small()), io.Discard); err != context.Canceled { //nolint:errorlint // it is the cause itself
		t.Errorf("got %v", err)
	}
}

func TestCheck(t *testing.T) {
	for want, change := range map[string]func(*Config){
		"no graph":        func(c *Config) { c.Graphs = nil },
		"trials a servic": func(c *Config) { c.PerService = 0 },
		"a sample of -1":  func(c *Config) { c.Sample = -1 },
		"of evidence":     func(c *Config) { c.Recorded = time.Second },
		"the traffic":     func(c *Config) { c.Traffic = 0 },
		"at once":         func(c *Config) { c.Parallel = -1 },
	} {
		c := config(small())
		change(&c)
		if err := c.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v", want, err)
		}
	}
	if _, err := Make("nobody"); err == nil {
		t.Error("a graph called nobody was made")
	}
}

func TestIntervals(t *testing.T) {
	for _, test := range []struct {
		hits, n   int
		low, high float64 // Clopper and Pearson, as tables have them
	}{{0, 100, 0, 0.03622}, {5, 100, 0.01643, 0.11283}, {50, 100, 0.39832, 0.60168}, {100, 100, 0.96378, 1}, {0, 0, 0, 1}} {
		got := interval(test.hits, test.n)
		if math.Abs(got[0]-test.low) > 1e-5 || math.Abs(got[1]-test.high) > 1e-5 {
			t.Errorf("%d of %d: %v, want %v to %v", test.hits, test.n, got, test.low, test.high)
		}
	}
	values, each, one := make([]float64, 400), make([]int32, 400), make([]int32, 400)
	for i := range values {
		values[i], each[i] = float64(i%2), int32(i)
		one[i] = int32(i % 2) // two clusters, all alike within
	}
	if got := bootstrap(values, each, 1); math.Abs(got[0]-0.45) > 0.02 || math.Abs(got[1]-0.55) > 0.02 {
		t.Errorf("bootstrap %v, want about 0.45 to 0.55", got)
	}
	if got := bootstrap(values, one, 1); got != [2]float64{0, 1} {
		t.Errorf("bootstrap of two clusters %v, want 0 to 1", got)
	}
}

func TestPoisson(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, mean := range []float64{0.01, 2, 40, 500} {
		sum := 0.0
		for range 20_000 {
			sum += float64(poisson(rng, mean))
		}
		if got := sum / 20_000; math.Abs(got-mean) > 5*math.Sqrt(mean/20_000) {
			t.Errorf("mean %g, want %g", got, mean)
		}
	}
}

// The rates are those of the published trace: see rareToBusy.
func TestRatesFitThePublishedCounts(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	const n = 200_000
	short, long, calls := 0.0, 0.0, 0.0
	for range n {
		rate := rareToBusy(rng)
		short += 1 - math.Exp(-3*rate)
		long += 1 - math.Exp(-300*rate)
		calls += 3 * rate
	}
	if got := short / long; math.Abs(got-0.678) > 0.03 {
		t.Errorf("three minutes show %.3f of the edges of five hours, published 58583 / 86429", got)
	}
	if got := calls / short; math.Abs(got-228) > 130 {
		t.Errorf("%.0f calls an edge in three minutes, published 13332085 / 58583", got)
	}
}

func TestMetaHasItsDegrees(t *testing.T) {
	shape := meta(3).shape()
	t.Logf("%+v", shape)
	if shape.Services != metaServices || shape.Edges < metaCalls*8/10 || shape.Edges > metaCalls+metaRings || shape.LargestSCC != 2 || shape.InCycles < metaRings {
		t.Errorf("%+v", shape)
	}
}

// The live evaluation writes into the same file.
func TestWriteLeavesTheRestAlone(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(folder, "eval.json")
	if err := os.WriteFile(path, []byte(`{"live": [{"arm": "sluice"}], "offline": [1]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	c := config(small())
	c.Sample = 30
	report := NewReport(&c, measure(t, c), Build{Version: "v", Commit: "c", Command: "sluice eval simulate"}, time.Unix(0, 0), 1)
	if err := report.Write(folder); err != nil {
		t.Fatal(err)
	}
	var got struct {
		Schema    string
		Live      []struct{ Arm string }
		Offline   []struct{ Graph, Arm, Evidence string }
		Recovery  []any
		Readings  []any
		Ablations []any
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	if got.Schema != "sluice.eval/1" || len(got.Live) != 1 || got.Recovery == nil || len(got.Offline) != len(Arms()) ||
		got.Offline[0].Evidence != "traces 1% + mesh metrics" {
		t.Errorf("%+v", got)
	}
	page, err := os.ReadFile(filepath.Join(folder, "eval.html"))
	if err != nil || !strings.Contains(string(page), "small") || strings.Contains(string(page), "http") {
		t.Errorf("page: %v, %d bytes; it must name the graph and nothing outside", err, len(page))
	}
	if err := os.WriteFile(path, []byte("not a report"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := report.Write(folder); err == nil || !strings.Contains(err.Error(), "move it away") {
		t.Errorf("a file that is no report: %v", err)
	}
}
