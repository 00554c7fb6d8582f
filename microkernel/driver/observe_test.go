package driver

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/sluicemesh/sluice/microkernel"
	"github.com/sluicemesh/sluice/microkernel/journal"
)

func TestAPlanIsOneTraceAndCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		spans := tracetest.NewInMemoryExporter()
		registry := prometheus.NewRegistry()
		var log bytes.Buffer
		cfg := configOf(newMesh(), &journal.Memory{})
		cfg.Tracer = trace.NewTracerProvider(trace.WithSyncer(spans)).Tracer("")
		cfg.Metrics = registry
		cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
		k := start(t, cfg)
		led(t, k)
		submit(t, k, restartCart("cart-1"))
		ended(t, k, "cart-1")
		synctest.Wait()
		checkSpans(t, spans.GetSpans())
		checkMetrics(t, registry)
		for _, want := range []string{"verdict", "outcome=admit", "state=confirmed action=restart", "to=committed"} {
			if !strings.Contains(log.String(), want) {
				t.Errorf("the log has no %q:\n%s", want, log.String())
			}
		}
	})
}

func checkSpans(t *testing.T, spans tracetest.SpanStubs) {
	t.Helper()
	names := map[string]int{}
	for _, s := range spans {
		names[s.Name]++
		if s.SpanContext.TraceID() != traceOf("cart-1").TraceID() {
			t.Errorf("span %s is in trace %s", s.Name, s.SpanContext.TraceID())
		}
		if !s.EndTime.After(s.StartTime) {
			t.Errorf("span %s lasts %v", s.Name, s.EndTime.Sub(s.StartTime))
		}
	}
	for _, name := range []string{"plan", "drain", "restart", "restoreTraffic"} {
		if names[name] != 1 {
			t.Errorf("spans %v, want one %s", names, name)
		}
	}
}

func checkMetrics(t *testing.T, registry *prometheus.Registry) {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	series := map[string]int{}
	for _, f := range families {
		series[f.GetName()] = len(f.GetMetric())
	}
	// drain: ack, gate, total; restart and restore: total.
	for name, want := range map[string]int{
		"sluice_plan_verdicts_total": 1, "sluice_plans_total": 1, "sluice_step_seconds": 5,
		"sluice_journal_commit_seconds": 1,
	} {
		if series[name] != want {
			t.Errorf("%s has %d series, want %d", name, series[name], want)
		}
	}
	if n := series["sluice_kernel_events_total"]; n < 6 || n > 16 {
		t.Errorf("sluice_kernel_events_total has %d series, want one an event type", n)
	}
}

func TestAWatchShowsEachPhaseAndEndsWithTheLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := start(t, configOf(newMesh(), &journal.Memory{}))
		led(t, k)
		records, cancel := k.Watch("cart-1") // before the plan is known
		defer cancel()
		submit(t, k, restartCart("cart-1"))
		var phases []microkernel.Phase
		for r := range records {
			if len(phases) == 0 || phases[len(phases)-1] != r.Phase {
				phases = append(phases, r.Phase)
			}
		}
		if len(phases) < 2 || phases[len(phases)-1] != microkernel.Committed {
			t.Errorf("phases %v", phases)
		}
		again, stop := k.Watch("cart-1")
		if r, open := <-again; !open || r.Phase != microkernel.Committed {
			t.Errorf("a watch of an ended plan: %v %v", r.Phase, open)
		}
		stop()
		stop() // twice is harmless
	})
}
