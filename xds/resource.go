package xds

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// TypeURL names a resource type.
type TypeURL string

// The types that we serve, in the order in which a proxy may take them.
const (
	ClusterType  TypeURL = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
	EndpointType TypeURL = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
	ListenerType TypeURL = "type.googleapis.com/envoy.config.listener.v3.Listener"
	RouteType    TypeURL = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
	RuntimeType  TypeURL = "type.googleapis.com/envoy.service.runtime.v3.Runtime"
)

// Types returns all types, clusters first.
func Types() []TypeURL {
	return []TypeURL{ClusterType, EndpointType, ListenerType, RouteType, RuntimeType}
}

// Short returns the discovery service's short name of t: "CDS", "EDS", ...; t itself
// if we do not serve it.
func (t TypeURL) Short() string {
	switch t {
	case ClusterType:
		return "CDS"
	case EndpointType:
		return "EDS"
	case ListenerType:
		return "LDS"
	case RouteType:
		return "RDS"
	case RuntimeType:
		return "RTDS"
	}
	return string(t)
}

// Resource is one marshalled resource. It is immutable and may be shared.
type Resource struct {
	Name    string
	Version string // a hash of Body
	Body    *anypb.Any
	Message proto.Message

	refs *references // of Message; nil = not read yet
}

// Resources is everything that one proxy gets, by type; each list is sorted by name.
// The zero value is a proxy that gets nothing. It is immutable once built.
type Resources struct {
	Clusters, Endpoints, Listeners, Routes, Runtime []Resource
}

// Of returns the resources of one type, nil for a type that we do not serve.
func (r *Resources) Of(t TypeURL) []Resource {
	if list := r.list(t); list != nil {
		return *list
	}
	return nil
}

func (r *Resources) list(t TypeURL) *[]Resource {
	switch t {
	case ClusterType:
		return &r.Clusters
	case EndpointType:
		return &r.Endpoints
	case ListenerType:
		return &r.Listeners
	case RouteType:
		return &r.Routes
	case RuntimeType:
		return &r.Runtime
	}
	return nil
}

// Find returns the resource of type t called name, nil if there is none.
func (r *Resources) Find(t TypeURL, name string) *Resource {
	list := r.Of(t)
	i, found := slices.BinarySearchFunc(list, name, func(r Resource, n string) int { return cmp.Compare(r.Name, n) })
	if !found {
		return nil
	}
	return &list[i]
}

// Same reports whether a and b have the same resources of type t in the same versions.
func Same(a, b *Resources, t TypeURL) bool {
	return identical(a.Of(t), b.Of(t)) || slices.EqualFunc(a.Of(t), b.Of(t), func(x, y Resource) bool {
		return x.Name == y.Name && x.Version == y.Version
	})
}

// Union returns a's resources of type t, and those of b that a does not have.
func Union(a, b *Resources, t TypeURL) []Resource {
	if a, b := a.Of(t), b.Of(t); identical(a, b) || slices.EqualFunc(a, b, sameName) {
		return a
	}
	out := slices.Clone(a.Of(t))
	for _, r := range b.Of(t) {
		if a.Find(t, r.Name) == nil {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(x, y Resource) int { return cmp.Compare(x.Name, y.Name) })
	return out
}

// identical reports whether a and b are the same piece of memory.
func identical(a, b []Resource) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

func sameName(x, y Resource) bool { return x.Name == y.Name }

// Reuse replaces the lists of r that say the same as those of former by the latter's, so
// that they are told to be equal at one look. It returns the types of the others.
func (r *Resources) Reuse(former *Resources) []TypeURL {
	var changed []TypeURL
	for _, t := range Types() {
		if Same(r, former, t) {
			*r.list(t) = former.Of(t)
			continue
		}
		changed = append(changed, t)
	}
	return changed
}

// With returns r with the list of type t replaced.
func (r *Resources) With(t TypeURL, resources []Resource) Resources {
	out := *r
	if list := out.list(t); list != nil {
		*list = resources
	}
	return out
}

// resource marshals m and hashes the bytes.
func resource(name string, m proto.Message) Resource {
	body := pack(m)
	r := Resource{Name: name, Version: digest(body.GetValue(), 16), Body: body, Message: m}
	r.refs = referencesOf(&r)
	return r
}

// pack wraps m in an Any, with the same bytes each time.
func pack(m proto.Message) *anypb.Any {
	out := new(anypb.Any)
	if err := anypb.MarshalFrom(out, m, proto.MarshalOptions{Deterministic: true}); err != nil {
		panic("xds: a message of our own does not marshal: " + err.Error())
	}
	return out
}

// digest returns the first n hex digits of the SHA-256 of data.
func digest(data []byte, n int) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])[:n]
}
