package kube

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/sluicemesh/sluice/mesh"
)

// Prefix of every annotation and label that Sluice reads or writes.
const Prefix = "sluicemesh.io/"

// Annotations of a pod that has a sidecar; `sluice inject` writes them into the template.
const (
	// AnnotationInbound is the port at which the sidecar takes what is for the application,
	// on the pod's address; its presence says that there is a sidecar.
	AnnotationInbound = Prefix + "inbound"
	// AnnotationApp is the port on the pod's loopback at which the application listens; without it
	// the port is what the service's first port targets.
	AnnotationApp = Prefix + "app"
	// AnnotationPark is the address of the sidecar's parking listener.
	AnnotationPark = Prefix + "park"
	// AnnotationUpstreams is a JSON list of Upstream: what the sidecar serves, and where.
	AnnotationUpstreams = Prefix + "upstreams"
	// AnnotationService is the NAME of the service, in the pod's namespace, that the pod is an
	// instance of, when several select it.
	AnnotationService = Prefix + "service"
	// AnnotationGateway names the gateway that a pod is, an Envoy alone: outside/NAME.
	AnnotationGateway = Prefix + "gateway"
)

// Annotations of a Service.
const (
	AnnotationProtocol  = Prefix + "protocol"  // http (default) or tcp
	AnnotationObjective = Prefix + "objective" // "p99=100ms,errors=0.1%"
	AnnotationProtected = Prefix + "protected" // "true": never a target
	AnnotationQuorum    = Prefix + "quorum"    // least ready members
	AnnotationStartup   = Prefix + "startup"   // P99 of a restart, a duration
)

// Defaults of a sidecar.
const (
	DefaultInbound = 15006
	DefaultPark    = "127.0.0.1:15020"
)

// Upstream is one entry of AnnotationUpstreams.
type Upstream struct {
	Service string `json:"service"`           // NAMESPACE/NAME
	Listen  string `json:"listen"`            // address and port at which the sidecar serves it
	Timeout string `json:"timeout,omitempty"` // of one request; "0s" = unbounded, "" = 15s
	Sticky  bool   `json:"sticky,omitempty"`  // the caller does not survive its restart
}

// Bounds of an annotation, which whoever may write pods may write.
const (
	maxUpstreams  = 256
	maxAnnotation = 64 << 10
)

// outbound is one upstream as the world has it.
type outbound struct {
	mesh.Outbound
	sticky bool
}

// parseUpstreams reads an AnnotationUpstreams strictly, "" = none.
func parseUpstreams(text string) ([]outbound, error) {
	if text == "" {
		return nil, nil
	}
	if len(text) > maxAnnotation {
		return nil, fmt.Errorf("%d bytes, at most %d are read", len(text), maxAnnotation)
	}
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.DisallowUnknownFields()
	var list []Upstream
	if err := decoder.Decode(&list); err != nil {
		return nil, fmt.Errorf("at byte %d: %w", decoder.InputOffset(), err)
	}
	if decoder.More() {
		return nil, fmt.Errorf("at byte %d: something after the list", decoder.InputOffset())
	}
	if len(list) > maxUpstreams {
		return nil, fmt.Errorf("%d upstreams, at most %d are served", len(list), maxUpstreams)
	}
	out := make([]outbound, len(list))
	seen := map[mesh.Service]bool{}
	for i := range list {
		o, err := list[i].parse()
		if err != nil {
			return nil, fmt.Errorf("upstream %d: %w", i, err)
		}
		if seen[o.Service] {
			return nil, fmt.Errorf("upstream %d: %s is listed twice", i, o.Service)
		}
		seen[o.Service] = true
		out[i] = o
	}
	return out, nil
}

func (u *Upstream) parse() (outbound, error) {
	service, err := mesh.ParseService(u.Service)
	if err != nil {
		return outbound{}, err
	}
	listen, err := netip.ParseAddrPort(u.Listen)
	if err != nil || listen.Port() == 0 {
		return outbound{}, fmt.Errorf("listen %+q is not ADDRESS:PORT, such as 127.1.0.1:8080", u.Listen)
	}
	timeout := mesh.DefaultUpstreamTimeout
	if u.Timeout != "" {
		if timeout, err = time.ParseDuration(u.Timeout); err != nil || timeout < 0 {
			return outbound{}, fmt.Errorf("timeout %+q is no duration of 0s or more", u.Timeout)
		}
	}
	return outbound{Outbound: mesh.Outbound{Service: service, Listen: listen, Timeout: timeout}, sticky: u.Sticky}, nil
}

// parsePort reads a port.
func parsePort(text string) (uint16, error) {
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil || port == 0 {
		return 0, fmt.Errorf("%+q is no port", text)
	}
	return uint16(port), nil
}

// parseObjective reads an AnnotationObjective, "" = none.
func parseObjective(text string) (mesh.Objective, error) {
	var o mesh.Objective
	if text == "" {
		return o, nil
	}
	for part := range strings.SplitSeq(text, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		switch name {
		case "p99":
			d, err := time.ParseDuration(value)
			if err != nil || d <= 0 {
				return mesh.Objective{}, fmt.Errorf("p99 %+q is no duration above 0", value)
			}
			o.P99 = d
		case "errors":
			number, isPercent := strings.CutSuffix(value, "%")
			share, err := strconv.ParseFloat(number, 64)
			if !isPercent || err != nil || !(share > 0 && share <= 100) {
				return mesh.Objective{}, fmt.Errorf("errors %+q is no share such as 0.1%%", value)
			}
			o.Errors = share / 100
		default:
			return mesh.Objective{}, errors.New("want p99=DURATION, errors=SHARE%, or both with a comma")
		}
	}
	return o, nil
}

// Node is the xDS node id of a pod's sidecar, or of a gateway pod: it names the pod for
// people, and by its UID it is another after the pod was replaced under the same name.
func Node(namespace, name, uid string) string { return namespace + "/" + name + "/" + uid }
