package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/sluicemesh/sluice/e2e/app/shape"
	"github.com/sluicemesh/sluice/e2e/fault"
)

// node is one running handler service.
type node struct {
	service  *shape.Service
	instance string
	faults   *faults
	tracer   trace.Tracer
	peers    map[string]*peer // handlers that it calls, by name
	pools    map[string]*pool // stores that it calls, by name
	values   map[string]string
	session  string        // taken of service.Session at start
	stopping chan struct{} // closed when the process is told to end
}

// request is one request as the node sees it.
type request struct {
	operation string
	key       string // chosen by the client; decides what is random
	carrier   propagation.TextMapCarrier
}

// propagator speaks W3C trace context.
func propagator() propagation.TextMapPropagator { return propagation.TraceContext{} }

// serve carries out one request inside a SERVER span.
func (n *node) serve(ctx context.Context, r request) outcome {
	ctx = propagator().Extract(ctx, r.carrier)
	ctx, span := n.tracer.Start(ctx, r.operation, trace.WithSpanKind(trace.SpanKindServer))
	defer span.End()
	o := n.perform(ctx, r)
	mark(span, o)
	return o
}

// perform lets the request meet the faults, works, and calls the upstreams.
func (n *node) perform(ctx context.Context, r request) outcome {
	steps, ok := n.service.Operations[r.operation]
	if !ok {
		return outcome{status: http.StatusNotFound}
	}
	id, failed := n.faults.meet(ctx, r.key)
	if failed {
		return outcome{status: http.StatusInternalServerError, fault: id}
	}
	if err := pause(ctx, n.service.Work); err != nil {
		return outcome{status: http.StatusServiceUnavailable, fault: id}
	}
	done := outcome{status: http.StatusOK, fault: id}
	for _, step := range steps {
		o := n.step(ctx, step, r.key)
		if o.failed() {
			return o.above()
		}
		if o.fault != "" {
			done.fault = o.fault
		}
	}
	return done
}

// step makes the calls of one step and returns the first failure, in their order.
func (n *node) step(ctx context.Context, step shape.Step, key string) outcome {
	calls := step.Calls()
	if len(calls) == 1 {
		return n.call(ctx, calls[0], key)
	}
	outcomes := make([]outcome, len(calls))
	var group sync.WaitGroup
	for i, call := range calls {
		group.Go(func() { outcomes[i] = n.call(ctx, call, key) })
	}
	group.Wait()
	result := succeeded
	for _, o := range outcomes {
		if o.failed() {
			return o
		}
		if o.fault != "" {
			result.fault = o.fault
		}
	}
	return result
}

// call makes one call, again and again if a retry storm was ordered.
func (n *node) call(ctx context.Context, call shape.Call, key string) outcome {
	if call.Chance > 0 && !chosen(key, call.To, call.Chance) {
		return succeeded
	}
	storm, stormy := n.faults.get(fault.DoRetry)
	if !stormy || call.Via == shape.TCP {
		return n.attempt(ctx, call, key)
	}
	call.Timeout = storm.Delay
	o := n.attempt(ctx, call, key)
	for range storm.Limit {
		if !o.failed() {
			return o
		}
		o = n.attempt(ctx, call, key)
	}
	if o.failed() && o.fault == "" {
		o.fault = storm.ID
	}
	return o
}

// attempt makes one call inside a CLIENT span.
func (n *node) attempt(ctx context.Context, call shape.Call, key string) outcome {
	ctx, cancel := context.WithTimeout(ctx, call.Timeout)
	defer cancel()
	ctx, span := n.tracer.Start(ctx, call.Op, trace.WithSpanKind(trace.SpanKindClient),
		trace.WithAttributes(attribute.String("peer.service", call.To)))
	defer span.End()
	var o outcome
	switch call.Via {
	case shape.TCP:
		o = n.ask(ctx, call, key)
	case shape.GRPC:
		o = n.peers[call.To].invoke(ctx, call.Op, key)
	default:
		o = n.peers[call.To].post(ctx, call.Op, key)
	}
	mark(span, o)
	return o
}

// ask makes one call of a store, by the session if this node holds one there.
func (n *node) ask(ctx context.Context, call shape.Call, key string) outcome {
	session := anonymous
	strict, on := n.faults.get(fault.DoStrict)
	if call.To == n.service.Session {
		session = n.session
		if on {
			session = strictMark + session
		}
	}
	answer, err := n.pools[call.To].ask(ctx, line(call.Op, session, key))
	if err != nil {
		return unreachable(call.To)
	}
	switch word, rest := cut(answer); word {
	case wordOK, wordValue:
		return succeeded
	case wordGarbage:
		return outcome{status: http.StatusInternalServerError, fault: rest}
	case wordDenied:
		return outcome{status: http.StatusInternalServerError, fault: strict.ID}
	default:
		return outcome{status: http.StatusInternalServerError}
	}
}

// begin does what a start needs of the stores: values that are read once, the session.
// It tries until it has them, because a store may be on its way up as well.
func (n *node) begin(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, beginWithin)
	defer cancel()
	for _, store := range n.service.ReadsOnce {
		answer, err := n.insist(ctx, store, line("get", anonymous, "start-values"))
		if err != nil {
			return err
		}
		n.values[store] = answer
	}
	if store := n.service.Session; store != "" {
		answer, err := n.insist(ctx, store, line("session", n.instance, ""))
		if err != nil {
			return err
		}
		_, n.session = cut(answer)
	}
	return nil
}

// beginWithin bounds the wait for stores at start.
const beginWithin = 20 * time.Second

// insist asks a store until it answers.
func (n *node) insist(ctx context.Context, store, question string) (string, error) {
	for {
		attempt, cancel := context.WithTimeout(ctx, 2*time.Second)
		answer, err := n.pools[store].ask(attempt, question)
		cancel()
		if err == nil {
			if word, _ := cut(answer); word == wordOK || word == wordValue {
				return answer, nil
			}
			err = fmt.Errorf("answer %q", answer)
		}
		if late := pause(ctx, 50*time.Millisecond); late != nil {
			return "", fmt.Errorf("ask %s at start: %w", store, errors.Join(err, late))
		}
	}
}

// mark puts an outcome into a span.
func mark(span trace.Span, o outcome) {
	if o.failed() {
		span.SetStatus(codes.Error, http.StatusText(o.status))
	}
}
