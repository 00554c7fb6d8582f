// Package topology turns evidence of calls into the call graph, its components and
// recovery groups. It is pure: it reads no clock, does no I/O, starts nothing and is
// not safe for concurrent use; a Snapshot never changes and may be shared freely.
// It is not for parsing telemetry: topology/otlp and topology/als do that; nor for
// deciding: what it says is advice to a planner and a fact to the microkernel.
//
//	Call ──► Graph ──► Snapshot ──► Group (suspects, members, restart set, orders)
//	           │           │
//	           └► Series ──┴──► ticks of one second: rate, errors, latency
//
// Only registered services become nodes; a call that names anything else is counted
// and dropped, so that hostile names cost neither memory nor an existing edge.
package topology
