package topology

import (
	"math/bits"
	"time"

	"github.com/sluicemesh/sluice/mesh"
)

// Source is a set of kinds of evidence for an edge.
type Source uint8

// Kinds of evidence.
const (
	Span       Source = 1 << iota // OTLP and other traces; may be sampled
	AccessLog                     // the caller's proxy; sees every request
	MeshMetric                    // metrics of a mesh; see every request
	Declared                      // configuration: not a call
)

// Names returns the kinds in s in a fixed order, as the API spells them.
func (s Source) Names() []string {
	names := make([]string, 0, bits.OnesCount8(uint8(s)))
	for _, kind := range []struct {
		source Source
		name   string
	}{{Span, "span"}, {AccessLog, "access-log"}, {MeshMetric, "mesh-metric"}, {Declared, "declared"}} {
		if s&kind.source != 0 {
			names = append(names, kind.name)
		}
	}
	return names
}

// Unsampled reports whether s has a kind of evidence that sees every request.
func (s Source) Unsampled() bool { return s&(AccessLog|MeshMetric) != 0 }

// Call is the evidence of one call, or of Weight equal ones.
type Call struct {
	Caller     mesh.Service  // "" = seen by the callee itself: statistics of Callee, no edge
	Callee     mesh.Service  // who was called
	Instance   string        // of the callee: its UID or the address called; "" = unknown
	At         time.Time     // end of the call
	Latency    time.Duration // from its start to At
	Failed     bool
	Source     Source // one of Span, AccessLog, MeshMetric
	Weight     uint64 // 0 = 1
	Connection bool   // a TCP connection, not a request: the weakest statistics
	Existence  bool   // shows that the edge exists and nothing else (clock skew, long connections)
}

// weight returns how many calls c stands for.
func (c *Call) weight() uint64 { return max(c.Weight, 1) }
