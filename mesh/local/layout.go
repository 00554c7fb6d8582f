package local

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/sluicemesh/sluice/mesh"
)

// seat is where one instance stands: its names and addresses, fixed for as long as
// its supervisor lives.
type seat struct {
	spec     *Spec
	child    string // "shop.cart-0"
	instance string // "cart-0"
	uid      mesh.UID
	app      netip.AddrPort
	proxy    *mesh.Proxy // nil = no Envoy
}

// inbound is where callers reach the instance.
func (s *seat) inbound() netip.AddrPort {
	if s.proxy == nil {
		return s.app
	}
	return s.proxy.Inbound
}

// layout is where everything listens.
type layout struct {
	seats   []*seat // by service, then by number
	gateway *mesh.Proxy
	api     netip.AddrPort
	otlp    netip.AddrPort
}

// Names of children besides the instances.
const (
	controlChild = "sluiced"
	agentsChild  = "agents"
)

// envoySuffix makes the name of a sidecar from that of its application.
const envoySuffix = ".envoy"

// gatewayChild is the name of the ingress Envoy's child.
func gatewayChild(in *Ingress) string { return mesh.OutsideNamespace + "." + in.Name }

// planner lays out a mesh.
type planner struct {
	file     *File
	identity *identity
	ports    *ports
	proxies  bool              // run Envoys
	held     func(string) bool // whether the child of that name lives already
	plan     *layout
	err      error // the first fault; later calls do nothing
}

// lay gives every listener an address and every instance its UID.
func (p *planner) lay() (*layout, error) {
	p.plan = &layout{api: p.port(controlChild, "api"), otlp: p.port(controlChild, "otlp")}
	services := make([]*Spec, len(p.file.Services))
	for i := range p.file.Services {
		services[i] = &p.file.Services[i]
	}
	slices.SortFunc(services, func(a, b *Spec) int { return cmp.Compare(a.Name, b.Name) })
	for _, spec := range services {
		for i := range spec.Instances {
			p.plan.seats = append(p.plan.seats, p.seat(spec, i))
		}
	}
	if p.proxies && p.file.Ingress != nil {
		p.plan.gateway = p.ingress(p.file.Ingress)
	}
	if p.err != nil {
		return nil, p.err
	}
	return p.plan, p.ports.save()
}

// port takes the port of a child's listener.
func (p *planner) port(child, listener string) netip.AddrPort {
	if p.err != nil {
		return netip.AddrPort{}
	}
	address, err := p.ports.take(child+"/"+listener, p.held(child))
	p.err = err
	return address
}

// seat lays out one instance.
func (p *planner) seat(spec *Spec, number int) *seat {
	instance := fmt.Sprintf("%s-%d", spec.Name.Name(), number)
	s := &seat{spec: spec, child: spec.Name.Namespace() + "." + instance, instance: instance}
	s.uid = p.identity.get(s.child).UID
	s.app = p.port(s.child, "app")
	if !p.proxies {
		return s
	}
	envoy := s.child + envoySuffix
	s.proxy = &mesh.Proxy{
		Node: string(spec.Name) + "/" + instance, Service: spec.Name, Instance: s.uid,
		Admin: p.port(envoy, "admin"), Inbound: p.port(envoy, "inbound"), Park: p.port(envoy, "park"), App: s.app,
	}
	for _, up := range spec.Upstreams {
		s.proxy.Outbound = append(s.proxy.Outbound, mesh.Outbound{
			Service: up.Service, Listen: p.port(envoy, "out/"+string(up.Service)), Timeout: up.Timeout,
		})
	}
	return s
}

// ingress lays out the gateway.
func (p *planner) ingress(in *Ingress) *mesh.Proxy {
	child := gatewayChild(in)
	name := mesh.Service(mesh.OutsideNamespace + "/" + in.Name)
	proxy := &mesh.Proxy{
		Node: string(name), Service: name, Admin: p.port(child, "admin"), Park: p.port(child, "park"),
	}
	listen := netip.AddrPort{}
	switch {
	case p.err != nil:
	case in.Port == 0:
		listen = p.port(child, "listen")
	default:
		listen, p.err = p.ports.fixed(child+"/listen", uint16(in.Port), p.held(child))
	}
	proxy.Outbound = []mesh.Outbound{{Service: in.Service, Listen: listen, Timeout: in.Timeout}}
	return proxy
}

// upstream returns the address at which s reaches an upstream: its own Envoy, or,
// where there is none, the upstream's first instance itself.
func (l *layout) upstream(s *seat, name mesh.Service) netip.AddrPort {
	if s.proxy != nil {
		for _, out := range s.proxy.Outbound {
			if out.Service == name {
				return out.Listen
			}
		}
	}
	for _, other := range l.seats {
		if other.spec.Name == name {
			return other.app
		}
	}
	return netip.AddrPort{}
}

// values returns what the placeholders of s stand for.
func (l *layout) values(s *seat) values {
	v := values{port: s.app.Port(), instance: s.instance, upstreams: make(map[mesh.Service]netip.AddrPort)}
	for _, up := range s.spec.Upstreams {
		v.upstreams[up.Service] = l.upstream(s, up.Service)
	}
	return v
}

// appOrder says how to start the application of s, but for its incarnation.
func (l *layout) appOrder(s *seat, path, dir string) order {
	v := l.values(s)
	o := order{Name: s.child, Role: RoleApp, Path: path, Dir: dir}
	for _, argument := range s.spec.Command {
		o.Argv = append(o.Argv, v.fill(argument))
	}
	o.Env = []string{
		"OTEL_EXPORTER_OTLP_ENDPOINT=http://" + l.otlp.String(),
		"OTEL_EXPORTER_OTLP_PROTOCOL=grpc",
		"OTEL_SERVICE_NAME=" + string(s.spec.Name),
	}
	for _, variable := range s.spec.Env {
		o.Env = append(o.Env, variable.Name+"="+v.fill(variable.Value))
	}
	o.Env = append(o.Env, instanceVar+"="+s.instance)
	return o
}
