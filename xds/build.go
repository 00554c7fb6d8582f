package xds

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/sluicemesh/sluice/mesh"
)

// ErrUnsupported says that plain Envoy, as we configure it, cannot do what an overlay asks.
var ErrUnsupported = errors.New("unsupported overlay")

// Staged is an overlay and how far it has been carried to the proxies.
type Staged struct {
	mesh.Overlay
	Armed bool // its runtime keys are on; a raw TCP upstream has none and is armed at once
	Back  int  // percent of its weight that a drained instance has back; 0 = drained, restoring otherwise
}

// Scene is everything that resources are made of.
type Scene struct {
	World    *mesh.World
	Overlays []Staged
	Cuts     map[string]uint64 // by node: how often its inbound listener was replaced to end streams
	Shared   *Shared           // nil: nothing is shared
	Tracing  *Tracing          // nil: proxies send no spans
}

// Base returns the resources of a proxy with no overlay in force; none if the world
// does not list it.
func Base(world *mesh.World, node string) Resources {
	out, _ := Scene{World: world}.Build(node)
	return out
}

// Build returns the resources of a proxy with the overlays armed. Its errors are those
// of Validate, one for each overlay that is left out, and of a node that the world does
// not list.
func Build(world *mesh.World, node string, overlays []mesh.Overlay) (Resources, []error) {
	scene := Scene{World: world}
	for _, o := range overlays {
		scene.Overlays = append(scene.Overlays, Staged{Overlay: o, Armed: true})
	}
	return scene.Build(node)
}

// Build returns the resources of one proxy; see the function Build.
func (s Scene) Build(node string) (Resources, []error) {
	proxy := FindProxy(s.World, node)
	if proxy == nil {
		return Resources{}, []error{fmt.Errorf("proxy %q is not in the world", node)}
	}
	b := builder{scene: s, proxy: proxy, keys: runtimeKeys{}}
	var errs []error
	for i := range s.Overlays {
		o := &s.Overlays[i]
		if err := Validate(s.World, o.Overlay); err != nil {
			errs = append(errs, err)
			continue
		}
		b.overlays = append(b.overlays, o)
	}
	if proxy.Kind == mesh.Proxyless {
		for _, out := range proxy.Outbound {
			b.clientUpstream(out)
		}
		b.sort()
		return b.out, errs
	}
	for _, out := range proxy.Outbound {
		b.upstream(out)
	}
	b.inbound()
	if proxy.Park.IsValid() {
		b.park(proxy.Park)
	}
	b.keys.boost(s.Tracing, proxy.Service)
	b.out.Runtime = []Resource{b.keys.resource(b.generation)}
	b.sort()
	return b.out, errs
}

// builder gathers the resources of one proxy.
type builder struct {
	scene      Scene
	proxy      *mesh.Proxy
	overlays   []*Staged
	http       []mesh.Outbound
	keys       runtimeKeys
	generation uint64
	out        Resources
}

// upstream adds what one upstream needs.
func (b *builder) upstream(out mesh.Outbound) {
	protocol := ProtocolOf(b.scene.World, out.Service)
	drain := b.overlay(mesh.OverlayDrain, out.Service)
	name := outName(out.Service)
	key := part{t: ListenerType, name: name, at: out.Listen, timeout: out.Timeout, protocol: protocol}
	tracing := b.scene.Tracing
	if tracing != nil {
		key.caller = b.proxy.Service
	}
	b.keep(key, func() proto.Message {
		if tracing != nil {
			return tracing.traced(outListener(out, protocol), key.caller)
		}
		return outListener(out, protocol)
	})
	if protocol == mesh.TCP {
		b.cluster(string(out.Service), out.Service, drain)
		b.breaker(out.Service, drain)
		return
	}
	b.http = append(b.http, out)
	b.cluster(string(out.Service), out.Service, nil)
	b.cluster(Twin(out.Service), out.Service, drain)
	ejects := b.breaker(out.Service, drain)
	b.outRoutes(out, ejects)
	if b.arm(drain) {
		b.keys.drain(out.Service, drain.Drain)
	}
}

// outRoutes adds the routes to an upstream, with this caller's rate limit.
func (b *builder) outRoutes(out mesh.Outbound, ejects bool) {
	name := outName(out.Service)
	limit := b.limit(mesh.OverlayKey{Kind: mesh.OverlayLimit, Callee: out.Service, Caller: b.proxy.Service})
	if ejects || limit != nil {
		b.add(RouteType, name, limited(outRoutes(out, ejects), limit, limitKey(out.Service)))
		return
	}
	b.keep(part{t: RouteType, name: name, timeout: out.Timeout}, func() proto.Message { return outRoutes(out, false) })
}

// breaker lowers the circuit breakers towards an upstream, if an overlay says so. It
// reports whether outlier detection is asked for: then there is one more cluster.
func (b *builder) breaker(service mesh.Service, drain *Staged) (ejects bool) {
	limits := b.overlay(mesh.OverlayBreak, service)
	if limits == nil {
		return false
	}
	name := Breaker(service)
	if ejects = limits.Break.Consecutive5xx > 0; ejects {
		cluster, endpoints := breakerCluster(service, limits.Break)
		b.add(ClusterType, name, cluster)
		b.add(EndpointType, endpoints, assignment(endpoints, b.scene.World, service, nil, netip.AddrPort{}))
	}
	if !b.arm(limits) {
		return ejects
	}
	b.keys.thresholds(string(service), limits.Break)
	b.keys.retries(string(service), limits.Break)
	if ProtocolOf(b.scene.World, service) == mesh.HTTP && !parks(drain) {
		b.keys.thresholds(Twin(service), limits.Break) // a request that is held is not refused
	}
	if ejects {
		b.keys[breakKey(service)] = 100
		b.keys.thresholds(name, limits.Break)
		b.keys.retries(name, limits.Break)
	}
	return ejects
}

// limit returns this proxy's part of the rate limit on key, nil if there is none, and
// turns it on if it is armed.
func (b *builder) limit(key mesh.OverlayKey) *share {
	for _, o := range b.overlays {
		if o.Key != key {
			continue
		}
		if b.arm(o) {
			b.keys[limitKeyOf(key)] = 100
		}
		return shareOf(o.Limit, sharers(b.scene.World, key))
	}
	return nil
}

// arm reports whether an overlay's runtime keys are on; if so its generation counts.
func (b *builder) arm(o *Staged) bool {
	if o == nil || !o.Armed {
		return false
	}
	b.generation = max(b.generation, o.Generation)
	return true
}

// overlay returns the overlay of a kind on the edge from this proxy to callee, the one
// for just this caller before the one for all, nil if there is none.
func (b *builder) overlay(kind mesh.OverlayKind, callee mesh.Service) *Staged {
	var found *Staged
	for _, o := range b.overlays {
		if o.Key.Kind == kind && o.Key.Callee == callee && Concerns(o.Key, b.proxy) &&
			(found == nil || o.Key.Caller != "") {
			found = o
		}
	}
	return found
}

// cluster adds the cluster called name with the endpoints of service.
func (b *builder) cluster(name string, service mesh.Service, drain *Staged) {
	protocol := ProtocolOf(b.scene.World, service)
	park := b.proxy.Park
	if protocol == mesh.TCP {
		park = tcpPark(drain)
	}
	b.assign(b.eds(name, protocol), service, drain, park)
}

// inbound adds the way to the proxy's own application.
func (b *builder) inbound() {
	p := b.proxy
	if !p.Inbound.IsValid() {
		return
	}
	protocol := ProtocolOf(b.scene.World, p.Service)
	b.keep(part{t: ClusterType, name: AppCluster, at: p.App, protocol: protocol}, func() proto.Message {
		return appCluster(p.App, protocol)
	})
	cuts := b.scene.Cuts[p.Node]
	b.keep(part{t: ListenerType, name: InboundListener, at: p.Inbound, protocol: protocol, n: cuts}, func() proto.Message {
		return inListener(p.Inbound, protocol, cuts)
	})
	if protocol == mesh.TCP {
		return
	}
	key := mesh.OverlayKey{Kind: mesh.OverlayLimit, Callee: p.Service}
	if limit := b.limit(key); limit != nil {
		b.add(RouteType, InboundListener, limited(inRoutes(), limit, limitKeyOf(key)))
		return
	}
	b.keep(part{t: RouteType, name: InboundListener}, func() proto.Message { return inRoutes() })
}

func (b *builder) add(t TypeURL, name string, m proto.Message) {
	b.append(t, resource(name, m))
}

func (b *builder) sort() {
	for _, t := range Types() {
		slices.SortFunc(b.out.Of(t), func(x, y Resource) int { return cmp.Compare(x.Name, y.Name) })
	}
}

// FindProxy returns the proxy with the node id, nil if there is none. O(log n).
func FindProxy(world *mesh.World, node string) *mesh.Proxy {
	if world == nil {
		return nil
	}
	i, found := slices.BinarySearchFunc(world.Proxies, node, func(p mesh.Proxy, n string) int {
		return cmp.Compare(p.Node, n)
	})
	if !found {
		return nil
	}
	return &world.Proxies[i]
}

// ProtocolOf returns what service speaks; HTTP for one that the world does not list.
func ProtocolOf(world *mesh.World, service mesh.Service) mesh.Protocol {
	if state := world.Find(service); state != nil && state.Protocol == mesh.TCP {
		return mesh.TCP
	}
	return mesh.HTTP
}

// Concerns reports whether an overlay with key changes what proxy does: whether it
// calls the callee, as one of the callers that the key names. A rate limit on all callers
// is kept by the callee's own proxies.
func Concerns(key mesh.OverlayKey, proxy *mesh.Proxy) bool {
	if key.Kind == mesh.OverlayLimit && key.Caller == "" {
		return proxy.Service == key.Callee && proxy.Inbound.IsValid()
	}
	if key.Caller != "" && key.Caller != proxy.Service {
		return false
	}
	for _, out := range proxy.Outbound {
		if out.Service == key.Callee {
			return true
		}
	}
	return false
}

// maxCuts bounds the search of CutsOf.
const maxCuts = 256

// CutsOf returns how often the inbound listener of a proxy was replaced to end streams,
// if version is the version that it has: a control plane that starts must not replace it
// again for having forgotten.
func CutsOf(world *mesh.World, node, version string) (uint64, bool) {
	proxy := FindProxy(world, node)
	if proxy == nil || !proxy.Inbound.IsValid() {
		return 0, false
	}
	protocol := ProtocolOf(world, proxy.Service)
	for cuts := range uint64(maxCuts) {
		if resource(InboundListener, inListener(proxy.Inbound, protocol, cuts)).Version == version {
			return cuts, true
		}
	}
	return 0, false
}
