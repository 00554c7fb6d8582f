package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	collectorv1 "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

const (
	batchSpans  = 512 // as the SDK's batch processor sends by default
	exportBound = 10 * time.Second
)

// answers counts what exporters were answered.
type answers struct {
	accepted atomic.Int64 // spans
	shed     atomic.Int64 // exports: Unavailable, or 503
	bare     atomic.Int64 // of shed, those that were not told when to send again
	partial  atomic.Int64 // exports of which spans were refused
	failed   atomic.Int64 // any other
	last     atomic.Value // string: the last of failed
}

func (a *answers) fail(err error) {
	a.failed.Add(1)
	a.last.Store(err.Error())
}

// ended keeps the spans that have ended.
type ended struct{ spans []sdktrace.ReadOnlySpan }

func (*ended) OnStart(context.Context, sdktrace.ReadWriteSpan) {}
func (e *ended) OnEnd(span sdktrace.ReadOnlySpan)              { e.spans = append(e.spans, span) }
func (*ended) Shutdown(context.Context) error                  { return nil }
func (*ended) ForceFlush(context.Context) error                { return nil }

// recorder makes spans with the SDK: calls of front to back, both sides.
type recorder struct {
	kept        *ended
	front, back trace.Tracer
}

func newRecorder() *recorder {
	kept := &ended{}
	tracer := func(service string) trace.Tracer {
		return sdktrace.NewTracerProvider(
			sdktrace.WithResource(resource.NewSchemaless(attribute.String("service.name", service))),
			sdktrace.WithSpanProcessor(kept),
		).Tracer("soak")
	}
	return &recorder{kept: kept, front: tracer(frontService), back: tracer(backService)}
}

// batch returns batchSpans new spans.
func (r *recorder) batch() []sdktrace.ReadOnlySpan {
	r.kept.spans = nil
	for range batchSpans / 2 {
		ctx, call := r.front.Start(context.Background(), "GET /", trace.WithSpanKind(trace.SpanKindClient),
			trace.WithAttributes(attribute.String("peer.service", backService), attribute.String("http.request.method", "GET"),
				attribute.Int("http.response.status_code", http.StatusOK), attribute.String("server.address", "127.0.0.1"),
				attribute.Int("server.port", 80), attribute.String("url.path", "/api/v1/carts/1/items"),
				attribute.String("user_agent.original", "soak/1"), attribute.String("network.protocol.version", "1.1")))
		_, served := r.back.Start(ctx, "GET /", trace.WithSpanKind(trace.SpanKindServer),
			trace.WithAttributes(attribute.Int("http.response.status_code", http.StatusOK)))
		served.End()
		call.End()
	}
	return r.kept.spans
}

// export exports batches with the SDK's exporter until ctx ends.
func export(ctx context.Context, exporter sdktrace.SpanExporter, a *answers) {
	r := newRecorder()
	for ctx.Err() == nil {
		bound, cancel := context.WithTimeout(ctx, exportBound)
		err := exporter.ExportSpans(bound, r.batch())
		cancel()
		switch {
		case ctx.Err() != nil:
		case err == nil:
			a.accepted.Add(batchSpans)
		case status.Code(err) == codes.Unavailable:
			a.shed.Add(1)
			if !delayed(err) {
				a.bare.Add(1)
			}
		case status.Code(err) != codes.DeadlineExceeded: // what was sent again until then was shed
			a.fail(err)
		}
	}
}

// delayed reports whether a status says when to send again.
func delayed(err error) bool {
	said, _ := status.FromError(err)
	return slices.ContainsFunc(said.Details(), func(detail any) bool {
		retry, is := detail.(*errdetails.RetryInfo)
		return is && retry.GetRetryDelay().AsDuration() > 0
	})
}

// overGRPC returns the SDK's exporter over gRPC; it sends again what was shed if again.
func overGRPC(ctx context.Context, address string, again bool) (sdktrace.SpanExporter, error) {
	retry := otlptracegrpc.RetryConfig{
		Enabled: again, InitialInterval: 200 * time.Millisecond, MaxInterval: time.Second, MaxElapsedTime: exportBound,
	}
	exporter, err := otlptracegrpc.New(ctx, otlptracegrpc.WithEndpoint(address), otlptracegrpc.WithInsecure(),
		otlptracegrpc.WithRetry(retry))
	if err != nil {
		return nil, fmt.Errorf("exporter: %w", err)
	}
	return exporter, nil
}

// overHTTP returns the SDK's exporter with a client of ours that speaks HTTP.
func overHTTP(address string, a *answers) sdktrace.SpanExporter {
	return otlptrace.NewUnstarted(&httpClient{poster: newPoster(address, a)})
}

// httpClient implements otlptrace.Client.
type httpClient struct{ poster *poster }

func (*httpClient) Start(context.Context) error { return nil }
func (*httpClient) Stop(context.Context) error  { return nil }

// UploadTraces sends spans, again if they were shed, as often as the time allows.
func (c *httpClient) UploadTraces(ctx context.Context, spans []*tracev1.ResourceSpans) error {
	body, err := proto.Marshal(&collectorv1.ExportTraceServiceRequest{ResourceSpans: spans})
	if err != nil {
		return fmt.Errorf("marshal: %w", err)
	}
	for {
		wait, err := c.poster.post(ctx, body)
		if err != nil || wait == 0 {
			return err
		}
		pause(ctx, wait)
		if ctx.Err() != nil {
			return status.FromContextError(ctx.Err()).Err() //nolint:wrapcheck // as the exporter over gRPC says it
		}
	}
}

// poster posts requests over one connection.
type poster struct {
	url     string
	client  *http.Client
	answers *answers
}

func newPoster(address string, a *answers) *poster {
	return &poster{
		url: "http://" + address + "/v1/traces", answers: a,
		client: &http.Client{Timeout: exportBound, Transport: &http.Transport{MaxIdleConnsPerHost: 1, MaxConnsPerHost: 1}},
	}
}

// post sends body; wait is how long the server asks to wait if it shed it, else 0.
func (p *poster) post(ctx context.Context, body []byte) (wait time.Duration, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url, bytes.NewReader(body))
	if err != nil {
		return 0, fmt.Errorf("request: %w", err)
	}
	request.Header.Set("Content-Type", "application/x-protobuf")
	response, err := p.client.Do(request)
	if err != nil {
		return 0, fmt.Errorf("post: %w", err)
	}
	defer response.Body.Close()
	said, err := io.ReadAll(io.LimitReader(response.Body, 1<<16))
	if err != nil {
		return 0, fmt.Errorf("answer: %w", err)
	}
	switch response.StatusCode {
	case http.StatusOK:
		answer := &collectorv1.ExportTraceServiceResponse{}
		if err := proto.Unmarshal(said, answer); err != nil {
			return 0, fmt.Errorf("answer: %w", err)
		}
		if answer.GetPartialSuccess().GetRejectedSpans() > 0 {
			p.answers.partial.Add(1)
		}
		return 0, nil
	case http.StatusServiceUnavailable:
		seconds, err := strconv.Atoi(response.Header.Get("Retry-After"))
		if err != nil || seconds < 1 {
			p.answers.bare.Add(1)
			seconds = 1
		}
		p.answers.shed.Add(1)
		return time.Duration(seconds) * time.Second, nil
	}
	return 0, fmt.Errorf("post: %s", response.Status)
}

// latest is a request as the SDK's exporter wrote it, made anew from time to time so that
// its spans are of the present.
type latest struct {
	mu   sync.Mutex // guards body and made
	body []byte
	made time.Time
	r    *recorder
}

// get returns the request.
func (l *latest) get() ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if time.Since(l.made) < 5*time.Second {
		return l.body, nil
	}
	if l.r == nil {
		l.r = newRecorder()
	}
	err := otlptrace.NewUnstarted(l).ExportSpans(context.Background(), l.r.batch())
	return l.body, err //nolint:wrapcheck // ours
}

// Start implements otlptrace.Client.
func (*latest) Start(context.Context) error { return nil }

// Stop implements otlptrace.Client.
func (*latest) Stop(context.Context) error { return nil }

// UploadTraces keeps the request instead of sending it.
func (l *latest) UploadTraces(_ context.Context, spans []*tracev1.ResourceSpans) error {
	body, err := proto.Marshal(&collectorv1.ExportTraceServiceRequest{ResourceSpans: spans})
	if err != nil {
		return fmt.Errorf("marshal: %w", err)
	}
	l.body, l.made = body, time.Now()
	return nil
}
