package server

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"strconv"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sluicemesh/sluice/xds"
)

// The state-of-the-world protocol, for Envoys whose bootstrap says so and for gRPC clients.
// A response has one version for its whole type,
//
//	<number>-<content>
//
// the number that the ledger counts by, and what the number alone does not say to a later
// control plane: of listeners the version of the inbound one, else a hash of all.

// stateCallbacks keeps the ledger as the state-of-the-world server talks. That counts its
// streams by itself, so its ids are turned negative.
type stateCallbacks struct{ server *Server }

// OnStreamOpen notes the stream.
func (c *stateCallbacks) OnStreamOpen(ctx context.Context, id int64, _ string) error {
	return c.server.opened(ctx, -id)
}

// OnStreamClosed notes its end.
func (c *stateCallbacks) OnStreamClosed(id int64, _ *corev3.Node) { c.server.closed(-id) }

// OnStreamRequest learns who is there, and reads the answers to what was sent.
func (c *stateCallbacks) OnStreamRequest(id int64, req *discoveryv3.DiscoveryRequest) error {
	return c.server.heard(-id, req)
}

// OnStreamResponse notes what goes out under which nonce.
func (c *stateCallbacks) OnStreamResponse(_ context.Context, id int64, _ *discoveryv3.DiscoveryRequest,
	resp *discoveryv3.DiscoveryResponse,
) {
	s := c.server
	s.mu.Lock()
	defer s.mu.Unlock()
	str := s.streams[-id]
	if str == nil {
		return
	}
	version := versionOf(resp.GetVersionInfo())
	if resp == str.beat {
		version = 0
	}
	str.answered[xds.TypeURL(resp.GetTypeUrl())] = true
	s.ledger.Sent(-id, resp.GetTypeUrl(), resp.GetNonce(), version, s.now())
}

// versionOf reads the number out of a version, 0 if there is none.
func versionOf(text string) uint64 {
	number, _, _ := strings.Cut(text, "-")
	version, err := strconv.ParseUint(number, 10, 64)
	if err != nil {
		return 0
	}
	return version
}

// CreateWatch answers a request by the state of the world, at once if the proxy lacks
// anything, else when there is something new.
func (c *configCache) CreateWatch(req *cache.Request, sub cache.Subscription, out chan cache.Response,
) (func(), error) {
	_, inbound, _ := strings.Cut(req.GetVersionInfo(), "-")
	return c.server.watch(req, inbound, &watch{state: req, sub: sub, stateOut: out})
}

// respondState is respond for the state of the world. The caller holds mu.
func (s *Server) respondState(n *node, w *watch) {
	offered := n.serving.Of(w.typ)
	var send []*xds.Resource
	var next map[string]string
	if whole(w.typ) {
		send, next = entire(offered, w.sub)
		if w.stream.answered[w.typ] && maps.Equal(next, w.sub.ReturnedResources()) {
			s.inSync(n, w)
			return
		}
	} else if send, next = changes(offered, w.sub); len(send) == 0 {
		s.inSync(n, w)
		return
	}
	update := &discoveryv3.DiscoveryResponse{
		TypeUrl: string(w.typ), VersionInfo: stateVersion(n.version[kindOf(w.typ)], w.typ, offered),
	}
	armed := w.typ == xds.RuntimeType && n.serving.Armed()
	for _, r := range send {
		body := r.Body
		if armed {
			body = wrapped(&discoveryv3.Resource{Name: r.Name, Resource: r.Body, Ttl: durationpb.New(s.leases.TTL())})
		}
		update.Resources = append(update.Resources, body)
	}
	s.sendState(n, w, update, next)
}

// whole reports whether a response must name all resources of a type that there are: what
// it leaves out is gone. Of other types it names those that changed, and nothing says that
// one is gone but what referred to it.
func whole(t xds.TypeURL) bool { return t == xds.ClusterType || t == xds.ListenerType }

// entire returns all that a subscriber is to have, and what it knows then: that a resource
// which it named is not there has the version "".
func entire(offered []xds.Resource, sub cache.Subscription) ([]*xds.Resource, map[string]string) {
	var send []*xds.Resource
	next := map[string]string{}
	for name := range sub.SubscribedResources() {
		next[name] = ""
	}
	for i := range offered {
		if _, named := next[offered[i].Name]; named || sub.IsWildcard() {
			send = append(send, &offered[i])
			next[offered[i].Name] = offered[i].Version
		}
	}
	return send, next
}

// changes returns what a subscriber lacks, and what it has then.
func changes(offered []xds.Resource, sub cache.Subscription) ([]*xds.Resource, map[string]string) {
	var send []*xds.Resource
	next, wanted := maps.Clone(sub.ReturnedResources()), sub.SubscribedResources()
	for i := range offered {
		r := &offered[i]
		_, named := wanted[r.Name]
		if version, has := next[r.Name]; (named || sub.IsWildcard()) && (!has || version != r.Version) {
			send = append(send, r)
			next[r.Name] = r.Version
		}
	}
	return send, next
}

// stateVersion is the version of all resources of a type.
func stateVersion(number uint64, t xds.TypeURL, offered []xds.Resource) string {
	hash := sha256.New()
	for i := range offered {
		if t == xds.ListenerType && offered[i].Name == xds.InboundListener {
			return strconv.FormatUint(number, 10) + "-" + offered[i].Version
		}
		_, _ = hash.Write([]byte(offered[i].Name + " " + offered[i].Version + "\n"))
	}
	return strconv.FormatUint(number, 10) + "-" + hex.EncodeToString(hash.Sum(nil)[:8])
}

// beatState is beat for the state of the world. Envoy 1.40 takes a heartbeat without body,
// and does not prolong the TTL: so the whole layer is sent again, under the version that
// Envoy has. One that has lapsed, as far as is known, would be armed again by that.
func (s *Server) beatState(n *node, w *watch, layer *xds.Resource) bool {
	accepted := w.state.GetVersionInfo()
	if _, lapsed := s.leases.Lapsed(n.id, s.now()); lapsed || accepted == "" {
		return false
	}
	body := &discoveryv3.Resource{Name: layer.Name, Resource: layer.Body, Ttl: durationpb.New(s.leases.TTL())}
	w.stream.beat = &discoveryv3.DiscoveryResponse{
		TypeUrl: string(xds.RuntimeType), VersionInfo: accepted, Resources: []*anypb.Any{wrapped(body)},
	}
	s.sendState(n, w, w.stream.beat, w.sub.ReturnedResources())
	return true
}

// sendState hands a response to the stream, which uses up the watch.
func (s *Server) sendState(n *node, w *watch, update *discoveryv3.DiscoveryResponse, next map[string]string) {
	n.watches[kindOf(w.typ)] = nil
	select {
	case w.stateOut <- &cache.PassthroughResponse{
		Request: w.state, DiscoveryResponse: update, ReturnedResources: next,
	}:
	default:
		// A watch has room for one response and is answered once.
		s.log.Error("a stream has no room for a response", "node", n.id, "type", w.typ.Short())
	}
}

// wrapped packs a resource with what only its wrapper can say.
func wrapped(r *discoveryv3.Resource) *anypb.Any {
	out := new(anypb.Any)
	if err := anypb.MarshalFrom(out, r, proto.MarshalOptions{Deterministic: true}); err != nil {
		panic("xds: a resource of our own does not marshal: " + err.Error())
	}
	return out
}
