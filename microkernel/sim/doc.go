// Package sim runs the microkernel in a deterministic world: simulated services,
// proxies, processes, clock, journal on a lossy disk, and proposers of whom one is
// hostile. It is not for measuring a real mesh, nor for the driver's code: it stands in
// for the driver and everything below it.
//
//	proposers --> event --> [journal, synced] --> Step --> effects --> world
//	                 ^                 crash at any arrow               |
//	                 +------ answers: late, twice, out of order, lost <-+
//
// One seed gives one run, always the same. After every event the kernel's invariants
// are checked on its state and the world's on the world, where the truth about requests
// in flight is known; after every crash the replayed state is compared with the one
// that was lost. At the end the world is made fair (nothing fails any more), and every
// plan must come to its end with no overlay left.
package sim
