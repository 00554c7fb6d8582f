package isa

import (
	"strings"

	"github.com/sluicemesh/sluice/mesh"
)

// none stands for "no drain on purpose" where a restart names its drain.
const none = "none"

func (d *decoder) program(root *Node) Program {
	s := d.object(root, "", "id", "epoch", "deadline", "steps", "verify")
	p := Program{
		ID:       s.id("id", true),
		Epoch:    s.text("epoch", false, CodeDecode, tokenFault),
		Deadline: s.duration("deadline", false),
	}
	steps := s.list("steps", MaxSteps)
	if root.Kind == Object && root.field("steps") == nil {
		s.get("steps", true)
	}
	for i := range steps {
		p.Steps = append(p.Steps, d.step(&steps[i], s.item("steps", i)))
	}
	checks := s.list("verify", MaxSteps)
	for i := range checks {
		p.Verify = append(p.Verify, d.check(&checks[i], s.item("verify", i)))
	}
	return p
}

func (d *decoder) check(n *Node, path string) Check {
	s := d.object(n, path, "service", "for")
	s.get("for", true)
	return Check{Service: s.service("service", true), For: s.duration("for", false)}
}

// actions lists the instructions in the order of the documentation.
func actions() []Kind {
	return []Kind{
		KindRestart, KindDrain, KindRestoreTraffic, KindCircuitBreak,
		KindRateLimit, KindScale, KindRollbackConfig, KindAwait,
	}
}

func (d *decoder) step(n *Node, path string) Step {
	known := []string{"id", "after"}
	for _, kind := range actions() {
		known = append(known, string(kind))
	}
	s := d.object(n, path, known...)
	step := Step{
		ID:    StepID(s.id("id", true)),
		After: texts[StepID](s, "after", MaxSteps, func(t string) string { return idFault(t, maxID) }),
	}
	for _, kind := range actions() {
		field := s.node.field(string(kind))
		switch {
		case field == nil:
		case step.Action != nil:
			d.fault(field.NameAt, CodeDecode, path, "a step has one action, this has two", "make it two steps")
		default:
			s.get(string(kind), true)
			step.Action = d.action(kind, field, s.sub(string(kind)))
		}
	}
	if step.Action == nil && !s.void && !d.trusted {
		d.fault(n.At, CodeDecode, path, "the step has no action", "one of "+strings.Join(known[2:], ", "))
	}
	return step
}

func (d *decoder) action(kind Kind, n *Node, path string) Action {
	switch kind {
	case KindRestart:
		return d.restart(n, path)
	case KindDrain:
		return d.drain(n, path)
	case KindRestoreTraffic:
		s := d.object(n, path, "drain", "ramp")
		return RestoreTraffic{Drain: StepID(s.id("drain", true)), Ramp: s.duration("ramp", true)}
	case KindCircuitBreak:
		return d.circuitBreak(n, path)
	case KindRateLimit:
		return d.rateLimit(n, path)
	case KindScale:
		s := d.object(n, path, "target", "replicas")
		replicas, _ := s.count("replicas", true, MaxReplicas)
		return Scale{Target: s.target(), Replicas: int(replicas)}
	case KindRollbackConfig:
		s := d.object(n, path, "object", "revision")
		return RollbackConfig{
			Object:   s.text("object", true, CodeName, objectFault),
			Revision: s.text("revision", true, CodeName, tokenFault),
		}
	}
	s := d.object(n, path, "drain", "until")
	s.get("until", true)
	return Await{
		Drain: StepID(s.id("drain", true)),
		Until: AwaitUntil(s.word("until", string(AwaitRestore), string(AwaitLease))),
	}
}

func (d *decoder) restart(n *Node, path string) Action {
	s := d.object(n, path, "target", "mode", "drain", "deadline")
	r := Restart{
		Target:   s.target(),
		Mode:     Mode(s.word("mode", string(Rolling), string(Replace), string(InPlace))),
		Drain:    StepID(s.id("drain", false)),
		Deadline: s.duration("deadline", false),
	}
	if r.Drain == none {
		r.Drain, r.NoDrain = "", true
	}
	return r
}

func (d *decoder) drain(n *Node, path string) Action {
	s := d.object(n, path, "target", "share", "to", "onEmpty", "streams", "deadline", "lease")
	return Drain{
		Target:  s.target(),
		Share:   int(s.positive("share", CodeRange, 100)),
		To:      s.service("to", false),
		OnEmpty: mesh.OnEmpty(s.word("onEmpty", string(mesh.OnEmptyHold), string(mesh.OnEmptyShed))),
		Streams: mesh.StreamPolicy(s.word("streams", string(mesh.StreamsWait), string(mesh.StreamsAsk),
			string(mesh.StreamsCut), string(mesh.StreamsRefuse))),
		Deadline: s.duration("deadline", false),
		Lease:    s.duration("lease", false),
	}
}

func (d *decoder) circuitBreak(n *Node, path string) Action {
	s := d.object(n, path, "target", "caller", "maxRequests", "maxConnections", "maxPending", "maxRetries",
		"consecutive5xx", "lease")
	threshold := func(name string, zero Code) uint32 { return uint32(s.positive(name, zero, MaxThreshold)) }
	return CircuitBreak{
		Target:         s.target(),
		Caller:         s.service("caller", false),
		MaxRequests:    threshold("maxRequests", CodeEquivalentToDrain),
		MaxConnections: threshold("maxConnections", CodeEquivalentToDrain),
		MaxPending:     threshold("maxPending", CodeEquivalentToDrain),
		MaxRetries:     threshold("maxRetries", CodeRange),
		Consecutive5xx: threshold("consecutive5xx", CodeRange),
		Lease:          s.duration("lease", false),
	}
}

func (d *decoder) rateLimit(n *Node, path string) Action {
	s := d.object(n, path, "target", "caller", "perSecond", "burst", "lease")
	return RateLimit{
		Target:    s.target(),
		Caller:    s.service("caller", false),
		PerSecond: s.rate("perSecond"),
		Burst:     uint32(s.positive("burst", CodeEquivalentToDrain, MaxThreshold)),
		Lease:     s.duration("lease", false),
	}
}

// target decodes the field "target".
func (s scope) target() Target {
	n := s.get("target", true)
	if n == nil {
		return Target{}
	}
	t := s.d.object(n, s.sub("target"), "service", "instance", "uid", "uids", "zone", "version", "group")
	out := Target{
		Service:  t.service("service", false),
		Instance: t.text("instance", false, CodeName, labelFault),
		UID:      mesh.UID(t.text("uid", false, CodeName, tokenFault)),
		Zone:     t.text("zone", false, CodeName, selectorFault),
		Version:  t.text("version", false, CodeName, selectorFault),
		Group:    texts[mesh.Service](t, "group", MaxGroup, serviceFault),
		UIDs:     texts[mesh.UID](t, "uids", MaxExpandedSteps, tokenFault),
	}
	if n.Kind == Object && !s.d.trusted {
		t.oneTarget()
	}
	return out
}

// oneTarget checks which fields of a target go together.
func (s scope) oneTarget() {
	has := func(name string) bool { return s.node.field(name) != nil }
	group := s.node.field("group")
	subset := has("zone") || has("version")
	switch {
	case !has("service") && group == nil:
		s.d.fault(s.node.At, CodeDecode, s.path, "the target names neither a service nor a group", "add service")
	case group != nil && len(s.node.Kids) > 1:
		s.d.fault(group.NameAt, CodeDecode, s.path, "group stands alone in a target", "remove the other fields")
	case group != nil && group.Kind == List && len(group.Kids) == 0:
		s.d.fault(group.At, CodeDecode, s.path, "the group is empty", "name its services")
	case has("instance") && (has("uid") || has("uids") || subset), has("uid") && (has("uids") || subset):
		s.d.fault(s.node.At, CodeDecode, s.path, "the target is narrowed in two ways",
			"keep one of instance, uid, subset")
	}
}
