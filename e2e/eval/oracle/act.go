package oracle

// Kind is what an act does.
type Kind string

// Kinds of acts.
const (
	TakeOff  Kind = "take-off"  // no new request goes to some instances
	GiveBack Kind = "give-back" // what was taken off gets requests again
	Reboot   Kind = "reboot"    // instances stop and start; the act ends when they are ready
	Rollout  Kind = "rollout"   // all instances, one after another, as Kubernetes rolls a Deployment
	Limit    Kind = "limit"     // no more than a share of the load is let through
	Scale    Kind = "scale"     // so many instances are left
)

// Empty is what becomes of requests for which no instance is left.
type Empty string

// What becomes of them.
const (
	Fail   Empty = ""
	Hold   Empty = "hold"
	Shed   Empty = "shed"
	Astray Empty = "astray" // they go to another service, which does not know them
)

// Act is one thing that is done to one service.
type Act struct {
	Kind      Kind
	Service   int32
	Instances []int   // of TakeOff, GiveBack, Reboot; nil = all
	Empty     Empty   // of TakeOff
	Deadline  float64 // of TakeOff: seconds after which a gate that stays shut ends everything
	Gated     bool    // of Reboot: not before the instances are proved to have no request
	Share     float64 // of Limit: of the load that is let through, 0..1
	Replicas  int     // of Scale
	Lasts     float64 // of TakeOff and Limit that are left in force: seconds
	Together  bool    // it begins with the act before it, not after it
}

// Script is what is done, in order.
type Script struct {
	Acts    []Act
	Watched bool // harm is noticed after Notice, and then everything is given back
}

// Times and limits of the judge, in seconds.
const (
	Notice    = 10.0 // until a watched overload is noticed and undone: the floor for strong harm
	Tolerated = 35.0 // 5 s of grace and 30 s: the label of record
	Emptying  = 0.1  // until the requests in flight have ended, and their number is known
)

// Why says in which way a service is harmed.
type Why string

// Ways of harm.
const (
	InFlight  Why = "in-flight" // requests that it was working on were lost when it stopped
	Gap       Why = "gap"       // requests came while nothing was there to take them
	Sticky    Why = "sticky"    // a caller over a sticky call was left with traffic and without a callee
	Component Why = "component" // members of a component ran while others of it had restarted
	Order     Why = "order"     // started while something that it calls was off; or emptied behind a hold
	Held      Why = "held"      // requests were held for longer than their callers wait
	Overload  Why = "overload"  // too few instances for longer than Tolerated
	Refused   Why = "refused"   // requests were shed, limited away, or sent astray
)

// Whys lists all ways of harm, in a fixed order.
func Whys() []Why {
	return []Why{InFlight, Gap, Sticky, Component, Order, Held, Overload, Refused}
}

// Outcome is what a script came to.
type Outcome struct {
	Harmed    []int32     // sorted; all services that a request failed at, or that stay slow
	Lasting   []int32     // sorted; of Harmed, those harmed for longer than Tolerated: the label of record
	Why       map[Why]int // causes, each with how many services it began at
	Restarted []int32     // sorted; services of which every instance was restarted
	Aborted   bool        // a gate stayed shut, or harm was noticed: the rest was not done
	Cured     bool        // the faulty service restarted, and its callers work with it
}

// Useful reports whether the fault is cured and nobody harmed.
func (o *Outcome) Useful() bool { return o.Cured && len(o.Harmed) == 0 }
