package sim

import (
	"fmt"

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
		"duplicate-answer", "late-timer", "stale-probe", "foreign-writer", "withdraw-failed", "failed-restart", "slow-restart",
		"scale-failed", "long-outage", "crash-before-sync", "crash-after-sync", "crash-mid-effects", "crash-after-effects",
		"epoch-change", "pause", "abort", "judged-harm", "judged-clean", "judged-not-recovered", "judged-inconclusive")
	need("phase", c.Phases, "held", "queued", "running", "verifying", "compensating", "committed", "compensated", "frozen", "refused")
	need("crash in phase", c.CrashPhases, "held", "queued", "running", "verifying", "compensating")
	need("invariant", c.Invariants, "I1", "I2", "I3", "I4", "I5", "I6", "I7", "I8", "I9")
	need("effect", c.Effects, "Answer", "Recheck", "Apply", "Prove", "Extend", "Withdraw", "Reboot", "SetReplicas", "Watch",
		"Unwatch", "SetTimer", "StopTimer", "Probe", "Page", "Finish")
	need("code", c.Rejected, "agent-budget", "aggregate-budget", "authz", "conflict", "drain-budget", "drain-required", "id-conflict",
		"insufficient-evidence", "no-capacity", "observe", "paused", "propose", "quorum", "rate", "restart-budget", "stale-epoch",
		"too-slow", "unsupported")
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
