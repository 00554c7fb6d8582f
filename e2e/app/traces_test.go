package main

import (
	"context"
	"net"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"

	"github.com/sluicemesh/sluice/e2e/fault"
)

// sink is a collector that keeps the spans it gets.
type sink struct {
	collector.UnimplementedTraceServiceServer
	mu    sync.Mutex
	spans []seen
}

type seen struct {
	service, peer, name string
	*otlp.Span
}

// Export implements the collector's service.
func (s *sink) Export(_ context.Context, r *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, resource := range r.ResourceSpans {
		service := ""
		for _, attribute := range resource.Resource.Attributes {
			if attribute.Key == "service.name" {
				service = attribute.Value.GetStringValue()
			}
		}
		for _, scope := range resource.ScopeSpans {
			for _, span := range scope.Spans {
				s.spans = append(s.spans, seen{service, peerOf(span), span.Name, span})
			}
		}
	}
	return &collector.ExportTraceServiceResponse{}, nil
}

func peerOf(span *otlp.Span) string {
	for _, attribute := range span.Attributes {
		if attribute.Key == "peer.service" {
			return attribute.Value.GetStringValue()
		}
	}
	return ""
}

// find returns the first span of a service with a kind and a peer.
func (s *sink) find(service string, kind otlp.Span_SpanKind, peer string) *otlp.Span {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, span := range s.spans {
		if span.service == service && span.Kind == kind && span.peer == peer {
			return span.Span
		}
	}
	return nil
}

// One request gives one trace: a CLIENT span per call with the callee's name, also of
// stores and over gRPC, and below it the callee's SERVER span; failures are errors.
func TestSpansOfOneRequest(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	spans := new(sink)
	server := grpc.NewServer()
	collector.RegisterTraceServiceServer(server, spans)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://"+listener.Addr().String())
	r := start(t)
	r.inject(false, fault.Blow{Service: "t/price", Order: fault.Order{Do: fault.DoFail, Share: 1}})
	r.buy("1")
	for _, name := range []string{"t/front", "t/cart", "t/price"} {
		r.stops[name]() // the end of a process flushes its spans
	}
	const client, serving = otlp.Span_SPAN_KIND_CLIENT, otlp.Span_SPAN_KIND_SERVER
	for _, edge := range [][2]string{{"t/front", "t/cart"}, {"t/front", "t/price"}} {
		call, answer := spans.find(edge[0], client, edge[1]), spans.find(edge[1], serving, "")
		if call == nil || answer == nil {
			t.Fatalf("edge %v: client span %t, server span %t", edge, call != nil, answer != nil)
		}
		if string(answer.ParentSpanId) != string(call.SpanId) || string(answer.TraceId) != string(call.TraceId) {
			t.Errorf("edge %v: the server span is not below the client span", edge)
		}
	}
	if spans.find("t/cart", client, "t/cache") == nil {
		t.Error("no client span for the store")
	}
	if call := spans.find("t/front", client, "t/price"); call.GetStatus().GetCode() != otlp.Status_STATUS_CODE_ERROR {
		t.Errorf("status of the failed call is %v", call.GetStatus())
	}
	if call := spans.find("t/front", client, "t/cart"); call.GetStatus().GetCode() == otlp.Status_STATUS_CODE_ERROR {
		t.Error("a call that succeeded is an error")
	}
}
