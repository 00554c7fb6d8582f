package microkernel

import (
	"fmt"
	"strings"
	"time"

	"github.com/sluicemesh/sluice/mesh"
)

// quietAlone is how long a callee must be quiet where nothing but its silence speaks
// for it (grade C): it stands for twice the p99.9 of a request's duration.
const quietAlone = 2 * time.Second

// Grade judges a proof that the target of the overlay of generation is out of service:
//
//	A  every required proxy ACKed and reports zero since, the callee's own proxies
//	   count zero, all of it for settle
//	B  every required proxy ACKed, the callee's own proxies count zero for settle
//	   (loads of the callers are not all reported)
//	C  the callee is quiet for max(settle, 2 s), or, where it has no proxy of its own,
//	   every required proxy ACKed and reports zero for that long
//	D  nothing of that, another generation, or a lease that lapsed somewhere
//
// It is the predicate that opens the gate before every restart.
func Grade(p mesh.Proof, generation Generation, settle time.Duration) mesh.Grade {
	if p.Lapsed || Generation(p.Generation) != generation || generation == 0 || !sane(p) {
		return mesh.GradeD
	}
	acked := p.Acked == p.Required
	reported := acked && p.Reported == p.Required
	silent := p.InFlight == 0 && p.Inbound <= 0
	if planted("one-in-flight") {
		silent = p.InFlight <= 1
		p.Inbound, p.Quiet = 0, max(p.Quiet, settle)
	}
	switch own := p.Inbound == 0; {
	case !silent || p.Quiet < settle:
		return mesh.GradeD
	case own && reported:
		return mesh.GradeA
	case own && acked:
		return mesh.GradeB
	case (own || reported && p.Required > 0) && p.Quiet >= max(settle, quietAlone):
		return mesh.GradeC
	}
	return mesh.GradeD
}

// sane reports whether the counts can be true at all.
func sane(p mesh.Proof) bool {
	return p.Acked >= 0 && p.Acked <= p.Required && p.Reported >= 0 && p.Reported <= p.Required &&
		p.InFlight >= 0 && p.Inbound >= -1
}

// shut says in words why a proof falls short of least.
func shut(p mesh.Proof, generation Generation, settle time.Duration, least mesh.Grade) string {
	var why []string
	add := func(format string, args ...any) { why = append(why, fmt.Sprintf(format, args...)) }
	switch {
	case Generation(p.Generation) != generation:
		add("the proof is of generation %d, not %d", p.Generation, generation)
	case p.Lapsed:
		add("the lease lapsed at a proxy")
	case !sane(p):
		add("the counts of the proof contradict each other")
	}
	if p.Acked < p.Required {
		add("%d of %d proxies ACKed", p.Acked, p.Required)
	} else if p.Reported < p.Required {
		add("%d of %d proxies reported their load", p.Reported, p.Required)
	}
	if n := p.InFlight + max(p.Inbound, 0); n == 1 {
		add("1 request in flight")
	} else if n > 1 {
		add("%d requests in flight", max(p.InFlight, p.Inbound))
	} else if p.Quiet < settle {
		add("quiet for %v of %v", p.Quiet, settle)
	}
	if p.Inbound < 0 && least <= mesh.GradeB {
		add("the target has no proxy of its own")
	}
	if len(why) == 0 {
		add("the proof is of grade %s, policy demands %s", Grade(p, generation, settle), least)
	}
	return strings.Join(why, "; ")
}
