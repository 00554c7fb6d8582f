package xds

import (
	"errors"
	"fmt"
	"strings"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/local_ratelimit/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	runtimev3 "github.com/envoyproxy/go-control-plane/envoy/service/runtime/v3"
	"google.golang.org/protobuf/types/known/anypb"
)

// Check reports every reference that leads nowhere: Envoy ACKs a route to a cluster
// that does not exist, and then answers 503. nil if there is none.
func (r *Resources) Check() error {
	c := checker{resources: r, keys: map[string]bool{generationKey: true}}
	for _, t := range Types() {
		list := r.Of(t)
		for i := range list {
			if i > 0 && list[i].Name <= list[i-1].Name {
				c.fault("%s %q is out of order or there twice", t.Short(), list[i].Name)
			}
			c.resource(&list[i])
		}
	}
	c.runtime()
	return errors.Join(c.faults...)
}

type checker struct {
	resources *Resources
	keys      map[string]bool // runtime keys that something asks for
	faults    []error
}

// references are what one resource needs and asks for.
type references struct {
	needs []need
	keys  []string // of the runtime layer
	fault error
}

// need is another resource that must be there.
type need struct {
	t    TypeURL
	name string
	by   string
}

func (c *checker) fault(format string, args ...any) {
	c.faults = append(c.faults, fmt.Errorf(format, args...))
}

func (c *checker) resource(r *Resource) {
	refs := r.refs
	if refs == nil {
		refs = referencesOf(r)
	}
	if refs.fault != nil {
		c.faults = append(c.faults, refs.fault)
	}
	for i := range refs.needs {
		n := &refs.needs[i]
		if c.resources.Find(n.t, n.name) == nil {
			c.fault("%s needs %s %q, which there is not", n.by, n.t.Short(), n.name)
		}
	}
	for _, key := range refs.keys {
		c.keys[key] = true
	}
}

// referencesOf reads what a resource refers to out of its message.
func referencesOf(r *Resource) *references {
	refs := new(references)
	switch m := r.Message.(type) {
	case *clusterv3.Cluster:
		if m.GetType() == clusterv3.Cluster_EDS {
			refs.need(EndpointType, m.GetEdsClusterConfig().GetServiceName(), "cluster "+r.Name)
		}
	case *listenerv3.Listener:
		if api := m.GetApiListener().GetApiListener(); api != nil {
			refs.filter(r.Name, api)
		}
		for _, chain := range m.GetFilterChains() {
			for _, filter := range chain.GetFilters() {
				refs.filter(r.Name, filter.GetTypedConfig())
			}
		}
	case *routev3.RouteConfiguration:
		for _, host := range m.GetVirtualHosts() {
			refs.limits(r.Name, host)
			for _, route := range host.GetRoutes() {
				refs.route(r.Name, route)
			}
		}
	}
	return refs
}

func (r *references) need(t TypeURL, name, by string) { r.needs = append(r.needs, need{t, name, by}) }

func (r *references) filter(listener string, config *anypb.Any) {
	message, err := config.UnmarshalNew()
	if err != nil {
		r.fault = errors.Join(r.fault, fmt.Errorf("listener %s: %w", listener, err))
		return
	}
	switch f := message.(type) {
	case *hcmv3.HttpConnectionManager:
		r.need(RouteType, f.GetRds().GetRouteConfigName(), "listener "+listener)
	case *tcpv3.TcpProxy:
		r.need(ClusterType, f.GetCluster(), "listener "+listener)
	}
}

func (r *references) route(config string, route *routev3.Route) {
	if key := route.GetMatch().GetRuntimeFraction().GetRuntimeKey(); key != "" {
		r.keys = append(r.keys, key)
	}
	if action := route.GetRoute(); action != nil {
		r.need(ClusterType, action.GetCluster(), "route "+config)
	}
}

// limits notes the runtime key of a host's rate limit.
func (r *references) limits(config string, host *routev3.VirtualHost) {
	packed := host.GetTypedPerFilterConfig()[limitFilter]
	if packed == nil {
		return
	}
	limit := new(ratelimitv3.LocalRateLimit)
	if err := packed.UnmarshalTo(limit); err != nil {
		r.fault = errors.Join(r.fault, fmt.Errorf("route %s: %w", config, err))
		return
	}
	r.keys = append(r.keys, limit.GetFilterEnabled().GetRuntimeKey())
}

// runtime demands that somebody asks for each key that is set.
func (c *checker) runtime() {
	for _, r := range c.resources.Runtime {
		layer, ok := r.Message.(*runtimev3.Runtime)
		if !ok {
			continue
		}
		for key := range layer.GetLayer().GetFields() {
			if !c.keys[key] && key != samplingKey && !strings.HasPrefix(key, "circuit_breakers.") {
				c.fault("runtime key %q is asked for by no route", key)
			}
		}
	}
}

// Armed reports whether any overlay key is on: only then has the runtime resource a
// lease that must be renewed.
func (r *Resources) Armed() bool {
	for i := range r.Runtime {
		if layer, ok := r.Runtime[i].Message.(*runtimev3.Runtime); ok && len(layer.GetLayer().GetFields()) > 1 {
			return true
		}
	}
	return false
}
