// Package otlp receives OTLP traces over gRPC or HTTP and turns CLIENT spans into the evidence
// of calls and SERVER spans into statistics of the callee. It reads the few fields that
// matter straight from the bytes, each read bounds-checked; it is not for storing
// spans, and never looks at names of operations, events or free text.
//
//	resource service.name ─► caller (CLIENT) or callee (SERVER)
//	peer.service, else upstream_cluster, else server.address:port,
//	else service.name of the SERVER span that is its child        ─► callee
//	PRODUCER ─► CONSUMER by parent, link or messaging.destination.name ─► existence only
//	http.response.status_code >= 500, else status ERROR ─► failed
//
// Names must be registered services, "namespace/name". A batch that is not valid
// protobuf is refused whole; a span that names an unknown service is refused alone
// (partial success) and counted.
package otlp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	collectorv1 "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/topology"
)

// MaxStreams bounds the exports that one connection may have under way.
const MaxStreams = 32

// Config is what a Server needs.
type Config struct {
	// Sink takes each call; never two at once. Required, if SinkAll is not set.
	Sink func(topology.Call)
	// SinkAll takes the calls of a batch instead of Sink; they are only lent.
	SinkAll func([]topology.Call)
	// Known reports whether a service is registered; nil = the graph alone decides, and
	// exporters are not told. It must not block.
	Known func(mesh.Service) bool
	// Resolve names the service that caller reaches at an address, for spans without
	// peer.service; nil = such spans are ignored.
	Resolve func(caller mesh.Service, host string, port uint16) (mesh.Service, bool)
	// Identify says whose an export is; nil or false = nobody knows, and its spans may be
	// of any registered service. Spans of another service than its own are quarantined.
	Identify func(ctx context.Context) (mesh.Service, bool)
	// Collector reports whether an identified exporter may speak for others; nil = none may.
	Collector  func(exporter mesh.Service) bool
	Log        *slog.Logger
	Registerer prometheus.Registerer // nil = no metrics
	Now        func() time.Time      // nil = time.Now
}

// Server implements opentelemetry.proto.collector.trace.v1.TraceService on raw bytes.
type Server struct {
	config Config
	spans  *prometheus.CounterVec
	// quarantined spans by exporter and reason
	quarantined *prometheus.CounterVec
	// counters of spans, in the order of results
	counters [resultCount]prometheus.Counter
	accepted collectorv1.ExportTraceServiceResponse // never changed
	waiting  atomic.Int32                           // exports under way
	buffers  sync.Pool                              // of *buffer

	mu        sync.Mutex // guards scan and exporters, and serialises Sink
	scan      scanner
	exporters map[string]bool // that have counters, at most MaxExporters
}

// New returns a server that is not registered yet.
func New(config Config) (*Server, error) {
	if config.Sink == nil && config.SinkAll == nil {
		return nil, errors.New("otlp: no sink")
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	if config.Log == nil {
		config.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{config: config, spans: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "sluice_otlp_spans_total",
		Help: "Spans by what became of them; malformed and shed count batches, joined is a part of call and existence.",
	}, []string{"result"})}
	s.exporters = map[string]bool{}
	s.quarantined = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "sluice_otlp_quarantined_spans_total",
		Help: "Spans that were refused, by exporter (its identity, else unidentified) and reason.",
	}, []string{"exporter", "reason"})
	s.scan = scanner{config: &s.config, names: map[string]*name{}, list: make([]*name, 1), queues: map[string]*queue{}}
	for i, result := range results() {
		s.counters[i] = s.spans.WithLabelValues(result)
	}
	if config.Registerer != nil {
		for _, c := range []prometheus.Collector{s.spans, s.quarantined} {
			if err := config.Registerer.Register(c); err != nil {
				return nil, fmt.Errorf("register otlp metrics: %w", err)
			}
		}
	}
	return s, nil
}

// Options returns what the grpc.Server that s is registered on must be made with: the
// codec that hands over raw bytes (it still speaks protobuf for other services), and
// bounds on messages and streams.
func Options() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.ForceServerCodecV2(codec{}),
		grpc.MaxRecvMsgSize(MaxBatch),
		grpc.MaxConcurrentStreams(MaxStreams),
	}
}

// Register adds s to the services of server, which was made with Options.
func (s *Server) Register(server *grpc.Server) {
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: "opentelemetry.proto.collector.trace.v1.TraceService",
		HandlerType: (*exporter)(nil),
		Methods:     []grpc.MethodDesc{{MethodName: "Export", Handler: export}},
		Metadata:    "opentelemetry/proto/collector/trace/v1/trace_service.proto",
	}, s)
}

// RegisterPlain adds s to the services of a server that was made without Options, for
// exporters of little: a batch is copied once more.
func (s *Server) RegisterPlain(server grpc.ServiceRegistrar) {
	collectorv1.RegisterTraceServiceServer(server, plain{s: s})
}

// plain implements the service on messages.
type plain struct {
	collectorv1.UnimplementedTraceServiceServer
	s *Server
}

// Export implements collectorv1.TraceServiceServer.
func (p plain) Export(
	ctx context.Context, request *collectorv1.ExportTraceServiceRequest,
) (*collectorv1.ExportTraceServiceResponse, error) {
	batch, err := proto.Marshal(request)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, "malformed batch: "+err.Error())
	}
	return p.s.ExportFrom(ctx, batch)
}

// exporter is what the service needs of its implementation.
type exporter interface {
	ExportFrom(ctx context.Context, batch []byte) (*collectorv1.ExportTraceServiceResponse, error)
}

// export is the handler of the Export method.
//
//nolint:revive // the order of parameters is gRPC's
func export(
	server any, ctx context.Context, decode func(any) error, intercept grpc.UnaryServerInterceptor,
) (any, error) {
	batch := new(raw)
	if err := decode(batch); err != nil {
		return nil, err
	}
	handle := func(ctx context.Context, _ any) (any, error) { return server.(exporter).ExportFrom(ctx, batch.data) }
	if intercept == nil {
		return handle(ctx, batch)
	}
	info := &grpc.UnaryServerInfo{Server: server, FullMethod: collectorv1.TraceService_Export_FullMethodName}
	return intercept(ctx, batch, info, handle)
}

// Export is ExportFrom nobody knows whom.
func (s *Server) Export(batch []byte) (*collectorv1.ExportTraceServiceResponse, error) {
	return s.ExportFrom(context.Background(), batch)
}

// ExportFrom takes one ExportTraceServiceRequest, of whom Config.Identify says by ctx. A malformed batch is InvalidArgument and
// leaves no trace; spans that name unknown services are reported as rejected. Beyond
// MaxWaiting it is Unavailable: the exporter sends it again. The answer is only lent.
func (s *Server) ExportFrom(ctx context.Context, batch []byte) (*collectorv1.ExportTraceServiceResponse, error) {
	if !s.enter() {
		return nil, shed()
	}
	defer s.exit()
	return s.take(ctx, batch)
}

// take reads one batch; see ExportFrom.
func (s *Server) take(ctx context.Context, batch []byte) (*collectorv1.ExportTraceServiceResponse, error) {
	exporter, only := s.exporterOf(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.scan.only = only
	if err := s.scan.scan(batch, s.config.Now()); err != nil {
		s.spans.WithLabelValues("malformed").Inc()
		return nil, status.Error(codes.InvalidArgument, "malformed batch: "+err.Error())
	}
	s.sink(s.scan.calls)
	s.count(&s.scan.counts)
	n := s.scan.counts.rejected()
	if n == 0 {
		return &s.accepted, nil
	}
	s.blame(exporter, &s.scan.counts)
	return &collectorv1.ExportTraceServiceResponse{PartialSuccess: &collectorv1.ExportTracePartialSuccess{
		RejectedSpans: n, ErrorMessage: s.scan.counts.explain(),
	}}, nil
}

// sink hands on the calls of a batch.
func (s *Server) sink(calls []topology.Call) {
	if s.config.SinkAll != nil {
		s.config.SinkAll(calls)
		return
	}
	for i := range calls {
		s.config.Sink(calls[i])
	}
}

// resultCount is how many results a span may have.
const resultCount = 10

// results names what may become of a span, in the order of count.
func results() [resultCount]string {
	return [...]string{
		"call", "joined", "served", "existence", "ignored", "bad-name", "unknown-service", "out-of-bounds", "identity-mismatch",
		"message",
	}
}

// count adds to the metrics.
func (s *Server) count(c *Counts) {
	for i, n := range [resultCount]int64{
		c.Calls, c.Joined, c.Served, c.Existence, c.Ignored, c.BadName, c.Unknown, c.OutOfBounds, c.Mismatch, c.Messages,
	} {
		if n > 0 {
			s.counters[i].Add(float64(n))
		}
	}
}

// explain says why spans were refused, with the remedy; it quotes nothing of theirs.
func (c Counts) explain() string {
	return fmt.Sprintf("%d spans with a service.name or peer.service that is no NAMESPACE/NAME, "+
		"%d with one that is not registered in the mesh, %d more than %s from the present, "+
		"%d with a service.name that is not the exporter's identity; "+
		"set OTEL_SERVICE_NAME to the registered name", c.BadName, c.Unknown, c.OutOfBounds, MaxAge, c.Mismatch)
}
