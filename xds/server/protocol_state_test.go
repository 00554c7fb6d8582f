package server

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/xds"
	"github.com/sluicemesh/sluice/xds/lease"
)

// TestProtocolState is TestProtocol for the state of the world.
func TestProtocolState(t *testing.T) {
	for _, test := range []struct {
		section, rule string
		run           func(*testing.T, *stateTalk)
	}{
		{"ACK and NACK", "an ACK is of the nonce that it names", stateAck},
		{"ACK and NACK", "a NACK is kept with its text, and not answered by the same again", stateNack},
		{"ACK and NACK", "types are answered each for itself", stateTypesApart},
		{"Resource Updates", "a request with a stale or foreign nonce is ignored", stateStale},
		{"Resource Updates", "what did not change is not sent again", stateUnchanged},
		{"Resource Versions", "a type has one version, which changes with it", stateVersions},
		{"Basic Protocol Overview", "only the first request names the node", stateNode},
		{"How the client specifies what resources to return", "no names is a wildcard", stateWildcard},
		{"How the client specifies what resources to return", "a wildcard may be spelled out", stateSpelled},
		{"How the client specifies what resources to return", "no names after names is nothing", stateNothing},
		{"How the client specifies what resources to return", "endpoints have no wildcard", stateNoWildcard},
		{"Client Behavior", "what is named later is sent, and nothing else", stateLater},
		{"Unsubscribing From Resources", "what is no longer named is not sent", stateUnsubscribe},
		{"Grouping Resources into Responses", "all clusters and listeners are in each response", stateWhole},
		{"Grouping Resources into Responses", "of endpoints only what changed is sent", statePart},
		{"Deletion of Resources", "a cluster that is left out is gone", stateRemoval},
		{"Deletion of Resources", "nothing says that endpoints are gone", stateKept},
		{"Knowing When a Requested Resource Does Not Exist", "clusters: the response is without it", stateNotFound},
		{"Knowing When a Requested Resource Does Not Exist", "endpoints: there is no response", stateSilence},
		{"Eventual consistency considerations", "a listener comes after its clusters are taken", stateOrder},
		{"TTL", "an armed runtime layer carries one, and each heartbeat the version that is in force", stateTTL},
		{"TTL", "a heartbeat that is answered too late has lapsed, and no other is sent", stateLate},
		{"TTL", "what is not armed has none, and no wrapper", stateNoTTL},
		{"Resource Versions", "after a reconnect all is sent, whatever version is claimed", stateReconnect},
		{"Aggregated Discovery Service", "the newest stream of a node counts", stateNewest},
	} {
		t.Run(strings.ReplaceAll(test.section+": "+test.rule, " ", "_"), func(t *testing.T) {
			t.Parallel()
			world := rigWorld(t)
			s, client := serving(t, world)
			test.run(t, dialState(t, &talk{server: s, client: client, world: world}))
		})
	}
}

// stateTalk is a proxy's conversation by the state of the world.
type stateTalk struct {
	*talk
	t       *testing.T
	stream  discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesClient
	node    *corev3.Node // for the first request
	version map[string]string
	nonce   map[string]string
	marks   int
}

func dialState(t *testing.T, k *talk) *stateTalk {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	stream, err := k.client.StreamAggregatedResources(ctx, grpc.WaitForReady(true))
	if err != nil {
		t.Fatal(err)
	}
	k.peer = &peer{t: t}
	return &stateTalk{
		talk: k, t: t, stream: stream, node: &corev3.Node{Id: "ingress"},
		version: map[string]string{}, nonce: map[string]string{},
	}
}

// tell asks for names, with the version and the nonce that the proxy has.
func (k *stateTalk) tell(typ xds.TypeURL, names ...string) {
	k.t.Helper()
	k.put(&discoveryv3.DiscoveryRequest{
		TypeUrl: string(typ), ResourceNames: names, VersionInfo: k.version[string(typ)], ResponseNonce: k.nonce[string(typ)],
	})
}

func (k *stateTalk) put(req *discoveryv3.DiscoveryRequest) {
	k.t.Helper()
	req.Node, k.node = k.node, nil
	if err := k.stream.Send(req); err != nil {
		k.t.Fatal(err)
	}
}

// ask tells, and returns the answer.
func (k *stateTalk) ask(typ xds.TypeURL, names ...string) *discoveryv3.DiscoveryResponse {
	k.t.Helper()
	k.tell(typ, names...)
	return k.next(typ)
}

func (k *stateTalk) next(typ xds.TypeURL) *discoveryv3.DiscoveryResponse {
	k.t.Helper()
	resp, err := k.stream.Recv()
	if err != nil {
		k.t.Fatal(err)
	}
	if resp.GetTypeUrl() != string(typ) {
		k.t.Fatalf("got %s, want %s", xds.TypeURL(resp.GetTypeUrl()).Short(), typ.Short())
	}
	return resp
}

// ack accepts a response, and goes on asking for names.
func (k *stateTalk) ack(resp *discoveryv3.DiscoveryResponse, names ...string) {
	k.t.Helper()
	k.version[resp.GetTypeUrl()], k.nonce[resp.GetTypeUrl()] = resp.GetVersionInfo(), resp.GetNonce()
	k.tell(xds.TypeURL(resp.GetTypeUrl()), names...)
}

func (k *stateTalk) nack(resp *discoveryv3.DiscoveryResponse, text string, names ...string) {
	k.t.Helper()
	k.nonce[resp.GetTypeUrl()] = resp.GetNonce()
	k.put(&discoveryv3.DiscoveryRequest{
		TypeUrl: resp.GetTypeUrl(), ResourceNames: names, VersionInfo: k.version[resp.GetTypeUrl()],
		ResponseNonce: resp.GetNonce(), ErrorDetail: &status.Status{Code: int32(codes.InvalidArgument), Message: text},
	})
}

// silent demands that nothing is on its way: each time that the proxy asks for another
// listener, which is not there, that is answered next.
func (k *stateTalk) silent() {
	k.t.Helper()
	for range 6 {
		k.marks++
		name := fmt.Sprintf("mark%d", k.marks)
		resp := k.ask(xds.ListenerType, name)
		if len(resp.GetResources()) > 0 {
			k.t.Fatalf("got %v, want no listener", resp)
		}
		k.version[resp.GetTypeUrl()], k.nonce[resp.GetTypeUrl()] = resp.GetVersionInfo(), resp.GetNonce()
	}
}

// contents lists the names in a response, without what stands after an "@".
func contents(t *testing.T, resp *discoveryv3.DiscoveryResponse) []string {
	t.Helper()
	var out []string
	for _, body := range resp.GetResources() {
		message, err := body.UnmarshalNew()
		if err != nil {
			t.Fatal(err)
		}
		named, ok := message.(interface{ GetName() string })
		name := ""
		if ok {
			name = named.GetName()
		} else if endpoints, ok := message.(interface{ GetClusterName() string }); ok {
			name = endpoints.GetClusterName()
		}
		name, _, _ = strings.Cut(name, "@")
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

func (k *stateTalk) want(resp *discoveryv3.DiscoveryResponse, names ...string) {
	k.t.Helper()
	if got := contents(k.t, resp); !slices.Equal(got, names) {
		k.t.Errorf("got %v, want %v", got, names)
	}
}

func stateAck(t *testing.T, k *stateTalk) {
	name := k.endpoints("shop/cart")
	resp := k.ask(xds.EndpointType, name)
	if at := k.booked(xds.EndpointType); at.Acked != 0 || at.Sent == 0 {
		t.Errorf("before any answer: %+v", at)
	}
	k.ack(resp, name)
	eventually(t, 5*time.Second, "it is ACKed", func() bool { return k.booked(xds.EndpointType).Acked == k.booked(xds.EndpointType).Sent })
}

func stateNack(t *testing.T, k *stateTalk) {
	name := k.endpoints("shop/cart")
	k.nack(k.ask(xds.EndpointType, name), "I will not", name)
	k.silent()
	if at := k.booked(xds.EndpointType); at.Nack != "I will not" || at.Acked != 0 {
		t.Errorf("%+v, want the NACK with its text", at)
	}
	k.change(mesh.Unready)
	k.ack(k.next(xds.EndpointType), name)
	eventually(t, 5*time.Second, "what is new is sent, and its ACK ends the NACK", func() bool {
		at := k.booked(xds.EndpointType)
		return at.Nack == "" && at.Acked == at.Sent
	})
}

func stateTypesApart(t *testing.T, k *stateTalk) {
	k.ask(xds.ClusterType) // not answered
	k.ack(k.ask(xds.RuntimeType, xds.Overlays), xds.Overlays)
	k.silent()
	if k.booked(xds.ClusterType).Acked != 0 || k.booked(xds.RuntimeType).Acked == 0 {
		t.Error("the ACK of one type counts for another")
	}
}

func stateStale(t *testing.T, k *stateTalk) {
	name := k.endpoints("shop/cart")
	first := k.ask(xds.EndpointType, name)
	k.ack(first, name)
	k.silent()
	k.change(mesh.Unready)
	second := k.next(xds.EndpointType)
	sent := k.booked(xds.EndpointType)
	for _, nonce := range []string{first.GetNonce(), second.GetNonce() + "0", "no such nonce", ""} {
		k.put(&discoveryv3.DiscoveryRequest{
			TypeUrl: string(xds.EndpointType), VersionInfo: second.GetVersionInfo(), ResponseNonce: nonce,
			ResourceNames: []string{k.endpoints("shop/solo")},
		})
	}
	k.silent()
	if at := k.booked(xds.EndpointType); at.Acked != sent.Acked || at.Acked == at.Sent {
		t.Errorf("%+v, was %+v: a stale nonce counts", at, sent)
	}
	k.ack(second, name)
	eventually(t, 5*time.Second, "the right one counts", func() bool { return k.booked(xds.EndpointType).Acked == sent.Sent })
}

func stateUnchanged(_ *testing.T, k *stateTalk) {
	name := k.endpoints("shop/cart")
	k.ack(k.ask(xds.EndpointType, name), name)
	k.server.SetWorld(k.world)
	k.silent()
}

func stateVersions(t *testing.T, k *stateTalk) {
	name := k.endpoints("shop/cart")
	first := k.ask(xds.EndpointType, name)
	k.ack(first, name)
	k.silent()
	k.change(mesh.Unready)
	second := k.next(xds.EndpointType)
	if first.GetVersionInfo() == "" || first.GetVersionInfo() == second.GetVersionInfo() || first.GetNonce() == second.GetNonce() {
		t.Errorf("versions %q and %q, nonces %q and %q, want two of each", first.GetVersionInfo(), second.GetVersionInfo(),
			first.GetNonce(), second.GetNonce())
	}
}

func stateNode(_ *testing.T, k *stateTalk) {
	k.ack(k.ask(xds.ClusterType))
	k.want(k.ask(xds.RuntimeType, xds.Overlays), "ov")
}

// allClusters are those of the ingress.
func allClusters() []string {
	return []string{"shop/cart", "shop/cart~o", "shop/solo", "shop/solo~o", "shop/store"}
}

func stateWildcard(_ *testing.T, k *stateTalk) {
	k.want(k.ask(xds.ClusterType), allClusters()...)
}

func stateSpelled(_ *testing.T, k *stateTalk) {
	resp := k.ask(xds.ClusterType, "*", "shop/cart")
	k.want(resp, allClusters()...)
	k.ack(resp, "shop/cart")
	k.silent()
}

func stateNothing(_ *testing.T, k *stateTalk) {
	resp := k.ask(xds.ClusterType, "shop/cart")
	k.want(resp, "shop/cart")
	k.ack(resp) // names none any more
	k.silent()
	k.server.SetWorld(k.storeSpeaksHTTP())
	k.silent()
}

// storeSpeaksHTTP is a world in which a cluster changes, and one comes.
func (k *stateTalk) storeSpeaksHTTP() *mesh.World {
	world := *k.world
	world.Services = slices.Clone(world.Services)
	world.Services[2].Protocol = mesh.HTTP
	return &world
}

func stateNoWildcard(_ *testing.T, k *stateTalk) {
	k.tell(xds.EndpointType)
	k.silent()
}

func stateLater(_ *testing.T, k *stateTalk) {
	cart, solo := k.endpoints("shop/cart"), k.endpoints("shop/solo")
	k.ack(k.ask(xds.EndpointType, cart), cart)
	k.want(k.ask(xds.EndpointType, cart, solo), "shop/solo")
}

func stateUnsubscribe(_ *testing.T, k *stateTalk) {
	cart, solo := k.endpoints("shop/cart"), k.endpoints("shop/solo")
	resp := k.ask(xds.EndpointType, cart, solo)
	k.ack(resp, solo)
	k.silent()
	k.change(mesh.Unready)
	k.silent()
	k.want(k.ask(xds.EndpointType, cart, solo), "shop/cart") // asked for anew, it is sent
}

func stateWhole(_ *testing.T, k *stateTalk) {
	k.ack(k.ask(xds.ClusterType))
	k.silent()
	k.server.SetWorld(k.storeSpeaksHTTP())
	k.want(k.next(xds.ClusterType), append(allClusters(), "shop/store~o")...)
}

func statePart(_ *testing.T, k *stateTalk) {
	cart, solo := k.endpoints("shop/cart"), k.endpoints("shop/solo")
	k.ack(k.ask(xds.EndpointType, cart, solo), cart, solo)
	k.silent()
	k.change(mesh.Unready)
	k.want(k.next(xds.EndpointType), "shop/cart")
}

// withoutStore is a world in which the ingress no longer calls shop/store.
func (k *stateTalk) withoutStore() *mesh.World {
	world := *k.world
	world.Proxies = slices.Clone(world.Proxies)
	for i := range world.Proxies {
		if world.Proxies[i].Node == "ingress" {
			world.Proxies[i].Outbound = world.Proxies[i].Outbound[:2]
		}
	}
	return &world
}

func stateRemoval(_ *testing.T, k *stateTalk) {
	k.ack(k.ask(xds.ClusterType))
	listeners := k.ask(xds.ListenerType)
	k.want(listeners, "out~shop/cart", "out~shop/solo", "out~shop/store", "park")
	k.ack(listeners)
	k.ack(k.ask(xds.RouteType, "park"), "park")
	eventually(k.t, 5*time.Second, "all is taken", func() bool { return k.booked(xds.RouteType).Acked > 0 })
	k.server.SetWorld(k.withoutStore())
	listeners = k.next(xds.ListenerType)
	k.want(listeners, "out~shop/cart", "out~shop/solo", "park")
	k.ack(listeners) // only then may the cluster go
	k.want(k.next(xds.ClusterType), allClusters()[:4]...)
}

func stateKept(t *testing.T, k *stateTalk) {
	name := k.endpoints("shop/store")
	k.ack(k.ask(xds.EndpointType, name), name)
	k.ack(k.ask(xds.ClusterType))
	k.silent()
	k.server.SetWorld(k.withoutStore())
	eventually(t, 5*time.Second, "they are no longer offered", func() bool {
		k.server.mu.Lock()
		defer k.server.mu.Unlock()
		return k.server.nodes["ingress"].target.Find(xds.EndpointType, name) == nil
	})
	k.server.SetWorld(k.world) // and back: the proxy still has them
	k.silent()
}

func stateNotFound(_ *testing.T, k *stateTalk) {
	resp := k.ask(xds.ClusterType, "shop/cart", "nowhere")
	k.want(resp, "shop/cart")
	k.ack(resp, "shop/cart", "nowhere")
	k.silent()
}

func stateSilence(_ *testing.T, k *stateTalk) {
	k.tell(xds.EndpointType, "nowhere")
	k.silent()
	k.want(k.ask(xds.EndpointType, "nowhere", k.endpoints("shop/cart")), "shop/cart")
}

func stateOrder(_ *testing.T, k *stateTalk) {
	k.ack(k.ask(xds.ClusterType))
	k.ack(k.ask(xds.ListenerType))
	k.ack(k.ask(xds.RouteType, "park"), "park")
	eventually(k.t, 5*time.Second, "all is taken", func() bool { return k.booked(xds.RouteType).Acked > 0 })
	k.server.SetWorld(k.storeSpeaksHTTP()) // its listener goes from raw TCP to routes and a twin
	clusters := k.next(xds.ClusterType)
	// Asking for more shows that nothing which refers to them comes before they are taken.
	cart := k.endpoints("shop/cart")
	k.ack(k.ask(xds.EndpointType, cart), cart)
	solo := k.endpoints("shop/solo")
	k.ack(k.ask(xds.EndpointType, cart, solo), cart, solo)
	k.ack(clusters)
	for range 2 {
		resp, err := k.stream.Recv()
		if typ := xds.TypeURL(resp.GetTypeUrl()); err != nil || typ != xds.ListenerType && typ != xds.RouteType {
			k.t.Errorf("got %s, %v, want the listeners and the routes", typ.Short(), err)
		}
	}
}

// layer unpacks the wrapper of the one resource in a response.
func layer(t *testing.T, resp *discoveryv3.DiscoveryResponse) *discoveryv3.Resource {
	t.Helper()
	out := new(discoveryv3.Resource)
	if len(resp.GetResources()) != 1 {
		t.Fatalf("got %d resources, want 1", len(resp.GetResources()))
	}
	if err := resp.GetResources()[0].UnmarshalTo(out); err != nil {
		t.Fatal(err)
	}
	return out
}

func stateTTL(t *testing.T, k *stateTalk) {
	o := drainOf("shop/solo", 1, "solo-0")
	if _, err := k.server.stage(o); err != nil {
		t.Fatal(err)
	}
	if err := k.server.arm(o.Key); err != nil {
		t.Fatal(err)
	}
	resp := k.ask(xds.RuntimeType, xds.Overlays)
	if got := layer(t, resp); got.GetTtl().AsDuration() != k.server.leases.TTL() || got.GetResource() == nil || got.GetName() != "ov" {
		t.Errorf("got %v, want the layer with a TTL", got)
	}
	k.ack(resp, xds.Overlays)
	beat := k.next(xds.RuntimeType)
	before := k.booked(xds.RuntimeType)
	if got := layer(t, beat); got.GetTtl().AsDuration() != k.server.leases.TTL() || beat.GetVersionInfo() != resp.GetVersionInfo() ||
		beat.GetNonce() == resp.GetNonce() {
		t.Errorf("the heartbeat is %v, want the same version, another nonce, and the TTL", beat)
	}
	k.ack(beat, xds.Overlays)
	k.silent()
	if at := k.booked(xds.RuntimeType); at.Acked != before.Acked || at.AckedAt != before.AckedAt {
		t.Errorf("the answer to a heartbeat counts as an ACK: %+v, was %+v", at, before)
	}
}

func stateLate(t *testing.T, k *stateTalk) {
	k.server.mu.Lock()
	k.server.leases = lease.NewTable(300 * time.Millisecond)
	k.server.mu.Unlock()
	o := drainOf("shop/solo", 1, "solo-0")
	if _, err := k.server.stage(o); err != nil {
		t.Fatal(err)
	}
	if err := k.server.arm(o.Key); err != nil {
		t.Fatal(err)
	}
	cart := k.endpoints("shop/solo~o")
	k.ack(k.ask(xds.EndpointType, cart), cart)
	k.ack(k.ask(xds.RuntimeType, xds.Overlays), xds.Overlays)
	beat := k.next(xds.RuntimeType)
	lapsed := func() bool {
		k.server.mu.Lock()
		defer k.server.mu.Unlock()
		return k.server.overlays[o.Key].lapsed
	}
	if lapsed() {
		t.Error("it lapsed before its time")
	}
	eventually(t, 5*time.Second, "nobody renewed it", lapsed)
	k.ack(beat, xds.Overlays)
	k.silent()
	pause(t, 400*time.Millisecond)
	k.silent() // no heartbeat arms it again
	if !lapsed() {
		t.Error("a late answer revives the lease")
	}
}

func stateNoTTL(t *testing.T, k *stateTalk) {
	for _, resp := range []*discoveryv3.DiscoveryResponse{k.ask(xds.RuntimeType, xds.Overlays), k.ask(xds.ClusterType)} {
		for _, body := range resp.GetResources() {
			if body.GetTypeUrl() != resp.GetTypeUrl() {
				t.Errorf("got a %s among %s", body.GetTypeUrl(), resp.GetTypeUrl())
			}
		}
	}
}

func stateReconnect(_ *testing.T, k *stateTalk) {
	resp := k.ask(xds.ClusterType)
	k.ack(resp)
	second := dialState(k.t, &talk{server: k.server, client: k.client, world: k.world})
	second.version[resp.GetTypeUrl()] = resp.GetVersionInfo()
	second.want(second.ask(xds.ClusterType), allClusters()...)
}

func stateNewest(t *testing.T, k *stateTalk) {
	k.ack(k.ask(xds.ClusterType))
	second := dialState(t, &talk{server: k.server, client: k.client, world: k.world})
	second.ack(second.ask(xds.ClusterType))
	_ = k.stream.Send(&discoveryv3.DiscoveryRequest{TypeUrl: string(xds.EndpointType), ResourceNames: []string{"x"}})
	if _, err := k.stream.Recv(); grpcstatus.Code(err) != codes.Aborted {
		t.Errorf("on the older stream: %v, want Aborted", err)
	}
	second.silent()
}
