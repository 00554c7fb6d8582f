package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// traces is where the spans of a process go.
type traces struct {
	tracer   trace.Tracer
	provider *sdktrace.TracerProvider // nil = nowhere
}

// newTraces sends spans to OTEL_EXPORTER_OTLP_ENDPOINT in batches, all of them; without
// an endpoint there are none. A collector that is away costs spans, never requests.
func newTraces(ctx context.Context, s handlerSettings) (traces, error) {
	if s.env("OTEL_EXPORTER_OTLP_ENDPOINT") == "" {
		return traces{tracer: noop.NewTracerProvider().Tracer("")}, nil
	}
	exporter, err := otlptracegrpc.New(ctx)
	if err != nil {
		return traces{}, fmt.Errorf("span exporter: %w", err)
	}
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(exporter, sdktrace.WithBatchTimeout(500*time.Millisecond),
			sdktrace.WithMaxQueueSize(8192), sdktrace.WithMaxExportBatchSize(1024)),
		sdktrace.WithResource(resource.NewSchemaless(
			attribute.String("service.name", s.service.Name),
			attribute.String("service.instance.id", s.instance))),
	)
	return traces{tracer: provider.Tracer("e2e/app"), provider: provider}, nil
}

// stop flushes what is left, for a bounded time.
func (t traces) stop(log *slog.Logger) {
	if t.provider == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
	defer cancel()
	if err := t.provider.Shutdown(ctx); err != nil {
		log.Warn("spans lost at the end", "error", err)
	}
}
