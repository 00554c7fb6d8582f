// Package server serves the one API of Sluice: gRPC, gRPC-Web and HTTP/JSON from the
// definition in api/sluice/v1, with the health, metrics and dashboard handlers beside
// it. It authenticates, bounds and translates; it is not for deciding: every verdict
// is the kernel's, and what it knows it asks of the small interfaces in ports.go.
//
//	request -> headers, host and origin check (guard.go)
//	        -> size and time bounds, token -> principal, least role, rate (auth.go, limit.go)
//	        -> handler (plans.go, reads.go) -> port -> answer (convert.go)
package server
