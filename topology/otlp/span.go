package otlp

import (
	"math"
	"strings"
	"time"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/topology"
)

// TwinSuffix ends the name of a callee's overlay cluster in Envoy's own spans.
const TwinSuffix = "~o"

// service returns the name if it is valid and registered; else the counter of the
// reason why not.
func (s *scanner) service(name []byte) (mesh.Service, *int64) {
	service, seen := s.names[string(name)]
	if !seen {
		parsed, err := mesh.ParseService(string(name))
		if err != nil {
			return "", &s.counts.BadName
		}
		service = parsed
		if len(s.names) < MaxNames && (s.config.Known == nil || s.config.Known(service)) {
			s.names[string(service)] = service
		}
	}
	if s.config.Known != nil && !s.config.Known(service) {
		return "", &s.counts.Unknown
	}
	return service, nil
}

// take turns a span of service into a call, or counts why not.
func (s *scanner) take(service mesh.Service, sp *span) {
	call := topology.Call{Source: topology.Span}
	switch sp.kind {
	case kindServer:
		call.Callee = service
	case kindClient:
		callee, counter := s.callee(service, sp)
		if counter != nil {
			*counter++
			return
		}
		call.Caller, call.Callee = service, callee
	default:
		s.counts.Ignored++
		return
	}
	if !s.timed(&call, sp) {
		s.counts.OutOfBounds++
		return
	}
	call.Failed = failed(sp)
	switch {
	case call.Existence:
		s.counts.Existence++
	case sp.kind == kindServer:
		s.counts.Served++
	default:
		s.counts.Calls++
	}
	s.calls = append(s.calls, call)
}

// callee returns whom a CLIENT span called: peer.service, else Envoy's cluster, else
// whoever is served at the address.
func (s *scanner) callee(caller mesh.Service, sp *span) (mesh.Service, *int64) {
	switch {
	case len(sp.peer) > 0:
		return s.service(sp.peer)
	case len(sp.cluster) > 0:
		return s.service([]byte(strings.TrimSuffix(string(sp.cluster), TwinSuffix)))
	case len(sp.host) > 0 && s.config.Resolve != nil && sp.port <= math.MaxUint16:
		if callee, found := s.config.Resolve(caller, string(sp.host), uint16(sp.port)); found {
			return callee, nil
		}
	}
	return "", &s.counts.Ignored
}

// timed sets when call ended and how long it took; false if its time is absurd. A span
// whose times cannot be used shows only that the edge exists.
func (s *scanner) timed(call *topology.Call, sp *span) bool {
	end := time.Unix(0, int64(min(sp.end, math.MaxInt64)))
	away := s.now.Sub(end).Abs()
	if sp.end != 0 && away > MaxAge && sp.start <= sp.end && sp.start != 0 {
		return false
	}
	if sp.start == 0 || sp.end < sp.start || away > MaxSkew {
		call.At, call.Existence = s.now, true
		return true
	}
	call.At, call.Latency = end, time.Duration(sp.end-sp.start)
	return true
}

// failed reports whether the callee is to blame: a client's 4xx sets the status of the
// span, but is the caller's fault.
func failed(sp *span) bool {
	if sp.httpStatus != 0 {
		return sp.httpStatus >= 500
	}
	return sp.status == statusError
}
