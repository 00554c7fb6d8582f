package server

import (
	"context"
	"crypto/tls"
)

// Peer returns the TLS connection that a call of a service on GRPC came over; false over
// the Unix socket, where everybody is our own user.
func Peer(ctx context.Context) (tls.ConnectionState, bool) {
	s := sessionOf(ctx)
	if s == nil || s.local {
		return tls.ConnectionState{}, false
	}
	return s.state, true
}
