// Package prom asks a Prometheus server for the request metrics of a mesh and turns them
// into the evidence of calls. It is not for rules, dashboards or metrics of other kinds.
//
//	counter now, counter at the last poll ─► calls since, per series, in the server
//	the same of its failures, of its buckets ─► failed, latency
//	a series that is new ─► the edge exists, no more: its first value may be old
//
// Polls tile time: what one leaves out, because it failed, the next one asks for. A
// counter that fell was reset: what it shows since is counted. Labels choose between
// registered services and are not kept.
package prom

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/api"
	prometheusv1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/topology"
)

// Bounds of a poll.
const (
	MaxResponse = 32 << 20        // bytes of one answer
	MaxRows     = 1 << 15         // rows of one answer that are asked for, those of the most calls
	MaxWindow   = 5 * time.Minute // of a poll after failures: what is older stays uncounted
	MaxBackOff  = time.Minute     // between polls of a server that fails

	maxReporters = 1 << 17 // edges of which it is known who reports them
)

// Defaults of Config.
const (
	DefaultInterval = 5 * time.Second
	DefaultLag      = time.Second
	DefaultTimeout  = 10 * time.Second
)

// Config is what a Source needs.
type Config struct {
	URL       string    // of the server, with the path prefix that it has; required
	Dialects  []Dialect // at least one
	TokenFile string    // of the bearer token, read for every request; "" = none
	CAFile    string    // certificates that the server's is signed by; "" = the system's
	// Sink takes the calls of a poll, which are only lent. Required.
	Sink func([]topology.Call)
	// Known reports whether a service is registered; required.
	Known      func(mesh.Service) bool
	Interval   time.Duration // between polls, at least as long as that of scrapes
	Lag        time.Duration // how far behind the clock is asked, for scrapes under way
	Timeout    time.Duration // of one poll
	Log        *slog.Logger
	Registerer prometheus.Registerer // nil = no metrics
	Now        func() time.Time      // nil = time.Now
}

// Source polls one server. Poll and Run are for one goroutine.
type Source struct {
	config    Config
	api       prometheusv1.API
	last      time.Time // that the last poll asked about, zero = none
	reporters map[edge]reporter
	fresh     atomic.Int64 // Unix nanoseconds of the newest sample that was seen
	metrics   metrics
}

type metrics struct {
	polls, rows *prometheus.CounterVec
	newest      prometheus.GaugeFunc
}

// New returns a source that has not asked yet. Errors name the setting at fault.
func New(config Config) (*Source, error) {
	if config.Sink == nil || config.Known == nil || len(config.Dialects) == 0 {
		return nil, errors.New("prometheus: a sink, the registered services and a dialect are needed")
	}
	config.Interval = orDefault(config.Interval, DefaultInterval)
	config.Lag = orDefault(config.Lag, DefaultLag)
	config.Timeout = orDefault(config.Timeout, DefaultTimeout)
	if config.Now == nil {
		config.Now = time.Now
	}
	if config.Log == nil {
		config.Log = slog.New(slog.DiscardHandler)
	}
	transport, err := newTransport(&config)
	if err != nil {
		return nil, err
	}
	client, err := api.NewClient(api.Config{Address: config.URL, RoundTripper: transport})
	if err != nil {
		return nil, fmt.Errorf("prometheus %q: %w", config.URL, err)
	}
	s := &Source{config: config, api: prometheusv1.NewAPI(client), reporters: map[edge]reporter{}}
	return s, s.register()
}

func orDefault(d, otherwise time.Duration) time.Duration {
	if d <= 0 {
		return otherwise
	}
	return d
}

// register makes the metrics.
func (s *Source) register() error {
	s.metrics = metrics{
		polls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sluice_prometheus_polls_total", Help: "Polls of Prometheus by result: done, failed.",
		}, []string{"result"}),
		rows: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sluice_prometheus_rows_total",
			Help: "Rows of answers by what became of them: edge, unknown-service, not-a-count, cut-off.",
		}, []string{"result"}),
		newest: prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "sluice_prometheus_newest_sample_timestamp_seconds",
			Help: "When the newest sample that a poll saw was scraped, 0 = none was seen.",
		}, func() float64 { return float64(s.fresh.Load()) / float64(time.Second) }),
	}
	if s.config.Registerer == nil {
		return nil
	}
	for _, c := range []prometheus.Collector{s.metrics.polls, s.metrics.rows, s.metrics.newest} {
		if err := s.config.Registerer.Register(c); err != nil {
			return fmt.Errorf("register metrics of the Prometheus source: %w", err)
		}
	}
	return nil
}

// Run polls until ctx ends; after failures less and less often.
func (s *Source) Run(ctx context.Context) error {
	wait := s.config.Interval
	for {
		started := s.config.Now()
		switch err := s.Poll(ctx); {
		case err == nil:
			wait = s.config.Interval
		case ctx.Err() == nil:
			wait = min(2*wait, max(MaxBackOff, s.config.Interval))
			s.config.Log.Warn("poll of Prometheus failed", "error", err, "next", wait)
		}
		select {
		case <-ctx.Done():
			return ctx.Err() //nolint:wrapcheck // the caller's own
		case <-time.After(wait - s.config.Now().Sub(started)):
		}
	}
}

// Stale reports whether no sample is newer than three polls and a minute: the server is
// away, or its own scrapes fail. Stale evidence is that of the past, not of no calls.
func (s *Source) Stale() bool {
	return s.config.Now().Sub(time.Unix(0, s.fresh.Load())) > 3*s.config.Interval+time.Minute
}

// Poll asks once for what happened since the last time and sinks it, all or nothing.
func (s *Source) Poll(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.config.Timeout)
	defer cancel()
	to := s.config.Now().Add(-s.config.Lag).Truncate(time.Millisecond)
	from := s.last
	if !from.IsZero() && !to.After(from) {
		return nil // the clock went back
	}
	if to.Sub(from) > MaxWindow {
		from = time.Time{} // also of the first poll
	}
	p := poll{source: s, from: from, to: to, known: map[mesh.Service]bool{}}
	for _, dialect := range s.config.Dialects {
		if err := p.ask(ctx, dialect.families()); err != nil {
			s.metrics.polls.WithLabelValues("failed").Inc()
			return fmt.Errorf("%s metrics: %w", dialect, err)
		}
	}
	s.last = to
	s.fresh.Store(max(s.fresh.Load(), p.newest))
	s.metrics.polls.WithLabelValues("done").Inc()
	slices.SortStableFunc(p.calls, func(a, b topology.Call) int { return a.At.Compare(b.At) })
	s.config.Sink(p.calls)
	return nil
}
