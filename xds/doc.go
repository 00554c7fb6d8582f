// Package xds turns the world and the overlays in force into Envoy resources. It is
// pure: equal input gives equal bytes and equal versions. It is not for serving
// them (package server), for judging proofs (package microkernel), nor for knowing
// when a lease ends (package lease).
//
// What a caller's proxy has for each HTTP upstream X = "ns/name":
//
//	listener out~X -> route 1, only while the runtime key sl.ns.name.o says so
//	                    -> cluster X~o (the overlay twin: drained, rerouted, parked)
//	                       retry on connect failure, refused stream, the park's header
//	               -> route 2, the user's own policy
//	                    -> cluster X   (the base; never changed by an overlay)
//	listener park  -> by header x-sluice-callee, for the twin's parking endpoint:
//	                    sl.ns.name.hold on -> 503 with x-sluice-park: retried (held)
//	                    sl.ns.name.shed on -> 503 with Retry-After
//	                    else               -> cluster X (the lease is gone)
//	listener in    -> cluster app, the application; connect failures are retried
//
// All runtime keys are in one resource, "ov", that Envoy drops by itself when it is
// not renewed: then every request takes route 2 again. A raw TCP upstream has one
// cluster X, which an overlay does patch, and no such lease.
package xds
