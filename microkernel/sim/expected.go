package sim

import (
	"fmt"

	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/microkernel"
)

// zeros lists what a simulation must come across and did not.
func zeros(c *Counts) []string {
	var out []string
	need := func(kind string, counts map[string]int, names ...string) {
		for _, name := range names {
			if counts[name] == 0 {
				out = append(out, fmt.Sprintf("%s %s", kind, name))
			}
		}
	}
	need("fault", c.Faults, "nack", "silent-proxy", "late-ack", "slow-request", "lost-load-report", "lost-answer", "late-answer",
		"duplicate-answer", "late-timer", "stale-probe", "slow-probe", "foreign-writer", "withdraw-failed", "failed-restart", "slow-restart",
		"scale-failed", "rollback-failed", "owner-change", "long-outage", "crash-before-sync", "crash-after-sync", "crash-mid-effects", "crash-after-effects",
		"broken-mesh", "clock-back", "clock-forward", "corrupt-journal", "older-copy", "split-brain", "stale-effect",
		"stale-effect-refused", "stale-answer", "compaction", "compaction-under-plans", "crash-before-compaction", "crash-after-compaction",
		"long-lived-snapshot", "crowded", "measured", "headroom-change", "floor-change", "floor-on-old-view", "stray", "resumed-while-recovering", "incident", "epoch-change", "pause", "abort", "judged-harm", "judged-clean", "judged-not-recovered", "judged-inconclusive")
	need("phase", c.Phases, "held", "queued", "running", "verifying", "compensating", "committed", "compensated", "frozen", "refused")
	need("crash in phase", c.CrashPhases, "held", "queued", "running", "verifying", "compensating")
	need("invariant", c.Invariants, "I1", "I2", "I3", "I4", "I5", "I6", "I7", "I8", "I9")
	need("effect", c.Effects, "Answer", "Recheck", "Apply", "Prove", "Extend", "Withdraw", "Reboot", "SetReplicas", "SetRevision", "Watch",
		"Unwatch", "SetTimer", "StopTimer", "Probe", "Page", "Finish")
	for _, m := range isa.Meanings() {
		if _, not := unreachable()[m.Code]; !not {
			need("code", c.Rejected, string(m.Code))
		}
	}
	need("proposer", c.Principals, "rules", "olga", "mallory")
	for _, phase := range []microkernel.Phase{microkernel.Committed, microkernel.Compensated, microkernel.Frozen} {
		if c.Plans[phase] == 0 {
			out = append(out, "plan "+string(phase))
		}
	}
	if c.Crashes == 0 || c.DoubleCrashes == 0 {
		out = append(out, "double crash")
	}
	return out
}

// unreachable are the codes that no verdict of the simulation can have, each with why.
// Every other one must be met.
func unreachable() map[isa.Code]string {
	return map[isa.Code]string{
		isa.CodeDecode: "proposers hand in programs, not text: packages isa and isa/codec decode, and are fuzzed",
		isa.CodeAuthn:  "the surfaces know who asks, or answer themselves",
	}
}
