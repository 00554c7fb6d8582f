package topology

import (
	"slices"
	"testing"
	"time"

	"github.com/sluicemesh/sluice/topology/generate"
)

// failing returns a snapshot of made with traffic on every edge; one service in twenty
// fails since onset.
func failing(made *generate.Graph) (*Snapshot, time.Time) {
	start, g := time.Unix(1_700_000_000, 0), declared(made)
	onset := start.Add(time.Minute)
	for _, e := range made.Edges {
		for second := int(e.Caller) % 5; second < 120; second += 5 {
			at := start.Add(time.Duration(second) * time.Second)
			g.Observe(Call{
				Caller: made.Services[e.Caller], Callee: made.Services[e.Callee], At: at,
				Latency: time.Duration(1+second%20) * time.Millisecond, Weight: 5, Source: AccessLog,
				Failed: !at.Before(onset) && e.Callee%20 == 0,
			})
		}
	}
	return g.Snapshot(start.Add(2 * time.Minute)), onset
}

// BenchmarkGroupOfSymptom measures the group of one symptom, every service in turn.
func BenchmarkGroupOfSymptom(b *testing.B) {
	settings := generate.Published()
	settings.Cycles, settings.Sticky = 100, 300
	snap, onset := failing(generate.NewGraph(1, settings))
	services := snap.Services()
	b.ReportAllocs()
	i := 0
	var times []time.Duration
	for b.Loop() {
		began := time.Now()
		snap.Group(Symptom{Service: services[i%len(services)], Onset: onset})
		times = append(times, time.Since(began))
		i++
	}
	slices.Sort(times)
	b.ReportMetric(float64(times[len(times)*99/100])/1000, "p99-us")
}
