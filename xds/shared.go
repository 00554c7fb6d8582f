package xds

import (
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/sluicemesh/sluice/mesh"
)

// Shared keeps the resources that scenes are built of, so that what is equal in two
// proxies, or in a scene and the next, is made and marshalled once and is one piece of
// memory. The zero value is ready. It is not safe for concurrent use.
type Shared struct {
	made map[part]made
}

// part is what a resource depends on, but for the endpoints of its service.
type part struct {
	t        TypeURL
	name     string
	at       netip.AddrPort
	timeout  time.Duration
	protocol mesh.Protocol
	n        uint64
	caller   mesh.Service // whose spans it sends, "" = none
}

// made is a resource, and of endpoints what it was made of.
type made struct {
	Resource
	endpoints string // the name of a cluster's endpoints
	from      sources
}

// sources are the instances behind endpoints, and the drain that changes them.
type sources struct {
	own, to []mesh.Instance
	drain   *mesh.DrainOverlay // a copy
	back    int
}

// Trim forgets everything if there is more than so many resources: names that are gone are
// not taken out one by one.
func (s *Shared) Trim(most int) {
	if len(s.made) > most {
		s.made = nil
	}
}

func (s *Shared) put(key part, m made) {
	if s.made == nil {
		s.made = map[part]made{}
	}
	s.made[key] = m
}

// keep adds the resource that key stands for, which build makes if it is not there.
func (b *builder) keep(key part, build func() proto.Message) {
	found, has := b.scene.lookup(key)
	if !has {
		found.Resource = resource(key.name, build())
		b.scene.remember(key, found)
	}
	b.append(key.t, found.Resource)
}

func (s *Scene) lookup(key part) (made, bool) {
	if s.Shared == nil {
		return made{}, false
	}
	m, has := s.Shared.made[key]
	return m, has
}

func (s *Scene) remember(key part, m made) {
	if s.Shared != nil {
		s.Shared.put(key, m)
	}
}

// eds adds the cluster called name, and returns the name of its endpoints.
func (b *builder) eds(name string, protocol mesh.Protocol) string {
	key := part{t: ClusterType, name: name, protocol: protocol}
	found, has := b.scene.lookup(key)
	if !has {
		cluster, endpoints := edsCluster(name, protocol)
		found = made{Resource: resource(name, cluster), endpoints: endpoints}
		b.scene.remember(key, found)
	}
	b.append(ClusterType, found.Resource)
	return found.endpoints
}

// assign adds the endpoints of service under a name; see assignment.
func (b *builder) assign(name string, service mesh.Service, drain *Staged, park netip.AddrPort) {
	if !parks(drain) {
		park = netip.AddrPort{}
	}
	key, from := part{t: EndpointType, name: name, at: park}, b.sources(service, drain)
	found, has := b.scene.lookup(key)
	if !has || !found.from.equal(&from) {
		found = made{Resource: resource(name, assignment(name, b.scene.World, service, drain, park)), from: from.clone()}
		b.scene.remember(key, found)
	}
	b.append(EndpointType, found.Resource)
}

func (b *builder) sources(service mesh.Service, drain *Staged) sources {
	var out sources
	if state := b.scene.World.Find(service); state != nil {
		out.own = state.Instances
	}
	if drain == nil {
		return out
	}
	out.drain, out.back = drain.Drain, drain.Back
	if to := b.scene.World.Find(drain.Drain.To); drain.Drain.To != "" && to != nil {
		out.to = to.Instances
	}
	return out
}

func (s *sources) equal(o *sources) bool {
	return s.back == o.back && slices.Equal(s.own, o.own) && slices.Equal(s.to, o.to) &&
		(s.drain == nil) == (o.drain == nil) && (s.drain == nil || reflect.DeepEqual(s.drain, o.drain))
}

// clone copies what its owner may still change. Instances are of a world, which nobody does.
func (s *sources) clone() sources {
	out := *s
	if s.drain != nil {
		drain := *s.drain
		drain.Instances = slices.Clone(drain.Instances)
		out.drain = &drain
	}
	return out
}

// park adds the parking listener and its routes.
func (b *builder) park(at netip.AddrPort) {
	b.keep(part{t: ListenerType, name: parkName, at: at}, func() proto.Message { return parkListener(at) })
	var upstreams strings.Builder
	for _, out := range b.http {
		upstreams.WriteString(string(out.Service) + " " + strconv.FormatInt(int64(out.Timeout), 10) + "\n")
	}
	// The name is parkName; what follows it tells proxies with other upstreams apart.
	key := part{t: RouteType, name: parkName + "\n" + upstreams.String()}
	found, has := b.scene.lookup(key)
	if !has {
		found.Resource = resource(parkName, parkRoutes(b.http))
		b.scene.remember(key, found)
	}
	b.append(RouteType, found.Resource)
}

func (b *builder) append(t TypeURL, r Resource) {
	list := b.out.list(t)
	*list = append(*list, r)
}
