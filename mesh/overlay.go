package mesh

import "time"

// OverlayKind is what an overlay does; with the callee it is the overlay's key.
type OverlayKind string

// Overlay kinds, in their fixed order of composition over the base.
const (
	OverlayBreak OverlayKind = "circuit-break"
	OverlayLimit OverlayKind = "rate-limit"
	OverlayDrain OverlayKind = "drain"
)

// OverlayKey identifies an overlay; one owner plan holds it at a time.
type OverlayKey struct {
	Kind   OverlayKind
	Callee Service
	Caller Service // "" = every caller; else only that edge
}

// OnEmpty says what happens to requests for which a drain leaves no endpoint.
type OnEmpty string

// On-empty behaviours.
const (
	OnEmptyNone OnEmpty = ""     // other endpoints must be left
	OnEmptyHold OnEmpty = "hold" // requests wait at the caller's proxy
	OnEmptyShed OnEmpty = "shed" // 503 with Retry-After at once
)

// StreamPolicy says what a drain does to long-lived streams, websockets and TCP
// sessions, which never end by waiting.
type StreamPolicy string

// Stream policies.
const (
	StreamsWait   StreamPolicy = "wait"
	StreamsAsk    StreamPolicy = "ask"
	StreamsCut    StreamPolicy = "cut"
	StreamsRefuse StreamPolicy = "refuse"
)

// Overlay is a change over the mesh's own configuration. Generation grows with
// every change to the same key, also across restarts of the control plane.
type Overlay struct {
	Key        OverlayKey
	Plan       string
	Step       string
	Generation uint64
	Drain      *DrainOverlay
	Break      *BreakOverlay
	Limit      *LimitOverlay
	Lease      time.Duration // how long it may stay without being extended
}

// DrainOverlay takes traffic off instances of the callee.
type DrainOverlay struct {
	Instances []UID   // sorted; these get no new request
	Share     int     // percent of the callee's requests that obey the drain, 1-100
	To        Service // reroute there instead; "" = to the rest of the callee
	OnEmpty   OnEmpty
	Streams   StreamPolicy
	Hold      time.Duration // greatest time that a request is held, for OnEmptyHold
}

// BreakOverlay lowers circuit-breaker thresholds; 0 leaves a threshold alone.
type BreakOverlay struct {
	MaxRequests, MaxConnections, MaxPending, MaxRetries uint32
	Consecutive5xx                                      uint32 // outlier detection
}

// LimitOverlay limits requests to the callee.
type LimitOverlay struct {
	PerSecond float64
	Burst     uint32
}

// Grade is the strength of a proof that a target is out of service; A is best.
type Grade string

// Proof grades (docs/architecture.md, Proof).
const (
	GradeA Grade = "A" // every required proxy ACKed and reports zero, callee zero
	GradeB Grade = "B" // configuration shown acked by the mesh, callee zero
	GradeC Grade = "C" // callee quiet for the settle time
	GradeD Grade = "D" // nothing
)

// AtLeast reports whether g is as strong as floor. An unknown grade is weaker than D.
func (g Grade) AtLeast(floor Grade) bool { return g != "" && g <= floor && g <= GradeD }

// Proof is the summary of what was observed about a drained target. It states
// facts; whether they suffice is decided by the microkernel.
type Proof struct {
	Key        OverlayKey
	Generation uint64
	Required   int           // proxies that subscribed to the target since its last restart
	Acked      int           // of those, how many ACKed this generation
	Reported   int           // of those, how many reported loads after their ACK
	InFlight   int           // requests (and TCP sessions) on the target, callers' side, base and twin together
	Inbound    int           // the same at the callee's own proxies; -1 = no such proxy
	Quiet      time.Duration // how long both sides have been zero
	Cut        int           // streams or sessions that were cut to get there
	Lapsed     bool          // the lease ran out at some proxy
}

// Acks counts the proxies that took a change, and how long the slowest took.
type Acks struct {
	Required int
	Acked    int
	Last     time.Duration // from the push to the last ACK
}

// Capability says what can be done to a service, and how well it can be proved.
type Capability struct {
	Drain, Hold, Shed, Reroute, Limit, Break bool
	InPlace                                  bool  // restart without a new instance
	Grade                                    Grade // the best proof to be had
	Lapses                                   bool  // the overlay ends by itself when the lease does
	Proxyless                                bool  // gRPC clients without a proxy take part: what they cannot do is unsupported
}
