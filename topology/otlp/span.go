package otlp

import (
	"math"
	"time"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/topology"
)

// TwinSuffix ends the name of a callee's overlay cluster in Envoy's own spans.
const TwinSuffix = "~o"

// name is a valid name and whether it was registered when last asked.
type name struct {
	service mesh.Service
	known   bool
	batch   uint64 // of the last question
	number  uint32 // in the scanner's list, 0 = it is not there
}

// latestNames is how many names are found without a look-up in the map: those seen last,
// by length and last byte, where names differ.
const latestNames = 256

// service returns the name if it is valid and registered; else the counter of the
// reason why not. The registry is asked once a batch and name.
func (s *scanner) service(text []byte) (*name, *int64) {
	if n := len(text); n > 0 {
		latest := &s.latest[uint8(n*31)^text[n-1]]
		if found := *latest; found != nil && found.batch == s.batch && string(found.service) == string(text) {
			if found.known {
				return found, nil
			}
			return nil, &s.counts.Unknown
		}
		found, counter := s.lookUp(text)
		if counter == nil && found.number != 0 {
			*latest = found
		}
		return found, counter
	}
	return s.lookUp(text)
}

// lookUp is service for a name that was not among the latest.
func (s *scanner) lookUp(text []byte) (*name, *int64) {
	found := s.names[string(text)]
	if found == nil {
		parsed, err := mesh.ParseService(string(text))
		if err != nil {
			return nil, &s.counts.BadName
		}
		found = &name{service: parsed}
		s.ask(found)
		if found.known && len(s.names) < MaxNames {
			s.names[string(parsed)] = found
			s.list = append(s.list, found)
			found.number = uint32(len(s.list) - 1)
		}
	} else if found.batch != s.batch {
		s.ask(found)
	}
	if !found.known {
		return nil, &s.counts.Unknown
	}
	return found, nil
}

// ask asks whether n is registered now.
func (s *scanner) ask(n *name) {
	n.known, n.batch = s.config.Known == nil || s.config.Known(n.service), s.batch
}

// take turns a span of sender into calls, or counts why not.
func (s *scanner) take(sender *name, sp *span) {
	switch sp.kind {
	case kindServer:
		s.takeServer(sender, sp)
	case kindClient:
		s.takeClient(sender, sp)
	case kindProducer, kindConsumer:
		s.takeMessage(sender, sp)
	default:
		s.counts.Ignored++
	}
}

// takeServer counts what sender reports of itself, and the call of the parent if that
// did not say whom it called.
func (s *scanner) takeServer(sender *name, sp *span) {
	call := s.add()
	call.Callee = sender.service
	if !s.timed(call, sp) {
		s.drop(&s.counts.OutOfBounds)
		return
	}
	call.Failed = failed(sp)
	if call.Existence {
		s.counts.Existence++
	} else {
		s.counts.Served++
	}
	if sp.parent != 0 && sender.number != 0 {
		s.joinServer(sender, sp)
	}
}

// takeClient counts a call of sender.
func (s *scanner) takeClient(sender *name, sp *span) {
	callee, counter := s.callee(sender.service, sp)
	switch {
	case counter != nil:
		*counter++
		return
	case callee == nil && (sp.id == 0 || sender.number == 0):
		s.counts.Ignored++
		return
	}
	call := s.add()
	call.Caller = sender.service
	if !s.timed(call, sp) {
		s.drop(&s.counts.OutOfBounds)
		return
	}
	call.Failed = failed(sp)
	if callee == nil && !s.joinClient(sender, sp, call) {
		s.drop(&s.counts.Ignored)
		return
	}
	if callee != nil {
		call.Callee = callee.service
	}
	s.counted(call)
}

// counted counts a call that is an edge's.
func (s *scanner) counted(call *topology.Call) {
	if call.Existence {
		s.counts.Existence++
	} else {
		s.counts.Calls++
	}
}

// add appends a call to be filled in.
func (s *scanner) add() *topology.Call {
	n := len(s.calls)
	if n == cap(s.calls) {
		s.calls = append(s.calls, topology.Call{})
	}
	s.calls = s.calls[:n+1]
	call := &s.calls[n]
	*call = topology.Call{Source: topology.Span}
	return call
}

// drop takes back the last call and counts why.
func (s *scanner) drop(counter *int64) {
	s.calls = s.calls[:len(s.calls)-1]
	*counter++
}

// callee returns whom a CLIENT span called: peer.service, else Envoy's cluster, else
// whoever is served at the address; nil and no counter if it does not say.
func (s *scanner) callee(caller mesh.Service, sp *span) (*name, *int64) {
	switch {
	case len(sp.peer) > 0:
		return s.service(sp.peer)
	case len(sp.cluster) > 0:
		cluster := sp.cluster
		if n := len(cluster) - len(TwinSuffix); n >= 0 && string(cluster[n:]) == TwinSuffix {
			cluster = cluster[:n]
		}
		return s.service(cluster)
	case len(sp.host) > 0 && s.config.Resolve != nil && sp.port <= math.MaxUint16:
		if callee, found := s.config.Resolve(caller, string(sp.host), uint16(sp.port)); found {
			return &name{service: callee}, nil
		}
	}
	return nil, nil
}

// timed sets when call ended and how long it took; false if its time is absurd. A span
// whose times cannot be used shows only that the edge exists.
func (s *scanner) timed(call *topology.Call, sp *span) bool {
	end := int64(min(sp.end, math.MaxInt64))
	away := time.Duration(s.nano - end).Abs()
	if sp.end != 0 && away > MaxAge && sp.start <= sp.end && sp.start != 0 {
		return false
	}
	if sp.start == 0 || sp.end < sp.start || away > MaxSkew {
		call.At, call.Existence = s.now, true
		return true
	}
	call.At, call.Latency = time.Unix(0, end), time.Duration(sp.end-sp.start)
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
