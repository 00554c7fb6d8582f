package main

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"syscall"
	"time"

	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/topology"
	"github.com/sluicemesh/sluice/topology/generate"
	"github.com/sluicemesh/sluice/topology/otlp"
)

const (
	ingestBatches  = 8
	ingestRounds   = 200 // of all batches, ours; the reference does a fifth
	ingestTurns    = 4
	rebuilds       = 100
	gonumRebuilds  = 10
	largeServices  = 1_000_000
	largeEdges     = 10_000_000
	reversedEdges  = 400 // of graph_rebuild_5k_cycles
	groupEvidence  = 120 // seconds of traffic behind group_p99
	groupFaulty    = 20  // one service in so many fails since the onset
	groupRepeats   = 3
	bytesOfMiB     = 1 << 20
	nsOfUs, nsOfMs = 1e3, 1e6
)

// cpuTime returns the processor time of the process so far.
func cpuTime() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// ingest measures OTLP bytes to edges of the graph in the steady state. The reference,
// which the OpenTelemetry Collector is made of, only decodes the same bytes.
func ingest() Bench {
	const reference = "collector pdata 1.70 ptraceotlp, decoding alone"
	return Bench{
		Rows: []Row{
			{Name: "otlp_ingest_cpu", Unit: "ns/span", ReferenceName: reference, Rule: Ratio, Floor: 8, Reach: 13},
			{Name: "otlp_ingest_allocs", Unit: "allocs/batch", ReferenceName: reference},
		},
		Open: func(context.Context, *Env) (Measure, error) {
			now := time.Now()
			batches := make([]generate.Batch, ingestBatches)
			for i := range batches {
				batches[i] = generate.Spans(uint64(1+i), now)
			}
			graph := topology.NewGraph()
			graph.RegisterNames(batches[0].Services)
			registered := map[mesh.Service]bool{}
			for _, service := range batches[0].Services {
				registered[service] = true
			}
			server, err := otlp.New(otlp.Config{
				SinkAll: graph.ObserveAll, Now: func() time.Time { return now },
				Known: func(s mesh.Service) bool { return registered[s] },
			})
			if err != nil {
				return nil, err
			}
			ours := func(data []byte) error { _, err := server.Export(data); return err }
			theirs := func(data []byte) error {
				return ptraceotlp.NewExportRequest().UnmarshalProto(data)
			}
			if _, _, err := perBatch(batches, 1, ours); err != nil { // names and ticks that are there in the steady state
				return nil, err
			}
			return func(context.Context) ([]Pair, error) {
				return ingestInTurns(batches, ours, theirs)
			}, nil
		},
	}
}

// ingestInTurns measures both sides in turns, so that both meet the machine as it is then,
// and returns what a span costs, and what a batch allocates, over all turns.
func ingestInTurns(batches []generate.Batch, ours, theirs func([]byte) error) ([]Pair, error) {
	var cost, allocs Pair
	for range ingestTurns {
		ns, n, err := perBatch(batches, ingestRounds/ingestTurns, ours)
		if err != nil {
			return nil, err
		}
		cost.Ours += ns / ingestTurns / generate.SpansOfBatch
		allocs.Ours += n / ingestTurns
		if ns, n, err = perBatch(batches, ingestRounds/ingestTurns/5, theirs); err != nil {
			return nil, err
		}
		cost.Reference += ns / ingestTurns / generate.SpansOfBatch
		allocs.Reference += n / ingestTurns
	}
	return []Pair{cost, allocs}, nil
}

// perBatch returns processor time in nanoseconds and allocations of one batch. It begins with
// a clean heap and one round that does not count: a side pays for its own garbage only, and
// not for what the other left in the caches.
func perBatch(batches []generate.Batch, rounds int, take func([]byte) error) (ns, allocs float64, err error) {
	var before, after runtime.MemStats
	runtime.GC()
	var began time.Duration
	for round := range rounds + 1 {
		if round == 1 {
			runtime.ReadMemStats(&before)
			began = cpuTime()
		}
		for i := range batches {
			if err := take(batches[i].Data); err != nil {
				return 0, 0, err
			}
		}
	}
	n := float64(rounds * len(batches))
	ns = float64(cpuTime()-began) / n
	runtime.ReadMemStats(&after)
	return ns, float64((after.Mallocs - before.Mallocs) / uint64(n)), nil
}

// rebuild measures a snapshot of the published size after an edge has changed: rows,
// components and epoch. gonum builds the same graph and runs its TarjanSCC.
func rebuild(name string, reversed int) Bench {
	return Bench{
		Rows: []Row{{Name: name, Unit: "ms", ReferenceName: "gonum simple.DirectedGraph and topo.TarjanSCC", Rule: Ratio, Floor: 25, Reach: 50}},
		Open: func(_ context.Context, env *Env) (Measure, error) {
			settings := generate.Published()
			settings.Reversed = reversed
			made := generate.NewGraph(1, settings)
			env.Note("%s", made.Fit())
			graph := topology.NewGraph()
			graph.RegisterNames(made.Services)
			for _, e := range made.Edges {
				graph.Declare(made.Services[e.Caller], made.Services[e.Callee], e.Sticky)
			}
			first, sticky := made.Edges[0], false
			return func(context.Context) ([]Pair, error) {
				began := cpuTime()
				for range rebuilds {
					sticky = !sticky
					graph.Declare(made.Services[first.Caller], made.Services[first.Callee], sticky)
					graph.Snapshot(time.Unix(1, 0))
				}
				ours := float64(cpuTime()-began) / rebuilds / nsOfMs
				began = cpuTime()
				for range gonumRebuilds {
					gonumComponents(made)
				}
				return []Pair{{Ours: ours, Reference: float64(cpuTime()-began) / gonumRebuilds / nsOfMs}}, nil
			}, nil
		},
	}
}

// rebuildLarge measures a snapshot of a million services. The heap is all that a rebuild
// allocates, as if nothing of it were given back before its end; the graph that it
// starts from is noted. gonum needs minutes for this one: it is run once, at most for
// gonumCap, and if it was stopped then the reference is a lower bound, which is noted.
func rebuildLarge() Bench {
	return Bench{
		Rows: []Row{
			{
				Name: "graph_rebuild_1m", Unit: "s", Floor: 2.5, Reach: 1.5,
				ReferenceName: fmt.Sprintf("gonum simple.DirectedGraph and topo.TarjanSCC, run once, for %s at most", gonumCap),
			},
			{Name: "graph_rebuild_1m_heap", Unit: "MiB", Floor: 500, Reach: 250},
		},
		Runs: 3,
		Open: func(ctx context.Context, env *Env) (Measure, error) {
			gonum, stopped, err := timeGonumLarge(ctx)
			if err != nil {
				return nil, err
			}
			if stopped {
				env.Note("gonum was stopped after %s: the reference is a lower bound", gonumCap)
			}
			defer debug.SetGCPercent(debug.SetGCPercent(50))
			names := make([]mesh.Service, largeServices)
			for v := range names {
				names[v] = mesh.Service(fmt.Sprintf("prod/ms-%07d", v))
			}
			graph := topology.NewGraph()
			graph.RegisterNames(names)
			generate.Large(1, largeServices, largeEdges, func(caller, callee int32) {
				graph.Declare(names[caller], names[callee], false)
			})
			snapshot := graph.Snapshot(time.Unix(1, 0)) // names are numbered once a registration
			runtime.GC()
			var memory runtime.MemStats
			runtime.ReadMemStats(&memory)
			env.Note("heap with the graph, its names and a snapshot: %d MiB", memory.HeapAlloc/bytesOfMiB)
			runtime.KeepAlive(snapshot)
			sticky := false
			return func(context.Context) ([]Pair, error) {
				runtime.GC()
				sticky = !sticky
				graph.Declare(names[0], names[1], sticky)
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				began := cpuTime()
				snapshot := graph.Snapshot(time.Unix(1, 0))
				took := cpuTime() - began
				runtime.ReadMemStats(&after)
				runtime.KeepAlive(snapshot)
				heap := float64(after.TotalAlloc-before.TotalAlloc) / bytesOfMiB
				return []Pair{{Ours: took.Seconds(), Reference: gonum.Seconds()}, {Ours: heap}}, nil
			}, nil
		},
	}
}

// groupOfSymptom measures the group of one symptom, with every service as the symptom,
// over evidence of two minutes in which one service in twenty began to fail.
func groupOfSymptom() Bench {
	return Bench{
		Rows: []Row{{Name: "group_p99", Unit: "us", Floor: 100, Reach: 10}},
		Open: func(context.Context, *Env) (Measure, error) {
			settings := generate.Published()
			settings.Cycles, settings.Sticky = 100, 300
			snapshot, onset := failing(generate.NewGraph(1, settings))
			services := snapshot.Services()
			return func(context.Context) ([]Pair, error) {
				times := make([]float64, 0, groupRepeats*len(services))
				for range groupRepeats {
					for _, service := range services {
						began := time.Now()
						snapshot.Group(topology.Symptom{Service: service, Onset: onset})
						times = append(times, float64(time.Since(began))/nsOfUs)
					}
				}
				slices.Sort(times)
				return []Pair{{Ours: times[len(times)*99/100]}}, nil
			}, nil
		},
	}
}

// failing returns a snapshot of made with traffic on every edge.
func failing(made *generate.Graph) (*topology.Snapshot, time.Time) {
	start := time.Unix(1_700_000_000, 0)
	onset := start.Add(groupEvidence / 2 * time.Second)
	graph := topology.NewGraph()
	graph.RegisterNames(made.Services)
	for _, e := range made.Edges {
		graph.Declare(made.Services[e.Caller], made.Services[e.Callee], e.Sticky)
		for second := int(e.Caller) % 5; second < groupEvidence; second += 5 {
			at := start.Add(time.Duration(second) * time.Second)
			graph.Observe(topology.Call{
				Caller: made.Services[e.Caller], Callee: made.Services[e.Callee], At: at, Latency: time.Duration(1+second%20) * time.Millisecond,
				Weight: 5, Source: topology.AccessLog, Failed: !at.Before(onset) && e.Callee%groupFaulty == 0,
			})
		}
	}
	return graph.Snapshot(start.Add(groupEvidence * time.Second)), onset
}
