package driver

import (
	"context"
	"crypto/sha256"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/microkernel"
)

// observer turns what happens to plans into log lines, spans and figures. It compares
// the records of open plans before and after each event, so that nothing can be done
// without it. The loop alone uses it.
type observer struct {
	log        *slog.Logger
	tracer     trace.Tracer
	registerer prometheus.Registerer
	metrics    *metrics
	open       map[microkernel.PlanID]*observed
}

// observed is what was last seen of a plan.
type observed struct {
	phase   microkernel.Phase
	waiting string
	span    trace.Span
	ctx     context.Context // of span
	steps   map[isa.StepID]*observedStep
}

type observedStep struct {
	state microkernel.StepState
	acked bool
	span  trace.Span
}

func newObserver(cfg Config) (*observer, error) {
	m, err := newMetrics(cfg.Metrics)
	if err != nil {
		return nil, err
	}
	return &observer{
		log: cfg.Log, tracer: cfg.Tracer, registerer: cfg.Metrics, metrics: m,
		open: map[microkernel.PlanID]*observed{},
	}, nil
}

// resume takes up the plans that a replayed state has open, without telling again what
// was told when it happened.
func (o *observer) resume(s microkernel.State) {
	for _, record := range s.Records() {
		if record.Phase.Final() {
			continue
		}
		seen := o.begin(&record)
		for i := range record.Steps {
			step := &record.Steps[i]
			seen.steps[step.Step.ID] = &observedStep{state: step.State, acked: step.Acked != 0}
			if step.State == microkernel.StepRunning {
				seen.steps[step.Step.ID].span = o.startStep(seen, step)
			}
		}
		o.log.Info("plan taken over", "plan", record.ID, "phase", record.Phase)
	}
}

// throttled counts a refusal that is not journalled.
func (o *observer) throttled() {
	o.metrics.verdicts.WithLabelValues(string(microkernel.Throttle), string(isa.CodeRate)).Inc()
}

// committed counts the time until ev was durable.
func (o *observer) committed(ev microkernel.Event, took time.Duration) {
	o.metrics.commits.Observe(took.Seconds())
	o.metrics.events.WithLabelValues(nameOf(ev)).Inc()
}

// event tells what an event brought about.
func (o *observer) event(ev microkernel.Event, out outcome) {
	o.tellEvent(ev)
	touched := map[microkernel.PlanID]bool{}
	for _, e := range out.effects {
		touched[planOf(e)] = true
		switch e := e.(type) {
		case microkernel.Answer:
			o.verdict(ev, e)
		case microkernel.Finish:
			o.metrics.plans.WithLabelValues(string(e.Phase)).Inc()
		}
	}
	if submitted, ok := ev.(microkernel.Submitted); ok {
		touched[microkernel.PlanID(submitted.Program.ID)] = true
	}
	for id := range o.open {
		touched[id] = true
	}
	for id := range touched {
		if record, found := out.state.Record(id); found {
			o.record(&record, ev.When())
		}
	}
}

// tellEvent logs the events that are about the kernel as a whole, or about a human.
func (o *observer) tellEvent(ev microkernel.Event) {
	switch ev := ev.(type) {
	case microkernel.Led:
		o.log.Info("leading", "term", ev.Term)
	case microkernel.Probed:
		o.log.Info("world probed", "overlays", len(ev.Overlays), "instances", len(ev.Instances))
	case microkernel.Approved:
		o.log.Info("approval given", "plan", ev.Plan, "by", ev.By.Name)
	case microkernel.Aborted:
		o.log.Info("abort asked", "plan", ev.Plan, "by", ev.By.Name, "reason", ev.Reason)
	case microkernel.Paused:
		o.log.Info("pause asked", "plan", ev.Plan, "by", ev.By.Name, "reason", ev.Reason)
	case microkernel.Resumed:
		o.log.Info("resume asked", "plan", ev.Plan, "by", ev.By.Name)
	case microkernel.Failed:
		o.log.Warn("effect failed", "plan", ev.Plan, "step", ev.Step, "code", ev.Code, "reason", ev.Reason)
	case microkernel.Judged:
		o.log.Info("harm judged", "plan", ev.Plan, "label", ev.Verdict.Label, "service", ev.Verdict.Service,
			"evidence", ev.Verdict.Evidence)
	}
}

func (o *observer) verdict(ev microkernel.Event, a microkernel.Answer) {
	o.metrics.verdicts.WithLabelValues(string(a.Verdict.Outcome), string(a.Verdict.Code)).Inc()
	by := ""
	if s, ok := ev.(microkernel.Submitted); ok {
		by = s.By.Name
	}
	o.log.Info("verdict", "plan", string(a.Plan), "by", by, "outcome", a.Verdict.Outcome, "code", a.Verdict.Code,
		"faults", len(a.Verdict.Faults))
}

// record compares a plan with what was last seen of it.
func (o *observer) record(r *microkernel.Record, at microkernel.Instant) {
	seen := o.open[r.ID]
	if seen == nil {
		if r.Phase.Final() {
			return // refused, or told already
		}
		seen = o.begin(r)
	}
	for i := range r.Steps {
		o.step(seen, r, &r.Steps[i], at)
	}
	if seen.waiting != r.Waiting && r.Waiting != "" {
		o.log.Info("plan waits", "plan", r.ID, "for", r.Waiting)
	}
	seen.waiting = r.Waiting
	if seen.phase == r.Phase {
		return
	}
	o.log.Info("plan phase", "plan", r.ID, "from", seen.phase, "to", r.Phase, "reason", r.Reason)
	seen.span.AddEvent(string(r.Phase), trace.WithTimestamp(wall(at)))
	seen.phase = r.Phase
	if r.Phase.Final() {
		o.end(seen, r, at)
	}
}

// begin opens the span of a plan.
func (o *observer) begin(r *microkernel.Record) *observed {
	seen := &observed{phase: r.Phase, waiting: r.Waiting, steps: map[isa.StepID]*observedStep{}}
	parent := trace.ContextWithRemoteSpanContext(context.Background(), traceOf(r.ID))
	seen.ctx, seen.span = o.tracer.Start(parent, "plan", trace.WithTimestamp(wall(r.Proposed)), trace.WithAttributes(
		attribute.String("sluice.plan", string(r.ID)),
		attribute.String("sluice.proposer", r.Proposer.Name),
		attribute.Int("sluice.steps", len(r.Steps)),
	))
	o.open[r.ID] = seen
	return seen
}

// traceOf returns the trace of a plan: derived from its id, so that every process that
// works on the plan, before a crash and after it, adds to the same trace.
func traceOf(id microkernel.PlanID) trace.SpanContext {
	sum := sha256.Sum256([]byte(id))
	return trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID(sum[:16]), SpanID: trace.SpanID(sum[16:24]), TraceFlags: trace.FlagsSampled, Remote: true,
	})
}

func (o *observer) end(seen *observed, r *microkernel.Record, at microkernel.Instant) {
	for _, step := range seen.steps {
		if step.span != nil {
			step.span.End(trace.WithTimestamp(wall(at)))
		}
	}
	seen.span.SetAttributes(attribute.String("sluice.phase", string(r.Phase)))
	if r.Phase != microkernel.Committed {
		seen.span.SetStatus(codes.Error, r.Reason)
	}
	seen.span.End(trace.WithTimestamp(wall(at)))
	delete(o.open, r.ID)
}

// step compares a step with what was last seen of it.
func (o *observer) step(seen *observed, r *microkernel.Record, s *microkernel.StepRecord, at microkernel.Instant) {
	was := seen.steps[s.Step.ID]
	if was == nil {
		was = &observedStep{state: microkernel.StepWaiting}
		seen.steps[s.Step.ID] = was
	}
	if s.Acked != 0 && !was.acked {
		was.acked = true
		o.log.Info("step acked", "plan", r.ID, "step", s.Step.ID, "proxies", s.Acks.Acked)
		o.metrics.steps.WithLabelValues(action(s), "ack").Observe(s.Acked.Sub(s.Started).Seconds())
		if was.span != nil {
			was.span.AddEvent("acked", trace.WithTimestamp(wall(s.Acked)))
		}
	}
	if was.state == s.State {
		return
	}
	was.state = s.State
	o.log.Info("step", stepAttrs(r.ID, s)...)
	switch s.State {
	case microkernel.StepWaiting:
	case microkernel.StepRunning:
		was.span = o.startStep(seen, s)
	case microkernel.StepConfirmed, microkernel.StepFailed, microkernel.StepUndone:
		o.endStep(was, s, at)
	}
}

func (o *observer) startStep(seen *observed, s *microkernel.StepRecord) trace.Span {
	_, span := o.tracer.Start(seen.ctx, action(s), trace.WithTimestamp(wall(s.Started)), trace.WithAttributes(
		attribute.String("sluice.step", string(s.Step.ID)),
		attribute.String("sluice.target", string(targetOf(s))),
	))
	return span
}

func (o *observer) endStep(was *observedStep, s *microkernel.StepRecord, at microkernel.Instant) {
	if s.State == microkernel.StepConfirmed && s.Started != 0 && s.Ended != 0 {
		o.metrics.steps.WithLabelValues(action(s), "total").Observe(s.Ended.Sub(s.Started).Seconds())
		if s.Acked != 0 {
			o.metrics.steps.WithLabelValues(action(s), "gate").Observe(s.Ended.Sub(s.Acked).Seconds())
		}
	}
	if was.span == nil {
		return
	}
	was.span.SetAttributes(
		attribute.String("sluice.state", string(s.State)),
		attribute.String("sluice.grade", string(s.Grade)),
		attribute.Int("sluice.in_flight", s.Proof.InFlight),
	)
	if s.State != microkernel.StepConfirmed {
		was.span.SetStatus(codes.Error, string(s.State))
	}
	was.span.End(trace.WithTimestamp(wall(at)))
	was.span = nil
}

// close ends the spans of plans that a next kernel will go on with.
func (o *observer) close() {
	for _, seen := range o.open {
		for _, step := range seen.steps {
			if step.span != nil {
				step.span.End()
			}
		}
		seen.span.End()
	}
	o.metrics.unregister(o.registerer)
}

func stepAttrs(plan microkernel.PlanID, s *microkernel.StepRecord) []any {
	attrs := []any{"plan", plan, "step", s.Step.ID, "state", s.State, "action", action(s), "target", targetOf(s)}
	if s.Grade != "" {
		attrs = append(attrs, "grade", s.Grade)
	}
	if s.New.UID != "" {
		attrs = append(attrs, "instance", s.New.UID, "incarnation", s.New.Incarnation)
	}
	if s.Waiting != "" {
		attrs = append(attrs, "waiting", s.Waiting)
	}
	return attrs
}

func action(s *microkernel.StepRecord) string {
	if s.Step.Action == nil {
		return ""
	}
	return string(s.Step.Action.Kind())
}

// targetOf returns what the step is about, "" if that is another step.
func targetOf(s *microkernel.StepRecord) mesh.Service {
	switch a := s.Step.Action.(type) {
	case isa.Restart:
		return a.Target.Service
	case isa.Drain:
		return a.Target.Service
	case isa.CircuitBreak:
		return a.Target.Service
	case isa.RateLimit:
		return a.Target.Service
	case isa.Scale:
		return a.Target.Service
	}
	return ""
}

// wall returns the time of an instant.
func wall(at microkernel.Instant) time.Time { return time.Unix(0, int64(at)) }

// planOf returns the plan that an effect belongs to, "" if none.
func planOf(e microkernel.Effect) microkernel.PlanID {
	switch e := e.(type) {
	case microkernel.Answer:
		return e.Plan
	case microkernel.Recheck:
		return e.Plan
	case microkernel.Apply:
		return e.Plan
	case microkernel.Prove:
		return e.Plan
	case microkernel.Extend:
		return e.Plan
	case microkernel.Withdraw:
		return e.Plan
	case microkernel.Reboot:
		return e.Plan
	case microkernel.SetReplicas:
		return e.Plan
	case microkernel.SetRevision:
		return e.Plan
	case microkernel.Watch:
		return e.Plan
	case microkernel.Unwatch:
		return e.Plan
	case microkernel.Page:
		return e.Plan
	case microkernel.Finish:
		return e.Plan
	}
	return ""
}
