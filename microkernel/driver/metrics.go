package driver

import (
	"fmt"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sluicemesh/sluice/microkernel"
)

// metrics are the kernel's figures. Labels are enumerations: no plan, service or name of
// a principal is one.
type metrics struct {
	verdicts *prometheus.CounterVec
	plans    *prometheus.CounterVec
	steps    *prometheus.HistogramVec
	commits  prometheus.Histogram
	events   *prometheus.CounterVec

	violations *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		verdicts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sluice_plan_verdicts_total", Help: "Verdicts on plans, by outcome and by code of the gravest fault.",
		}, []string{"outcome", "code"}),
		plans: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sluice_plans_total", Help: "Plans that ended, by final phase.",
		}, []string{"phase"}),
		steps: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "sluice_step_seconds",
			Help:    "Time of a step: until every proxy ACKed, from there until its gate opened, and in all.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2.5, 14),
		}, []string{"action", "part"}),
		commits: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "sluice_journal_commit_seconds",
			Help:    "Time until an event was durable.",
			Buckets: prometheus.ExponentialBuckets(0.00002, 2.5, 14),
		}),
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sluice_kernel_events_total", Help: "Events that the kernel took, by type.",
		}, []string{"event"}),
		violations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sluice_invariant_violations_total", Help: "States that broke an invariant of the kernel, by its name: each freezes it.",
		}, []string{"invariant"}),
	}
	for _, c := range []prometheus.Collector{m.verdicts, m.plans, m.steps, m.commits, m.events, m.violations} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("register the kernel's metrics: %w", err)
		}
	}
	return m, nil
}

// unregister takes the figures away again, so that a kernel may be started anew.
func (m *metrics) unregister(r prometheus.Registerer) {
	for _, c := range []prometheus.Collector{m.verdicts, m.plans, m.steps, m.commits, m.events, m.violations} {
		r.Unregister(c)
	}
}

// nameOf returns the name of an event's type.
func nameOf(ev microkernel.Event) string {
	_, name, _ := strings.Cut(fmt.Sprintf("%T", ev), ".")
	return name
}
