package isa

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/sluicemesh/sluice/mesh"
)

// Least outlier rule: fewer errors in a row happen to healthy instances too, so that a
// lower threshold would eject them all.
const minConsecutive5xx = 3

// operands checks the operands of one action that need no knowledge of the world.
func (c *checker) operands(i int) {
	switch at := c.l.Lines[i].At; c.l.Lines[i].Op {
	case OpRestart:
		a := &c.l.Restarts[at]
		c.word(i, "mode", string(a.Mode), "", string(Rolling), string(Replace), string(InPlace))
		c.span(i, "deadline", a.Deadline, MaxDuration)
		if a.NoDrain && a.Drain != "" {
			c.add(i, "drain", CodeDecode, "the restart both has a drain and declines one", "keep one of them")
		}
	case OpDrain:
		c.drain(i, &c.l.Drains[at])
	case OpRestore:
		c.span(i, "ramp", c.l.Restores[at].Ramp, MaxDuration)
	case OpBreak:
		c.circuitBreak(i, &c.l.Breaks[at])
	case OpLimit:
		c.rateLimit(i, &c.l.Limits[at])
	case OpScale:
		switch n := c.l.Scales[at].Replicas; {
		case n < 0 || n > MaxReplicas:
			c.add(i, "replicas", CodeRange, fmt.Sprintf("%d replicas", n), fmt.Sprintf("1 to %d", MaxReplicas))
		case n == 0:
			c.add(i, "replicas", CodeScaleFloor, "0 replicas leave nothing to serve",
				"ask for 1 or more; use drain to take traffic off")
		}
	case OpRollback:
		a := &c.l.Rollbacks[at]
		if reason := objectFault(a.Object); reason != "" {
			c.add(i, "object", CodeName, quote(a.Object)+" "+reason, "write KIND/NAMESPACE/NAME")
		}
		if reason := tokenFault(a.Revision); reason != "" {
			c.add(i, "revision", CodeName, quote(a.Revision)+" "+reason, "name a revision")
		}
	case OpAwait:
		c.word(i, "until", string(c.l.Awaits[at].Until), string(AwaitRestore), string(AwaitLease))
	}
}

func (c *checker) word(i int, operand, word string, words ...string) {
	if !slices.Contains(words, word) {
		c.add(i, operand, CodeDecode, operand+" "+quote(word), "write one of the documented words")
	}
}

// span checks that a duration is in [0, limit]; 0 is the default.
func (c *checker) span(i int, operand string, d, limit time.Duration) {
	if d < 0 || d > limit {
		c.add(i, operand, CodeRange, operand+" "+formatDuration(d), "above 0s, at most "+formatDuration(limit))
	}
}

// granted is span with a lower limit that only an approval lifts.
func (c *checker) granted(i int, operand string, d, limit time.Duration) {
	switch {
	case d < 0 || d > MaxDuration:
		c.span(i, operand, d, MaxDuration)
	case d > limit:
		c.add(i, operand, CodeTooSlow, fmt.Sprintf("%s %s is above the limit of %s", operand, formatDuration(d),
			formatDuration(limit)),
			"shorten it, or have the plan approved")
	}
}

func (c *checker) drain(i int, a *Drain) {
	if a.Share < 0 || a.Share > 100 {
		c.add(i, "share", CodeRange, fmt.Sprintf("share %d %%", a.Share), "1 to 100")
	}
	if a.To != "" {
		c.reroute(i, a)
	}
	c.word(i, "onEmpty", string(a.OnEmpty), "", string(mesh.OnEmptyHold), string(mesh.OnEmptyShed))
	c.word(i, "streams", string(a.Streams), "", string(mesh.StreamsWait), string(mesh.StreamsAsk),
		string(mesh.StreamsCut), string(mesh.StreamsRefuse))
	c.granted(i, "deadline", a.Deadline, c.limits.MaxDrainDeadline)
	c.granted(i, "lease", a.Lease, c.limits.MaxLease)
	if !narrowed(&a.Target) && a.To == "" && a.OnEmpty == mesh.OnEmptyNone {
		c.add(i, "target", CodeNoCapacity, "every instance is drained and nothing is said of the requests",
			"narrow the target, or add to, hold or shed")
	}
}

func (c *checker) reroute(i int, a *Drain) {
	if reason := serviceFault(string(a.To)); reason != "" {
		c.add(i, "to", CodeName, quote(string(a.To))+" "+reason, "name a service")
	}
	if a.OnEmpty != mesh.OnEmptyNone {
		c.add(i, "onEmpty", CodeDecode, "to and "+string(a.OnEmpty)+" exclude each other", "keep one of them")
	}
	if a.To == a.Target.Service {
		c.add(i, "to", CodeNoCapacity, "requests would be sent back to "+quote(string(a.To)),
			"reroute to another service")
	}
}

func (c *checker) circuitBreak(i int, a *CircuitBreak) {
	c.edge(i, a.Caller, a.Lease)
	if a.MaxRequests|a.MaxConnections|a.MaxPending|a.MaxRetries|a.Consecutive5xx == 0 {
		c.add(i, "", CodeEquivalentToDrain, "every threshold is zero or left out", "set a threshold")
	}
	if a.Consecutive5xx > 0 && a.Consecutive5xx < minConsecutive5xx {
		c.add(i, "consecutive5xx", CodeEquivalentToDrain,
			fmt.Sprintf("%d errors in a row happen to healthy instances", a.Consecutive5xx),
			fmt.Sprintf("%d or more", minConsecutive5xx))
	}
	for _, t := range thresholds(a) {
		if t.value > MaxThreshold {
			c.add(i, t.field, CodeRange, fmt.Sprintf("%s %d", t.field, t.value), fmt.Sprintf("at most %d",
				MaxThreshold))
		}
	}
}

type threshold struct {
	field string
	value uint32
	load  bool // it bounds concurrent load
}

func thresholds(a *CircuitBreak) [5]threshold {
	return [5]threshold{
		{"maxRequests", a.MaxRequests, true}, {"maxConnections", a.MaxConnections, true},
		{"maxPending", a.MaxPending, true}, {"maxRetries", a.MaxRetries, false}, {"consecutive5xx",
			a.Consecutive5xx, false},
	}
}

func (c *checker) rateLimit(i int, a *RateLimit) {
	c.edge(i, a.Caller, a.Lease)
	switch rate := a.PerSecond; {
	case math.IsNaN(rate) || rate < 0 || rate > MaxPerSecond:
		c.add(i, "perSecond", CodeRange, "rate "+formatRate(rate), fmt.Sprintf("above 0, at most %d",
			int64(MaxPerSecond)))
	case rate == 0:
		c.add(i, "perSecond", CodeEquivalentToDrain, "a rate of 0 lets nothing pass",
			"use drain, or a rate near the load")
	}
	if a.Burst > MaxThreshold {
		c.add(i, "burst", CodeRange, fmt.Sprintf("burst %d", a.Burst), fmt.Sprintf("at most %d", MaxThreshold))
	}
}

// edge checks what CircuitBreak and RateLimit have in common.
func (c *checker) edge(i int, caller mesh.Service, lease time.Duration) {
	c.granted(i, "lease", lease, c.limits.MaxLease)
	if caller == "" {
		return
	}
	if reason := serviceFault(string(caller)); reason != "" {
		c.add(i, "caller", CodeName, quote(string(caller))+" "+reason, "name a service")
	}
}

// target checks the form of an action's target and that it may be one at all.
func (c *checker) target(i int) {
	t, op := c.l.Target(i), c.l.Lines[i].Op
	if op == OpRollback {
		object := c.l.Rollbacks[c.l.Lines[i].At].Object
		if service := objectService(object); objectFault(object) == "" {
			c.protect(i, "object", service, c.limits.guard(service, false))
		}
	}
	if t == nil {
		return
	}
	switch {
	case len(t.Group) > 0 && (op != OpRestart || t.Service != "" || narrowed(t)):
		c.add(i, "target", CodeUnsupported, "a group is only for restart, and alone in the target", "name one service")
		return
	case narrowed(t) && op != OpRestart && op != OpDrain:
		c.add(i, "target", CodeUnsupported, string(op.Kind())+" is about a whole service", "name the service alone")
	}
	c.names(i, t)
	for k := range t.services() {
		service := t.service(k)
		m := c.cast.member(service)
		if m.fault != "" {
			c.add(i, "target", CodeName, quote(string(service))+" "+m.fault, "name a service")
			continue
		}
		if len(t.Group) > 0 && slices.Index(t.Group, service) < k {
			c.add(i, "target", CodeName, string(service)+" is twice in the group", "name it once")
		}
		c.protect(i, "target", service, m.guard)
	}
}

// names checks the narrowing parts of a target; a parser has done so, but programs are
// also made in Go.
func (c *checker) names(i int, t *Target) {
	if !narrowed(t) {
		return
	}
	faults := [...]struct{ text, reason string }{
		{t.Instance, optional(t.Instance, labelFault)},
		{string(t.UID), optional(string(t.UID), tokenFault)},
		{t.Zone, optional(t.Zone, selectorFault)},
		{t.Version, optional(t.Version, selectorFault)},
	}
	for _, f := range faults {
		if f.reason != "" {
			c.add(i, "target", CodeName, quote(f.text)+" "+f.reason, "name what exists")
		}
	}
	for _, uid := range t.UIDs {
		if reason := tokenFault(string(uid)); reason != "" {
			c.add(i, "target", CodeName, quote(string(uid))+" "+reason, "name what exists")
		}
	}
}

func optional(text string, check func(string) string) string {
	if text == "" {
		return ""
	}
	return check(text)
}

// services is how many services t is about.
func (t *Target) services() int { return max(1, len(t.Group)) }

// service returns number k of the services that t is about.
func (t *Target) service(k int) mesh.Service {
	if len(t.Group) > 0 {
		return t.Group[k]
	}
	return t.Service
}

// place notes which service step i is about.
func (c *checker) place(i int) {
	number := -1
	if t := c.l.Target(i); t != nil && t.Service != "" {
		number = c.cast.number(t.Service)
	}
	c.acting = append(c.acting, number)
}

// number returns the number in the cast of service k of t, the target of step i.
func (c *checker) number(i int, t *Target, k int) int {
	if known := c.acting[i]; known >= 0 && len(t.Group) == 0 {
		return known
	}
	return c.cast.number(t.service(k))
}

// about returns what is known of service k of t, the target of step i; nil if nothing is.
func (c *checker) about(i int, t *Target, k int) *ServiceFacts {
	if t.service(k) == "" {
		return nil
	}
	return c.cast.members[c.number(i, t, k)].facts
}

// protect refuses a target that nobody may act on, for the reason that code names.
func (c *checker) protect(i int, operand string, service mesh.Service, code Code) {
	switch code {
	case CodeSelf:
		c.add(i, operand, code, string(service)+" is part of Sluice itself", "restart it by hand")
	case CodeProtectedNamespace:
		c.add(i, operand, code, "namespace "+service.Namespace()+" is protected by policy", "act on it by hand")
	case CodeProtected:
		c.add(i, operand, code, string(service)+" is protected by policy", "act on it by hand")
	}
}

// facts returns what is known of service, nil if nothing is.
func (c *checker) facts(service mesh.Service) *ServiceFacts {
	if service == "" { // of an action without a target
		return nil
	}
	return c.cast.member(service).facts
}
