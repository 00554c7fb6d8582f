package main

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluicemesh/sluice/topology"
)

// made is a part of so many seconds; the latency of a service may depend on the second.
func made(n int, latency func(second, service int) time.Duration) *part {
	p := &part{first: 1000, header: header{Schema: schema, Cores: 2,
		Services: []service{{"shop/front", 0.5, 0.01}, {"shop/cart", 0, 0}, {"shop/db", 0, 0}},
		Edges:    [][2]string{{"outside/ingress", "shop/front"}, {"shop/front", "shop/cart"}, {"shop/cart", "shop/db"}}}}
	for at := range n {
		ticks := make([]topology.Tick, len(p.header.Services))
		for i := range ticks {
			hist := &topology.Histogram{}
			hist.AddN(latency(at, i), 45)
			hist.AddN(2*latency(at, i), 5)
			ticks[i] = topology.Tick{Requests: 50, Hist: hist}
		}
		p.ticks, p.load = append(p.ticks, ticks), append(p.load, 1)
	}
	return p
}

func steady(int, int) time.Duration { return 100 * time.Millisecond }

func TestAPartIsReadAsItWasWritten(t *testing.T) {
	dir, want := t.TempDir(), made(20, func(second, service int) time.Duration {
		return time.Duration(1+second*service) * time.Millisecond
	})
	w, err := create(dir, &want.header, time.Unix(1000, 0))
	if err != nil {
		t.Fatal(err)
	}
	for at, ticks := range want.ticks {
		s := second{At: want.first + int64(at), Load: 1}
		for i := range ticks {
			one := tick{Service: i, Requests: ticks[i].Requests, Errors: ticks[i].Errors}
			ticks[i].Hist.Each(func(middle time.Duration, n uint64) {
				one.Latencies, one.Counts = append(one.Latencies, int64(middle)), append(one.Counts, n)
			})
			s.Ticks = append(s.Ticks, one)
		}
		if err := w.add(&s); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := readAll(dir); err == nil {
		t.Error("a part that is not whole was read")
	}
	if err := w.close(); err != nil {
		t.Fatal(err)
	}
	parts, err := readAll(dir)
	if err != nil || len(parts) != 1 || len(parts[0].ticks) != 20 {
		t.Fatalf("%d parts, %v", len(parts), err)
	}
	for at, ticks := range want.ticks {
		for i := range ticks {
			got := parts[0].ticks[at][i]
			if got.Requests != ticks[i].Requests || *got.Hist != *ticks[i].Hist {
				t.Errorf("second %d of service %d is not the same", at, i)
			}
		}
	}
}

func TestPartsThatCannotBe(t *testing.T) {
	head := `{"schema":"sluice.recording/1","services":[{"name":"shop/cart"}]}` + "\n"
	for name, text := range map[string]string{
		"empty":            "",
		"other schema":     `{"schema":"x"}`,
		"unknown field":    `{"schema":"sluice.recording/1","more":1}`,
		"service twice":    `{"schema":"sluice.recording/1","services":[{"name":"a/b"},{"name":"a/b"}]}`,
		"no service name":  `{"schema":"sluice.recording/1","services":[{"name":"B"}]}`,
		"gap":              head + `{"at":5}` + "\n" + `{"at":7}`,
		"unknown service":  head + `{"at":5,"ticks":[{"s":1,"n":1}]}`,
		"errors":           head + `{"at":5,"ticks":[{"s":0,"n":1,"e":2}]}`,
		"latencies":        head + `{"at":5,"ticks":[{"s":0,"n":1,"l":[1,2],"c":[1]}]}`,
		"more than one":    head + `{"at":5}{"at":6}`,
		"service in twice": head + `{"at":5,"ticks":[{"s":0,"n":1},{"s":0,"n":1}]}`,
	} {
		if _, err := read(strings.NewReader(text)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if p, err := read(strings.NewReader(head + `{"at":5}` + "\n" + `{"at":6,"load":2}`)); err != nil || len(p.ticks) != 2 {
		t.Errorf("a good part: %v", err)
	}
}

func TestWindowsAreBlocks(t *testing.T) {
	p := made(2000, steady)
	for seed := range uint64(50) {
		seconds := p.resample(rand.New(rand.NewPCG(seed, 1)), 60, 600)
		if len(seconds) != baselineSeconds+watchSeconds || slices.Max(seconds) >= 2000 || slices.Min(seconds) < 0 {
			t.Fatalf("seed %d: %d seconds of %d to %d", seed, len(seconds), slices.Min(seconds), slices.Max(seconds))
		}
		breaks := 0
		for i := 1; i < len(seconds); i++ {
			if seconds[i] != seconds[i-1]+1 {
				breaks++
				if (i-baselineSeconds)%60 != 0 || i < baselineSeconds+60 {
					t.Fatalf("seed %d: a block ends before second %d of the window", seed, i)
				}
			}
			if away := seconds[i] - seconds[0]; away > 660 || away < -600 {
				t.Fatalf("seed %d: second %d is %d s from its baseline", seed, i, away)
			}
		}
		if breaks > 4 {
			t.Fatalf("seed %d: %d breaks", seed, breaks)
		}
	}
}

func TestAWindowWatchesWhatReachesItsTarget(t *testing.T) {
	p, sizes := made(400, steady), map[int]bool{}
	for seed := range uint64(30) {
		w := p.window(rand.New(rand.NewPCG(seed, 2)), true)
		if len(w.watched)+len(w.others) != 3 || w.watched[0] != 0 {
			t.Fatalf("watched %v, others %v", w.watched, w.others)
		}
		sizes[len(w.watched)] = true
	}
	if len(sizes) != 3 {
		t.Errorf("sizes %v", sizes)
	}
}

func TestCalmIsNoAlarmAndHarmIsOne(t *testing.T) {
	dir := t.TempDir()
	s := replaySettings{dir: dir, out: filepath.Join(dir, "alarms.json"), windows: 20, block: 60, near: 600, seed: 1}
	for name, test := range map[string]struct {
		latency func(second, service int) time.Duration
		alarmed bool
	}{
		"calm": {steady, false},
		"the front gets slow in turns": {func(second, service int) time.Duration {
			if service == 0 && second%300 > 200 {
				return time.Second
			}
			return 100 * time.Millisecond
		}, true},
		"all get slow in turns": {func(second, _ int) time.Duration {
			if second%300 > 200 {
				return time.Second
			}
			return 100 * time.Millisecond
		}, true},
	} {
		j, err := s.judge(t.Context(), []*part{made(1500, test.latency)}, false)
		if err != nil || j.Resampled.Windows != 20 || j.Live.Windows != 4 {
			t.Fatalf("%s: %+v, %v", name, j, err)
		}
		if (j.Resampled.Alarms > 0) != test.alarmed || (j.Resampled.CI95[0] > 0) != test.alarmed {
			t.Errorf("%s: %+v", name, j.Resampled)
		}
	}
}

func TestTheReportIsWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "alarms.json")
	a := &alarms{Schema: "sluice.alarms/1", Judged: []judged{{Objectives: "none", Resampled: count{Windows: 1000, Alarms: 11}}}}
	if err := a.tell(path); err == nil {
		t.Error("1.1 % is too many, and no error")
	}
	text, err := os.ReadFile(path)
	var again alarms
	if err != nil || json.Unmarshal(text, &again) != nil || again.Judged[0].Resampled.Alarms != 11 {
		t.Errorf("%v, %s", err, text)
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(`{"schema":"sluice.recording/1","services":[{"name":"shop/cart"}]}` + "\n" + `{"at":5,"ticks":[{"s":0,"n":2,"l":[1000],"c":[2]}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := read(bytes.NewReader(text))
		if err != nil {
			return
		}
		for _, ticks := range p.ticks {
			if len(ticks) != len(p.header.Services) {
				t.Fatal("a second without its services")
			}
		}
	})
}
