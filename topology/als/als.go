// Package als receives Envoy's access log over gRPC (envoy.service.accesslog.v3) and
// turns each entry into the evidence of a call. It sees every request of every proxy,
// whatever traces sample. It is not for storing logs: paths, headers and user agents
// are never read.
//
//	node.cluster of the stream ─► caller     upstream_cluster ("~o" cut off) ─► callee
//	code, flags, grpc-status   ─► failed     upstream_remote_address         ─► instance
package als

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/topology"
)

// TwinSuffix ends the name of a callee's overlay cluster.
const TwinSuffix = "~o"

// Config is what a Server needs.
type Config struct {
	// Sink takes each call, from the goroutine of its stream. Required.
	Sink func(topology.Call)
	// Identify says which service the proxy with this xDS node id stands beside. If it
	// is set, a stream whose node.cluster says otherwise is refused.
	Identify   func(node string) (mesh.Service, bool)
	Log        *slog.Logger
	Registerer prometheus.Registerer // nil = no metrics
	Now        func() time.Time      // nil = time.Now
}

// Server implements envoy.service.accesslog.v3.AccessLogService.
type Server struct {
	accesslogv3.UnimplementedAccessLogServiceServer
	config  Config
	entries *prometheus.CounterVec
}

// New returns a server that is not registered yet.
func New(config Config) (*Server, error) {
	if config.Sink == nil {
		return nil, errors.New("access log: no sink")
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	if config.Log == nil {
		config.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{config: config, entries: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "sluice_accesslog_entries_total",
		Help: "Access log entries by what became of them: call, existence, unknown-callee; refused and identity-mismatch count streams.",
	}, []string{"result"})}
	if config.Registerer != nil {
		if err := config.Registerer.Register(s.entries); err != nil {
			return nil, fmt.Errorf("register access log metrics: %w", err)
		}
	}
	return s, nil
}

// Register adds s to the services of server.
func (s *Server) Register(server grpc.ServiceRegistrar) {
	accesslogv3.RegisterAccessLogServiceServer(server, s)
}

// StreamAccessLogs implements the service: it reads one proxy's entries until the proxy
// ends the stream. Only the first message names the proxy.
func (s *Server) StreamAccessLogs(stream accesslogv3.AccessLogService_StreamAccessLogsServer) error {
	caller := mesh.Service("")
	for {
		message, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return stream.SendAndClose(&accesslogv3.StreamAccessLogsResponse{})
		}
		if err != nil {
			return err //nolint:wrapcheck // a status of gRPC's own
		}
		if caller == "" {
			if caller, err = s.identify(message.GetIdentifier()); err != nil {
				s.entries.WithLabelValues(reasonOf(err)).Inc()
				s.config.Log.Warn("access log stream refused", "error", err)
				return status.Error(codes.InvalidArgument, err.Error())
			}
		}
		s.take(caller, message)
	}
}

// identify returns the service whose proxy speaks.
func (s *Server) identify(id *accesslogv3.StreamAccessLogsMessage_Identifier) (mesh.Service, error) {
	caller, err := mesh.ParseService(id.GetNode().GetCluster())
	if err != nil {
		return "", fmt.Errorf("node.cluster of the access log: %w", err)
	}
	if s.config.Identify == nil {
		return caller, nil
	}
	if owner, known := s.config.Identify(id.GetNode().GetId()); !known || owner != caller {
		return "", fmt.Errorf("%w: node %+q does not stand beside %s", errMismatch, cut(id.GetNode().GetId()), caller)
	}
	return caller, nil
}

// errMismatch says that a proxy speaks for a service that is not its own.
var errMismatch = errors.New("identity mismatch")

// reasonOf says for the metrics why a stream was refused.
func reasonOf(err error) string {
	if errors.Is(err, errMismatch) {
		return "identity-mismatch"
	}
	return "refused"
}

// take sinks the entries of one message.
func (s *Server) take(caller mesh.Service, message *accesslogv3.StreamAccessLogsMessage) {
	now := s.config.Now()
	for _, entry := range message.GetHttpLogs().GetLogEntry() {
		call, known := fromHTTP(entry, now)
		s.sink(caller, call, known)
	}
	for _, entry := range message.GetTcpLogs().GetLogEntry() {
		call, known := fromTCP(entry, now)
		s.sink(caller, call, known)
	}
}

// sink completes call, counts it and hands it on.
func (s *Server) sink(caller mesh.Service, call topology.Call, known bool) {
	switch {
	case !known:
		s.entries.WithLabelValues("unknown-callee").Inc()
		return
	case call.Existence:
		s.entries.WithLabelValues("existence").Inc()
	default:
		s.entries.WithLabelValues("call").Inc()
	}
	call.Caller = caller
	s.config.Sink(call)
}

// calleeOf returns the service that a cluster stands for, false if it is none of the
// mesh's (the proxy's own clusters, or a request that no route took).
func calleeOf(cluster string) (mesh.Service, bool) {
	service, err := mesh.ParseService(strings.TrimSuffix(cluster, TwinSuffix))
	return service, err == nil
}

// cut bounds text from outside for a message.
func cut(text string) string { return text[:min(len(text), 80)] }
