// Package gate keeps the books of a drain, as facts: Ledger knows which proxy has taken
// which version of which resource type, Watch what is still in flight on a target. It
// is not for judging whether that suffices (package microkernel), nor for talking to
// proxies (package server, which feeds it and guards it with its mutex). It reads no
// clock: times come in with the facts.
//
//	version of a (proxy, type):  pending -> acked | nacked;  gone when the proxy is
package gate
