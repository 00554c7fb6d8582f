// Package driver is the loop around the pure core: it turns the outside world into
// events, journals them, steps the kernel, and performs the effects. It is not for
// deciding anything: every decision is microkernel.Step's.
//
//	surfaces --Submit, Abort, ...--> +--------- one goroutine ----------+
//	timers   --Fired---------------> | event -> journal -> Step -> state | --publish--> readers
//	ports    --Applied, Proved, ..-> +-------------- effects -----------+
//	                                        | one goroutine an effect
//	                                        v
//	                      Traffic, Processes, Monitor, Pager (ports.go)
//
// No effect is performed before the event that caused it is durable. When the journal
// cannot be written the driver freezes itself: no new effect but Withdraw, Page and
// the end of effects under way, and every submission is refused with code frozen.
package driver
