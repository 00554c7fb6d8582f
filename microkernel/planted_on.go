//go:build planted

package microkernel

// Bug is one bug that can be planted, to see whether an invariant finds it.
type Bug struct {
	Name   string
	Breaks string // the invariant that it is meant to break
	Kind   string
}

var (
	plantedBug  string // the one that is switched on, "" = none
	outsideLast Generation
)

// Plant switches one bug on, "" none. Not while a Step runs.
func Plant(name string) { plantedBug, outsideLast = name, 0 }

func planted(name string) bool { return name == plantedBug }

// outside is memory that no journal restores.
func outside() Generation {
	outsideLast++
	return outsideLast
}

// Bugs returns every bug that can be planted, in the order of the invariants.
func Bugs() []Bug {
	return []Bug{
		{"drain-of-one-more", "I1", "a drain takes the last instance, too"},
		{"undo-to-nothing", "I1", "undoing a Scale asks for 0 replicas"},
		{"former-off-by-one", "I1", "undoing a Scale asks for one more than there were"},
		{"limit-unlocked", "I1", "a limited service is forgotten in the write set"},
		{"ack-is-proof", "I2", "the ACK of the proxies opens the gate"},
		{"one-in-flight", "I2", "< 1 written as <= 1 in the proof's predicate"},
		{"floor-off-by-one", "I3", ">= written as > in the floor of a drain"},
		{"headroom-forgotten", "I3", "the load is not looked at"},
		{"reroute-unchecked", "I3", "where traffic is sent is not looked at"},
		{"quorum-unchecked", "I3", "the quorum is not looked at"},
		{"no-second-look", "I3", "the facts are not looked at again before a drain or a restart"},
		{"floor-on-first-view", "I3", "the floor of a drain is judged on the facts of the verdict"},
		{"crowd-unchecked", "I3", "callers without headroom are not looked at"},
		{"locks-released-early", "I4", "an abort gives the locks back before it is undone"},
		{"first-lock-only", "I4", "only the first locks of two plans are compared"},
		{"frozen-holds-nothing", "I4", "the locks of a frozen plan are given to another"},
		{"undo-skips-unacked", "I5", "an overlay that nobody ACKed is not withdrawn"},
		{"withdraw-unwatched", "I5", "no timer for the answer to a Withdraw"},
		{"limit-never-expires", "I5", "no timer for the end of a lease"},
		{"probe-unwatched", "I5", "a new leader does not look again"},
		{"strays-left", "I5", "an overlay that no plan owns is left where it is"},
		{"lost-generation-left", "I5", "of an overlay that a lost journal renewed the known generation is withdrawn"},
		{"stray-tried-once", "I5", "nobody looks whether such an overlay is gone"},
		{"generation-outside-state", "I6", "generations are counted outside the state"},
		{"edits-in-place", "I6", "Step changes the state that it was given"},
		{"compaction-forgets-timers", "I5", "a compacted journal does not know what is to be waited for"},
		{"restarts-again", "I6", "a new leader orders again what was confirmed"},
		{"proof-outlives-leader", "I7", "a proof of the former leader opens the gate"},
		{"acts-while-recovering", "I7", "gates open before the world was looked at"},
		{"term-not-taken", "I7", "a new leader's term is not taken over"},
		{"reason-forgotten", "I8", "an abort says no reason"},
		{"remedy-dropped", "I8", "a refusal says no remedy"},
		{"restart-unrecorded", "I8", "the new incarnation is not recorded"},
		{"own-approval", "I9", "a proposer approves a plan of his own"},
		{"anybody-approves", "I9", "a proposer approves"},
		{"favourite", "I9", "one agent has no budget, by its name"},
		{"rate-by-name", "I9", "some names are not metered"},
	}
}
