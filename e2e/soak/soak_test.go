package main

import (
	"context"
	"net"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/topology"
	"github.com/sluicemesh/sluice/topology/otlp"
)

// values returns samples of the heap, one a second.
func values(n int, heap func(second int) float64) []sample {
	samples := make([]sample, n)
	for i := range samples {
		samples[i] = sample{Seconds: float64(i), Heap: heap(i)}
	}
	return samples
}

func TestSlope(t *testing.T) {
	for name, test := range map[string]struct {
		heap func(int) float64
		flat bool
	}{
		"the saw of a collected heap": {func(s int) float64 { return 20 + float64(s%7) }, true},
		"a leak":                      {func(s int) float64 { return 20 + float64(s)/20 }, false},
		"a leak under the saw":        {func(s int) float64 { return 20 + float64(s%7) + float64(s)/20 }, false},
		"shrinks":                     {func(s int) float64 { return 200 - float64(s)/10 }, true},
	} {
		got := slopeOf(values(600, test.heap), func(s *sample) float64 { return s.Heap })
		if got.Flat != test.flat {
			t.Errorf("%s: flat %v, want %v: %+v", name, got.Flat, test.flat, got)
		}
	}
	if slopeOf(values(19, func(int) float64 { return 1 }), func(s *sample) float64 { return s.Heap }).Flat {
		t.Error("19 samples are called flat: that is too few to tell")
	}
}

func TestSampleReadsMetrics(t *testing.T) {
	var s sample
	for _, line := range []string{
		"# HELP go_goroutines x", "go_goroutines 12", "go_memstats_heap_alloc_bytes 2.097152e+06",
		`sluice_otlp_spans_total{result="call"} 100`, `sluice_otlp_spans_total{result="joined"} 40`,
		`sluice_otlp_spans_total{result="shed"} 3`, `sluice_otlp_spans_total{result="bad-name"} 2`,
		`sluice_accesslog_entries_total{result="call"} 7`, `sluice_accesslog_entries_total{result="other"} 1`,
	} {
		s.take(line)
	}
	if want := (sample{Taken: 100, Refused: 2, Shed: 3, Entries: 8, Heap: 2, Goroutines: 12}); s != want {
		t.Errorf("read %+v, want %+v", s, want)
	}
}

// TestExportersSeeTheLimit holds the receiver's sink until more exports are there than it
// lets wait: the SDK's exporters over gRPC and HTTP and the flood must be shed by the
// protocol's own answers, and be taken once the sink goes on.
func TestExportersSeeTheLimit(t *testing.T) {
	release := make(chan struct{})
	receiver, err := otlp.New(otlp.Config{
		SinkAll: func([]topology.Call) { <-release },
		Known:   func(s mesh.Service) bool { return s == frontService || s == backService },
	})
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(receiver)
	defer web.Close()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(otlp.Options()...)
	receiver.Register(server)
	go func() { _ = server.Serve(listener) }()
	defer server.Stop()

	ctx, stop := context.WithTimeout(t.Context(), 20*time.Second)
	defer stop()
	var a answers
	var running sync.WaitGroup
	load := flood{settled: time.Minute, address: web.Listener.Addr().String(), answers: &a}
	running.Go(func() { load.run(ctx) })
	for i := range 8 {
		exporter := overHTTP(load.address, &a)
		if i < 4 {
			if exporter, err = overGRPC(ctx, listener.Addr().String(), i%2 == 0); err != nil {
				t.Fatal(err)
			}
		}
		running.Go(func() {
			export(ctx, exporter, &a)
			_ = exporter.Shutdown(context.WithoutCancel(ctx))
		})
	}
	until(ctx, t, "something is shed", func() bool { return a.shed.Load() > 0 })
	close(release)
	until(ctx, t, "spans are taken", func() bool { return a.accepted.Load() >= 10*batchSpans })
	stop()
	running.Wait()
	if a.bare.Load() > 0 || a.failed.Load() > 0 || a.partial.Load() > 0 {
		t.Errorf("%d shed and not told when to send again, %d partial, %d failed, the last: %v",
			a.bare.Load(), a.partial.Load(), a.failed.Load(), a.last.Load())
	}
}

// until waits for what to hold, as long as ctx lasts.
func until(ctx context.Context, t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-ctx.Done():
			t.Fatalf("not in time: %s", what)
		case <-tick.C:
		}
	}
}
