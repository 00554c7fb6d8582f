package server

import (
	"slices"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/xds"
)

// TestProtocol holds the server to the rules of the xDS protocol document
// (envoyproxy.io, api-docs/xds_protocol), section by section, with a proxy that speaks by
// hand.
func TestProtocol(t *testing.T) {
	for _, test := range []struct {
		section, rule string
		run           func(*testing.T, *talk)
	}{
		{"Variants of the xDS Transport Protocol", "both are served, of the same content", bothVariants},
		{"Resource Versions", "a resource is sent with its version, and not again unchanged", sameVersionOnce},
		{"ACK and NACK", "an ACK is of the nonce that it names", ackOfNonce},
		{"ACK and NACK", "a stale or foreign nonce is no answer", foreignNonce},
		{"ACK and NACK", "a NACK is kept with its text, and not answered by the same again", nackOnce},
		{"ACK and NACK", "types are answered each for itself", typesApart},
		{"How the client specifies what resources to return", "no names is a wildcard", wildcard},
		{"How the client specifies what resources to return", "a wildcard may be spelled out and taken back", wildcardSpelled},
		{"Subscribing to Resources", "what is named later is sent", subscribeLater},
		{"Unsubscribing From Resources", "what is no longer named is not sent", unsubscribe},
		{"Knowing When a Requested Resource Does Not Exist", "it is named as removed, once", notFound},
		{"Deletion of Resources", "what is gone is named as removed", removal},
		{"Eventual consistency considerations", "a listener comes after its clusters are taken", makeBeforeBreak},
		{"TTL", "an armed runtime layer carries one, and heartbeats have no body", ttl},
		{"TTL", "what is not armed has none", noTTL},
		{"Aggregated Discovery Service", "the newest stream of a node counts", newestStream},
	} {
		t.Run(strings.ReplaceAll(test.section+": "+test.rule, " ", "_"), func(t *testing.T) {
			t.Parallel()
			world := rigWorld(t)
			s, client := serving(t, world)
			test.run(t, &talk{peer: dialPeer(t, client), server: s, client: client, world: world})
		})
	}
}

// talk is a proxy's conversation with a server.
type talk struct {
	*peer
	server *Server
	client discoveryv3.AggregatedDiscoveryServiceClient
	world  *mesh.World
	marks  int
}

// ask subscribes as the ingress and returns the answer.
func (k *talk) ask(typ xds.TypeURL, names ...string) *discoveryv3.DeltaDiscoveryResponse {
	k.t.Helper()
	k.send(as("ingress", typ, names...))
	return k.next(typ)
}

// next receives, and demands that it is of a type.
func (k *talk) next(typ xds.TypeURL) *discoveryv3.DeltaDiscoveryResponse {
	k.t.Helper()
	resp := k.recv()
	if resp.GetTypeUrl() != string(typ) {
		k.t.Fatalf("got %s, want %s", xds.TypeURL(resp.GetTypeUrl()).Short(), typ.Short())
	}
	return resp
}

func (k *talk) ack(resp *discoveryv3.DeltaDiscoveryResponse) {
	k.t.Helper()
	k.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: resp.GetTypeUrl(), ResponseNonce: resp.GetNonce()})
}

func (k *talk) nack(resp *discoveryv3.DeltaDiscoveryResponse, text string) {
	k.t.Helper()
	k.send(&discoveryv3.DeltaDiscoveryRequest{
		TypeUrl: resp.GetTypeUrl(), ResponseNonce: resp.GetNonce(),
		ErrorDetail: &status.Status{Code: int32(codes.InvalidArgument), Message: text},
	})
}

// silent demands that nothing is on its way: subscriptions to runtime layers that are not
// there are answered next.
func (k *talk) silent() {
	k.t.Helper()
	for range 3 {
		k.marks++
		name := "mark" + strings.Repeat("i", k.marks)
		if resp := k.ask(xds.RuntimeType, name); !slices.Equal(resp.GetRemovedResources(), []string{name}) {
			k.t.Fatalf("got %v, want only %s, removed", resp, name)
		} else {
			k.ack(resp)
		}
	}
}

// change has the registry say something else of the first instance of shop/cart.
func (k *talk) change(state mesh.InstanceState) {
	world := *k.world
	world.Services = slices.Clone(world.Services)
	world.Services[0].Instances = slices.Clone(world.Services[0].Instances)
	world.Services[0].Instances[0].State = state
	k.server.SetWorld(&world)
}

// booked is what the ledger has on a type at the ingress.
func (k *talk) booked(typ xds.TypeURL) TypeStatus {
	for _, p := range k.server.Proxies() {
		for _, row := range p.Types {
			if p.Node == "ingress" && row.Type == typ.Short() {
				return row
			}
		}
	}
	return TypeStatus{}
}

func names(resp *discoveryv3.DeltaDiscoveryResponse) []string {
	var out []string
	for _, r := range resp.GetResources() {
		name, _, _ := strings.Cut(r.GetName(), "@")
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// endpoints returns the name of the EDS resource of a cluster.
func (k *talk) endpoints(cluster string) string {
	config := k.server.Config("ingress")
	for _, r := range config.Endpoints {
		if strings.HasPrefix(r.Name, cluster+"@") {
			return r.Name
		}
	}
	k.t.Fatalf("no endpoints of %s", cluster)
	return ""
}

func bothVariants(t *testing.T, k *talk) {
	want := names(k.ask(xds.ClusterType))
	stream, err := k.client.StreamAggregatedResources(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_ = stream.Send(&discoveryv3.DiscoveryRequest{
		Node: &corev3.Node{Id: "ingress"}, TypeUrl: string(xds.ClusterType),
	})
	if resp, err := stream.Recv(); err != nil || len(resp.GetResources()) != len(want) {
		t.Errorf("got %v, %v, want %d clusters", resp, err, len(want))
	}
}

func sameVersionOnce(t *testing.T, k *talk) {
	resp := k.ask(xds.ClusterType)
	for _, r := range resp.GetResources() {
		if r.GetVersion() == "" || r.GetResource() == nil {
			t.Errorf("%s has version %q", r.GetName(), r.GetVersion())
		}
	}
	k.ack(resp)
	k.server.SetWorld(k.world)
	k.silent()
}

func ackOfNonce(t *testing.T, k *talk) {
	name := k.endpoints("shop/cart")
	first := k.ask(xds.EndpointType, name)
	if at := k.booked(xds.EndpointType); at.Acked != 0 || at.Sent == 0 {
		t.Errorf("before any answer: %+v", at)
	}
	k.ack(first)
	k.change(mesh.Unready)
	second := k.next(xds.EndpointType)
	if first.GetNonce() == second.GetNonce() || first.GetNonce() == "" {
		t.Errorf("nonces %q and %q, want two", first.GetNonce(), second.GetNonce())
	}
	acked := k.booked(xds.EndpointType)
	k.ack(second)
	eventually(t, 5*time.Second, "the second version is ACKed, and was not before", func() bool {
		return k.booked(xds.EndpointType).Acked > acked.Acked
	})
}

func foreignNonce(t *testing.T, k *talk) {
	resp := k.ask(xds.ClusterType)
	for _, nonce := range []string{"no such nonce", resp.GetNonce() + "0"} {
		k.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: string(xds.ClusterType), ResponseNonce: nonce})
	}
	k.silent()
	if at := k.booked(xds.ClusterType); at.Acked != 0 || at.Nack != "" {
		t.Errorf("%+v, want no answer", at)
	}
}

func nackOnce(t *testing.T, k *talk) {
	name := k.endpoints("shop/cart")
	k.nack(k.ask(xds.EndpointType, name), "I will not")
	k.silent()
	if at := k.booked(xds.EndpointType); at.Nack != "I will not" || at.Acked != 0 {
		t.Errorf("%+v, want the NACK with its text", at)
	}
	k.change(mesh.Unready)
	k.ack(k.next(xds.EndpointType))
	eventually(t, 5*time.Second, "what is new is sent, and its ACK ends the NACK", func() bool {
		at := k.booked(xds.EndpointType)
		return at.Nack == "" && at.Acked == at.Sent
	})
}

func typesApart(t *testing.T, k *talk) {
	clusters := k.ask(xds.ClusterType)
	layer := k.ask(xds.RuntimeType, xds.Overlays)
	k.ack(layer)
	k.silent()
	if k.booked(xds.ClusterType).Acked != 0 || k.booked(xds.RuntimeType).Acked == 0 {
		t.Error("the ACK of one type counts for another")
	}
	// A nonce of one type answers for no other.
	k.ack(k.ask(xds.EndpointType, k.endpoints("shop/cart")))
	k.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: string(xds.EndpointType), ResponseNonce: clusters.GetNonce()})
	k.silent()
	if k.booked(xds.ClusterType).Acked != 0 {
		t.Error("an answer of EDS with a nonce of CDS counts for CDS")
	}
}

func wildcard(t *testing.T, k *talk) {
	want := []string{"shop/cart", "shop/cart~o", "shop/solo", "shop/solo~o", "shop/store"}
	if got := names(k.ask(xds.ClusterType)); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := names(k.ask(xds.ListenerType)); len(got) != 4 {
		t.Errorf("got listeners %v, want three upstreams and the park", got)
	}
}

func wildcardSpelled(t *testing.T, k *talk) {
	resp := k.ask(xds.ClusterType, "*", "shop/cart")
	if got := names(resp); len(got) != 5 {
		t.Errorf("got %v, want all five", got)
	}
	k.ack(resp)
	k.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: string(xds.ClusterType), ResourceNamesUnsubscribe: []string{"*"}})
	k.silent() // by then it is taken back
	world := *k.world
	world.Services = slices.Clone(world.Services)
	world.Services[2].Protocol = mesh.HTTP // another cluster changes, and one comes
	k.server.SetWorld(&world)
	k.silent()
}

func subscribeLater(t *testing.T, k *talk) {
	k.ack(k.ask(xds.EndpointType, k.endpoints("shop/cart")))
	resp := k.ask(xds.EndpointType, k.endpoints("shop/solo"))
	if got := names(resp); !slices.Equal(got, []string{"shop/solo"}) {
		t.Errorf("got %v, want shop/solo alone", got)
	}
}

func unsubscribe(_ *testing.T, k *talk) {
	name := k.endpoints("shop/cart")
	k.ack(k.ask(xds.EndpointType, name, k.endpoints("shop/solo")))
	k.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: string(xds.EndpointType), ResourceNamesUnsubscribe: []string{name}})
	k.silent()
	k.change(mesh.Unready)
	k.silent()
}

func notFound(t *testing.T, k *talk) {
	resp := k.ask(xds.RouteType, "nowhere", "park")
	if got := names(resp); !slices.Equal(got, []string{"park"}) || !slices.Equal(resp.GetRemovedResources(), []string{"nowhere"}) {
		t.Errorf("got %v, removed %v; want park, removed nowhere", got, resp.GetRemovedResources())
	}
	k.ack(resp)
	k.silent()
}

func removal(t *testing.T, k *talk) {
	k.ack(k.ask(xds.ClusterType))
	world := *k.world
	world.Proxies = slices.Clone(world.Proxies)
	for i := range world.Proxies {
		if world.Proxies[i].Node == "ingress" {
			world.Proxies[i].Outbound = world.Proxies[i].Outbound[:2] // no longer calls shop/store
		}
	}
	// Listeners and routes let go of it first.
	k.ack(k.ask(xds.ListenerType))
	k.ack(k.ask(xds.RouteType, "park", "out~shop/cart", "out~shop/solo"))
	k.silent()
	k.server.SetWorld(&world)
	listeners := k.next(xds.ListenerType)
	if !slices.Equal(listeners.GetRemovedResources(), []string{"out~shop/store"}) {
		t.Errorf("listeners removed are %v", listeners.GetRemovedResources())
	}
	k.ack(listeners)
	if resp := k.next(xds.ClusterType); !slices.Equal(resp.GetRemovedResources(), []string{"shop/store"}) {
		t.Errorf("clusters removed are %v, want shop/store", resp.GetRemovedResources())
	}
}

func makeBeforeBreak(_ *testing.T, k *talk) {
	k.ack(k.ask(xds.ClusterType))
	k.ack(k.ask(xds.ListenerType))
	k.ack(k.ask(xds.RouteType, "park", "out~shop/cart", "out~shop/solo"))
	k.silent()
	world := *k.world
	world.Services = slices.Clone(world.Services)
	world.Services[2].Protocol = mesh.HTTP // its listener goes from raw TCP to routes and a twin
	k.server.SetWorld(&world)
	clusters := k.next(xds.ClusterType)
	k.silent() // nothing that refers to them comes before they are taken
	k.ack(clusters)
	for range 2 { // the listener, and the park's routes
		if resp := k.recv(); resp.GetTypeUrl() != string(xds.ListenerType) && resp.GetTypeUrl() != string(xds.RouteType) {
			k.t.Errorf("got %s, want the listener and the routes", xds.TypeURL(resp.GetTypeUrl()).Short())
		}
	}
}

func ttl(t *testing.T, k *talk) {
	o := drainOf("shop/solo", 1, "solo-0")
	if _, err := k.server.stage(o); err != nil {
		t.Fatal(err)
	}
	if err := k.server.arm(o.Key); err != nil {
		t.Fatal(err)
	}
	resp := k.ask(xds.RuntimeType, xds.Overlays)
	layer := resp.GetResources()[0]
	if layer.GetTtl().AsDuration() != k.server.leases.TTL() || layer.GetResource() == nil {
		t.Errorf("got TTL %s, want %s, and a body", layer.GetTtl().AsDuration(), k.server.leases.TTL())
	}
	k.ack(resp)
	beat := k.next(xds.RuntimeType).GetResources()[0]
	if beat.GetResource() != nil || beat.GetVersion() != layer.GetVersion() || beat.GetName() != layer.GetName() ||
		beat.GetTtl().AsDuration() != k.server.leases.TTL() {
		t.Errorf("the heartbeat is %v, want the same version and TTL without a body", beat)
	}
}

func noTTL(t *testing.T, k *talk) {
	if r := k.ask(xds.RuntimeType, xds.Overlays).GetResources()[0]; r.GetTtl() != nil {
		t.Errorf("got TTL %s", r.GetTtl().AsDuration())
	}
	for _, r := range k.ask(xds.ClusterType).GetResources() {
		if r.GetTtl() != nil {
			t.Errorf("%s has a TTL", r.GetName())
		}
	}
}

func newestStream(t *testing.T, k *talk) {
	k.ack(k.ask(xds.ClusterType))
	second := &talk{peer: dialPeer(t, k.client), server: k.server, client: k.client, world: k.world}
	second.ack(second.ask(xds.ClusterType))
	_ = k.stream.Send(as("ingress", xds.EndpointType, "x")) // it may have ended already
	if _, err := k.stream.Recv(); grpcstatus.Code(err) != codes.Aborted {
		t.Errorf("on the older stream: %v, want Aborted", err)
	}
	second.silent()
}
