package server

import (
	"errors"
	"maps"
	"slices"
	"strconv"
	"sync/atomic"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/sotw/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sluicemesh/sluice/xds"
)

// everyName is how a proxy spells a wildcard subscription.
const everyName = "*"

// beatVersion is the system version of a heartbeat, which is no version.
const beatVersion = "beat"

// watch is one open request of a stream for a type; a response uses it up, and the
// proxy's answer opens the next.
type watch struct {
	typ    xds.TypeURL
	stream *stream
	sub    cache.Subscription
	delta  *deltaSub // sub, nil: state of the world
	box    *outbox   // of a delta stream

	state    *cache.Request // nil: delta
	stateOut chan cache.Response
}

// configCache serves the nodes of a Server to go-control-plane's protocol servers.
type configCache struct{ server *Server }

var _ cache.ConfigWatcher = (*configCache)(nil)

// CreateDeltaWatch refuses: delta streams have a loop of our own, see stream.go.
func (c *configCache) CreateDeltaWatch(*cache.DeltaRequest, cache.Subscription, chan cache.DeltaResponse) (func(), error) {
	return nil, errors.New("delta is not served from a cache")
}

// watch opens w, which a request asks for; inbound is the version of the inbound listener
// that the proxy says it has, "" if it says none.
func (s *Server) watch(req request, inbound string, w *watch) (func(), error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.nodes[req.GetNode().GetId()]
	if n == nil {
		return nil, status.Errorf(codes.PermissionDenied, "node %q is not in the world", req.GetNode().GetId())
	}
	w.typ, w.stream = xds.TypeURL(req.GetTypeUrl()), s.requests[req]
	delete(s.requests, req)
	if w.stream == nil || n.live != w.stream {
		return nil, status.Errorf(codes.Aborted, "node %q has a newer stream", n.id)
	}
	if w.typ == xds.ListenerType && inbound != "" && !w.stream.answered[w.typ] {
		s.adoptCuts(n, inbound)
	}
	if err := s.subscribed(w.sub); err != nil {
		return nil, err
	}
	s.calls(n, w)
	n.watches[kindOf(w.typ)] = w
	s.respond(n, w)
	return func() { s.cancelWatch(n, w) }, nil
}

// adoptCuts learns from a proxy that reconnects how often its inbound listener was
// replaced by a control plane before this one. To replace it again would cut what runs.
func (s *Server) adoptCuts(n *node, version string) {
	cuts, known := xds.CutsOf(s.world, n.id, version)
	if !known || cuts == s.cuts[n.id] {
		return
	}
	s.cuts[n.id] = cuts
	if err := s.rebuild(); err != nil {
		s.log.Error("resources are faulty, proxies keep what they have", "error", err)
		return
	}
	// At once, before the answer to this request: the listener refers to nothing new.
	s.offer(n, xds.ListenerType, n.target.Of(xds.ListenerType))
}

func (s *Server) cancelWatch(n *node, w *watch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n.watches[kindOf(w.typ)] == w {
		n.watches[kindOf(w.typ)] = nil
	}
}

// respond sends what the proxy lacks of the watch's type. If it lacks nothing, it is
// noted as in sync, and the watch stays open. The caller holds mu.
func (s *Server) respond(n *node, w *watch) {
	if w.state != nil {
		s.respondState(n, w)
		return
	}
	if s.respondFast(n, w) {
		return
	}
	w.delta.known = n.serving.Of(w.typ)
	update, next := difference(n.serving.Of(w.typ), w.sub)
	w.stream.tellAbsent(w, update, next)
	first := w.sub.IsWildcard() && !w.stream.answered[w.typ] // an empty answer, too, lets Envoy start
	if len(update.Resources)+len(update.RemovedResources) == 0 && !first {
		s.inSync(n, w)
		return
	}
	if w.typ == xds.RuntimeType && n.serving.Armed() {
		for _, r := range update.Resources {
			r.Ttl = durationpb.New(s.leases.TTL())
		}
	}
	w.stream.answered[w.typ] = true
	update.TypeUrl = string(w.typ)
	update.SystemVersionInfo = strconv.FormatUint(n.version[kindOf(w.typ)], 10)
	s.send(n, w, update, next)
}

// difference returns what a subscriber must be told, and what it has then.
func difference(offered []xds.Resource, sub cache.Subscription,
) (*discoveryv3.DeltaDiscoveryResponse, map[string]string) {
	have, wanted := sub.ReturnedResources(), sub.SubscribedResources()
	update := &discoveryv3.DeltaDiscoveryResponse{}
	next := make(map[string]string, len(have))
	for i := range offered {
		r := &offered[i]
		if _, named := wanted[r.Name]; !named && !sub.IsWildcard() {
			continue
		}
		next[r.Name] = r.Version
		if version, has := have[r.Name]; !has || version != r.Version {
			update.Resources = append(update.Resources,
				&discoveryv3.Resource{Name: r.Name, Version: r.Version, Resource: r.Body})
		}
	}
	for name := range have {
		if _, kept := next[name]; kept {
			continue
		}
		if _, named := wanted[name]; named || sub.IsWildcard() {
			update.RemovedResources = append(update.RemovedResources, name)
		}
	}
	return update, next
}

// tellAbsent names what the proxy asks for and there is not, once as long as that is so:
// else it would wait for it.
func (str *stream) tellAbsent(w *watch, update *discoveryv3.DeltaDiscoveryResponse, next map[string]string) {
	told, now := str.absent[w.typ], map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(w.sub.SubscribedResources())) {
		if _, there := next[name]; there || name == everyName {
			continue
		}
		now[name] = true
		if !told[name] && !slices.Contains(update.GetRemovedResources(), name) {
			update.RemovedResources = append(update.RemovedResources, name)
		}
	}
	str.absent[w.typ] = now
}

// beat renews the TTL of the overlay layer, without a body. It reports whether the
// proxy waited for anything: if not, its answer to the last push is under way.
func (s *Server) beat(n *node) bool {
	w := n.watches[kindOf(xds.RuntimeType)]
	layer := n.serving.Find(xds.RuntimeType, xds.Overlays)
	if w == nil || layer == nil {
		return false
	}
	if w.state != nil {
		return s.beatState(n, w, layer)
	}
	body := s.scenes.beatOf(layer)
	if body == nil {
		return false
	}
	n.watches[kindOf(w.typ)] = nil
	s.post(w, newFrame(body, beatVersion), 0)
	return true
}

// send hands a response to the stream, which uses up the watch.
func (s *Server) send(n *node, w *watch, update *discoveryv3.DeltaDiscoveryResponse, next map[string]string) {
	n.watches[kindOf(w.typ)] = nil
	w.delta.SetReturnedResources(next)
	s.post(w, update, versionOf(update.GetSystemVersionInfo()))
}

// inSync notes that the proxy already has everything of the watch's type.
func (s *Server) inSync(n *node, w *watch) {
	now := s.now()
	before := n.book.Entry(string(w.typ)).Acked
	s.ledger.InSync(w.stream.id, string(w.typ), n.version[kindOf(w.typ)], now)
	if n.book.Entry(string(w.typ)).Acked == before {
		return
	}
	if w.typ == xds.RuntimeType && n.serving.Armed() {
		// It kept the layer over a reconnect; how much of the TTL is left the next
		// heartbeat will show, so that is due now.
		s.armed(n, now.Add(-s.leases.Beat()))
	}
	s.advance(n)
	s.acked(n)
}

// discovery is the ADS service.
type discovery struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	server *Server
	ids    atomic.Int64 // of delta streams
	state  sotw.Server
}

// StreamAggregatedResources serves one proxy, or a gRPC client, by the state of the world.
func (d *discovery) StreamAggregatedResources(
	str discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesServer,
) error {
	return d.state.StreamHandler(str, resource.AnyType)
}

// DeltaAggregatedResources serves one proxy.
func (d *discovery) DeltaAggregatedResources(
	str discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer,
) error {
	return d.server.serveDelta(d.ids.Add(1), str)
}
