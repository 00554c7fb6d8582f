package isa

import "github.com/sluicemesh/sluice/mesh"

// EffectClass says what a plan's abort can do about an instruction that has run.
type EffectClass string

// Effect classes.
const (
	Restartable   EffectClass = "restartable"      // forward only
	Reversible    EffectClass = "reversible"       // an overlay that can be removed
	Closing       EffectClass = "closes its drain" // a closed pair is not reopened
	Compensatable EffectClass = "compensatable"    // set back to what was recorded
	Waiting       EffectClass = "no effect"        // await
)

// Effect is one row of the effect table: the semantics of an instruction.
type Effect struct {
	Kind     Kind
	Word     string // in compact text
	Operands string
	Class    EffectClass
	Writes   string // the write set: all that the instruction may change
	UndoneBy string
}

// Effects returns the effect table, in the order of the documentation.
func Effects() []Effect {
	return []Effect{
		{KindRestart, "restart",
			"target (instance, subset, service, group), mode rolling / replace / in-place, drain, deadline",
			Restartable, "the processes of the target's instances", "nothing: forward only (wait, escalate, page)"},
		{KindDrain, "drain", "target (instance, subset, service), share 1-100 %, `to` or on-empty hold / shed, " +
			"streams wait / ask / cut / refuse, deadline, lease",
			Reversible, "overlay (drain, callee)", "restoreTraffic"},
		{KindRestoreTraffic, "restore", "the drain, ramp",
			Closing, "overlay (drain, callee) of its drain: removed", "nothing: a closed pair is not reopened"},
		{KindCircuitBreak, "break", "callee or edge, thresholds, outlier rule, lease",
			Reversible, "overlay (circuit-break, callee, caller)", "removal of the overlay"},
		{KindRateLimit, "limit", "callee or edge, rate, burst, lease",
			Reversible, "overlay (rate-limit, callee, caller)", "removal of the overlay"},
		{KindScale, "scale", "service, replicas",
			Compensatable, "the wanted number of instances", "the recorded former number"},
		{KindRollbackConfig, "rollback", "object, revision that was good",
			Compensatable, "the object", "the recorded revision"},
		{KindAwait, "await", "the drain, until restore / lease",
			Waiting, "nothing", "nothing: its drain is restored on abort"},
	}
}

// ClassOf returns the effect class of kind, "" for no instruction.
func ClassOf(kind Kind) EffectClass {
	for _, effect := range Effects() {
		if effect.Kind == kind {
			return effect.Class
		}
	}
	return ""
}

// Writes returns the overlay keys that a may write, nil if it writes none. The key of a
// RestoreTraffic is that of its drain.
func Writes(a Action) []mesh.OverlayKey {
	switch a := a.(type) {
	case Drain:
		return []mesh.OverlayKey{{Kind: mesh.OverlayDrain, Callee: a.Target.Service}}
	case CircuitBreak:
		return []mesh.OverlayKey{{Kind: mesh.OverlayBreak, Callee: a.Target.Service, Caller: a.Caller}}
	case RateLimit:
		return []mesh.OverlayKey{{Kind: mesh.OverlayLimit, Callee: a.Target.Service, Caller: a.Caller}}
	}
	return nil
}

// Inverse returns the instruction that undoes step s once it is confirmed. Former is what
// was recorded before s ran: a Scale or RollbackConfig with the former value, else nil.
// It reports false where no instruction undoes s: Restart, RestoreTraffic and Await for
// good, CircuitBreak and RateLimit because their overlays are simply removed.
func Inverse(s Step, former Action) (Action, bool) {
	switch s.Action.(type) {
	case Drain:
		return RestoreTraffic{Drain: s.ID}, true
	case Scale, RollbackConfig:
		return former, former != nil && former.Kind() == s.Action.Kind()
	}
	return nil, false
}
