// Package microkernel is the trusted core: a pure step function
//
//	Step(State, Event) (State, []Effect)
//
// that admits plans, locks what they touch, and carries them out as transactions.
// It is total and deterministic: no clock, no I/O, no randomness, no goroutine, so
// that replaying the journal rebuilds the state. Events are facts, journalled by
// the driver before their effects are performed; effects are idempotent orders that
// may be performed more than once. It is not for talking to anything: package
// driver does that.
//
// Life of a plan:
//
//	proposed -> verdict -> (held -> approved) -> queued -> locked
//	  -> running: per step {gates -> effect -> confirmed} -> verifying -> committed
//	  or -> compensating (in reverse) -> compensated
//	  or -> frozen, with a page
package microkernel
