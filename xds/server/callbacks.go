package server

import (
	"context"
	"strconv"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/sluicemesh/sluice/xds"
	"github.com/sluicemesh/sluice/xds/gate"
)

const (
	// unknownPatience is how long a proxy that the world does not list yet may wait for
	// it: its supervisor may be a little ahead of the registry.
	unknownPatience = 2 * time.Second
	maxNackText     = 2048 // bytes of a proxy's words that are kept
)

// stream is one open ADS stream.
type stream struct {
	id       int64 // > 0: delta, < 0: state of the world
	ctx      context.Context
	node     string // "" until its first request
	answered map[xds.TypeURL]bool
	absent   map[xds.TypeURL]map[string]bool // asked for, not there, and told so
	request  request                         // the last one
	beat     *discoveryv3.DiscoveryResponse  // the last heartbeat, where it cannot be told by its version
}

// request is a discovery request of either protocol.
type request interface {
	proto.Message
	GetNode() *corev3.Node
	GetTypeUrl() string
	GetResponseNonce() string
	GetErrorDetail() *spb.Status
}

func (s *Server) opened(ctx context.Context, id int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.streams[id] = &stream{id: id, ctx: ctx, answered: map[xds.TypeURL]bool{}, absent: map[xds.TypeURL]map[string]bool{}}
	return nil
}

func (s *Server) closed(id int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if str := s.streams[id]; str != nil && str.node != "" {
		s.log.Info("proxy disconnected", "node", str.node)
	}
	if str := s.streams[id]; str != nil {
		delete(s.requests, str.request)
	}
	delete(s.streams, id)
	s.ledger.Close(id)
	s.metrics.streams.Set(float64(s.ledger.Streams()))
	s.bump()
}

// heard takes in a request of a stream, whatever its protocol.
func (s *Server) heard(id int64, req request) error {
	s.mu.Lock()
	str := s.streams[id]
	s.mu.Unlock()
	if str == nil {
		return status.Error(codes.Internal, "request on a stream that was not opened")
	}
	if str.node == "" {
		if err := s.admit(str, req.GetNode()); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.nodes[str.node]
	if n == nil {
		return status.Errorf(codes.PermissionDenied, "node %q is no longer in the world", str.node)
	}
	if n.live != str {
		return status.Errorf(codes.Aborted, "node %q has a newer stream", n.id)
	}
	if req.GetResponseNonce() != "" {
		s.answered(n, str, req)
	}
	// The protocol server asks the cache next, which must know whose request it is.
	delete(s.requests, str.request)
	s.requests[req], str.request = str, req
	return nil
}

// admit lets a proxy in that the world lists.
func (s *Server) admit(str *stream, who *corev3.Node) error {
	id := who.GetId()
	ctx, cancel := context.WithTimeout(str.ctx, unknownPatience)
	defer cancel()
	err := s.await(ctx, func() (bool, error) { return s.nodes[id] != nil, nil })
	if err != nil {
		s.log.Warn("proxy refused: the world does not list its node id", "node", id, "cluster", who.GetCluster())
		return status.Errorf(codes.PermissionDenied, "node id %q is not in the world: its bootstrap is of another mesh, "+
			"or it was removed", id)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.nodes[id]
	if n == nil {
		return status.Errorf(codes.PermissionDenied, "node %q is no longer in the world", id)
	}
	if n.live != nil {
		s.ledger.Close(n.live.id) // it reconnected before we saw the old stream end
	}
	str.node, n.live = id, str
	n.watches = [kinds]*watch{}
	n.envoy = envoyVersion(who)
	s.learn(n, who)
	s.advance(n) // as one that is not connected: it gets everything in one go
	n.book = s.ledger.Open(id, str.id, s.now())
	s.metrics.streams.Set(float64(s.ledger.Streams()))
	s.log.Info("proxy connected", "node", id, "envoy", n.envoy)
	s.bump()
	return nil
}

func envoyVersion(who *corev3.Node) string {
	v := who.GetUserAgentBuildVersion().GetVersion()
	if v == nil {
		return who.GetUserAgentVersion()
	}
	return strconv.Itoa(int(v.GetMajorNumber())) + "." + strconv.Itoa(int(v.GetMinorNumber())) + "." +
		strconv.Itoa(int(v.GetPatch()))
}

// answered books an ACK or a NACK. The caller holds mu.
func (s *Server) answered(n *node, str *stream, req request) {
	typ := xds.TypeURL(req.GetTypeUrl())
	text := nackText(req)
	now := s.now()
	a := s.ledger.Answered(str.id, string(typ), req.GetResponseNonce(), text, now)
	if !a.Known {
		return
	}
	if text != "" {
		s.metrics.nacks.WithLabelValues(typ.Short()).Inc()
		s.log.Warn("proxy refused resources", "node", n.id, "type", typ.Short(), "version", a.Version, "error", text)
	} else if observer := s.metrics.ackOf[typ]; a.Version > 0 && observer != nil {
		observer.Observe(now.Sub(a.SentAt).Seconds())
	}
	if typ == xds.RuntimeType {
		s.shadow(n, str, a, now)
	}
	s.advance(n)
	if text != "" {
		s.bump()
		return
	}
	s.acked(n)
}

// nackText is Envoy's reason, never empty for a NACK.
func nackText(req request) string {
	detail := req.GetErrorDetail()
	if detail == nil {
		return ""
	}
	text := detail.GetMessage()
	if text == "" {
		text = "refused without a reason, code " + strconv.Itoa(int(detail.GetCode()))
	}
	return text[:min(len(text), maxNackText)]
}

// shadow follows what an answer says of the TTL at the proxy.
func (s *Server) shadow(n *node, str *stream, a gate.Answer, now time.Time) {
	_, lapsed := s.leases.Lapsed(n.id, now)
	switch {
	case a.Version == 0 && a.Nack == "" && lapsed && str.id < 0:
		// By this protocol a proxy takes a heartbeat for what it no longer has, too: one
		// that was answered in time came in time, of any other it is not known.
		s.leases.Refused(n.id, now)
		s.markLapsed(n.id, now)
	case a.Version == 0 && a.Nack == "":
		s.leases.Renewed(n.id, a.SentAt)
	case a.Version == 0:
		s.leases.Refused(n.id, now)
		s.markLapsed(n.id, now)
	case a.Nack != "" || a.Version != n.version[kindOf(xds.RuntimeType)]:
		// Nothing new is in force there, or something newer is under way.
	case n.serving.Armed():
		s.armed(n, a.SentAt)
	default:
		s.leases.Disarmed(n.id)
	}
}

// armed notes that the overlay layer is in force at a proxy, as sent at sent.
func (s *Server) armed(n *node, sent time.Time) {
	s.markLapsed(n.id, s.now())
	s.leases.Armed(n.id, sent)
}
