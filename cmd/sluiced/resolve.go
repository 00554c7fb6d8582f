package main

import (
	"net/netip"
	"strings"

	"github.com/sluicemesh/sluice/mesh"
)

// addresses says which services are at which addresses of a world; it is never changed.
type addresses struct {
	world  *mesh.World
	served map[netip.AddrPort]mesh.Service // by instances
	routes map[route]mesh.Service          // by the proxies of a caller
}

type route struct {
	caller mesh.Service
	at     netip.AddrPort
}

func addressesOf(world *mesh.World) *addresses {
	a := &addresses{world: world, served: map[netip.AddrPort]mesh.Service{}, routes: map[route]mesh.Service{}}
	for i := range world.Services {
		for _, instance := range world.Services[i].Instances {
			for _, at := range []netip.AddrPort{instance.App, instance.Inbound} {
				if at.IsValid() {
					a.served[at] = world.Services[i].Name
				}
			}
		}
	}
	for i := range world.Proxies {
		for _, out := range world.Proxies[i].Outbound {
			a.routes[route{world.Proxies[i].Service, out.Listen}] = out.Service
		}
	}
	return a
}

// resolve names the service that caller reaches at host and port: an address of an
// instance or of the caller's own proxy, or a name as cluster DNS has it.
func (a *addresses) resolve(caller mesh.Service, host string, port uint16) (mesh.Service, bool) {
	if ip, err := netip.ParseAddr(host); err == nil {
		at := netip.AddrPortFrom(ip.Unmap(), port)
		if service, found := a.routes[route{caller, at}]; found {
			return service, true
		}
		service, found := a.served[at]
		return service, found
	}
	name, rest, _ := strings.Cut(strings.TrimSuffix(host, "."), ".")
	namespace, domain, _ := strings.Cut(rest, ".")
	if namespace == "" {
		namespace = caller.Namespace()
	}
	service := mesh.Service(namespace + "/" + name)
	if domain != "" && domain != "svc" && !strings.HasPrefix(domain, "svc.") || a.world.Find(service) == nil {
		return "", false
	}
	return service, true
}

// resolve is addresses.resolve in the present world.
func (d *daemon) resolve(caller mesh.Service, host string, port uint16) (mesh.Service, bool) {
	world := d.feed.World()
	a := d.addresses.Load()
	if a == nil || a.world != world {
		a = addressesOf(world)
		d.addresses.Store(a)
	}
	return a.resolve(caller, host, port)
}
