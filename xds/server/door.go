package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	grpcpeer "google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"
)

// Reasons why the door or the guard refuse: values of the label of sluice_xds_refused_total.
const (
	refusedConnections   = "connections"   // too many are open
	refusedUser          = "user"          // the other end of the Unix socket is another user
	refusedHandshake     = "handshake"     // no TLS, or no certificate that is trusted now
	refusedIdentity      = "identity"      // the certificate is another workload's
	refusedNode          = "node"          // the node id is not listed, or changed within a stream
	refusedNodes         = "nodes"         // too many are connected
	refusedStreams       = "streams"       // the node has too many
	refusedRate          = "rate"          // streams are opened too fast
	refusedSubscriptions = "subscriptions" // too many names
	refusedSilent        = "silent"        // a stream without a first request
	refusedSlow          = "slow"          // a response was not taken
)

// rateGrace is how many bursts of streams over the rate a connection may still ask for
// before it is cut; until then each is refused by itself.
const rateGrace = 4

// door lets connections in: over the Unix socket those of this process' own user, over TCP
// those with a certificate that is trusted. It implements credentials.TransportCredentials.
type door struct {
	limits  Limits
	tls     credentials.TransportCredentials // nil = nothing but the Unix socket is served
	refused func(reason string)
	now     func() time.Time
	in, out prometheus.Counter // bytes
	open    atomic.Int64
}

// session is one connection, the credentials.AuthInfo of its streams.
type session struct {
	credentials.CommonAuthInfo
	conn  *doorConn
	local bool                // over the Unix socket, by our own user
	state tls.ConnectionState // if not local

	mu      sync.Mutex
	tokens  float64 // streams that may be opened at once
	filled  time.Time
	excess  int // streams asked for beyond that
	refused func(reason string)
}

// AuthType implements credentials.AuthInfo.
func (s *session) AuthType() string {
	if s.local {
		return "unix"
	}
	return "tls"
}

// sessionOf returns the connection of a stream; nil if it came through no door.
func sessionOf(ctx context.Context) *session {
	p, _ := grpcpeer.FromContext(ctx)
	if p == nil {
		return nil
	}
	s, _ := p.AuthInfo.(*session)
	return s
}

// cut ends the connection at once: closing TLS in order would wait for the peer.
func (s *session) cut(reason string) {
	s.refused(reason)
	_ = s.conn.Close()
}

// doorConn counts what passes, and itself out when it is closed.
type doorConn struct {
	net.Conn
	once sync.Once
	done func()
	in   prometheus.Counter // bytes
	out  prometheus.Counter
}

// Read implements net.Conn.
func (c *doorConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.in.Add(float64(n))
	return n, err
}

// Write implements net.Conn.
func (c *doorConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.out.Add(float64(n))
	return n, err
}

// Close implements net.Conn.
func (c *doorConn) Close() error {
	c.once.Do(c.done)
	return c.Conn.Close()
}

// doorway is a listener that bounds how many connections are open.
type doorway struct {
	net.Listener
	door *door
}

// Accept implements net.Listener. A connection too many is closed at once.
func (w doorway) Accept() (net.Conn, error) {
	for {
		conn, err := w.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if w.door.open.Add(1) <= int64(w.door.limits.Connections) {
			return &doorConn{Conn: conn, done: func() { w.door.open.Add(-1) }, in: w.door.in, out: w.door.out}, nil
		}
		w.door.open.Add(-1)
		w.door.refused(refusedConnections)
		_ = conn.Close()
	}
}

// ServerHandshake implements credentials.TransportCredentials.
func (d *door) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	outer, is := raw.(*doorConn)
	if !is {
		return nil, nil, errors.New("the connection came through no door")
	}
	s := &session{conn: outer, tokens: float64(d.limits.StreamBurst), filled: d.now(), refused: d.refused}
	s.SecurityLevel = credentials.PrivacyAndIntegrity
	conn, err := d.shake(outer, s)
	if err != nil {
		return nil, nil, err
	}
	return conn, s, nil
}

// shake learns who is at the other end.
func (d *door) shake(raw *doorConn, s *session) (net.Conn, error) {
	if unix, is := raw.Conn.(*net.UnixConn); is {
		if err := sameUser(unix); err != nil {
			d.refused(refusedUser)
			return nil, fmt.Errorf("peer of the Unix socket: %w", err)
		}
		s.local = true
		return raw, nil
	}
	if d.tls == nil {
		return nil, errors.New("no connection but over the Unix socket is served")
	}
	conn, info, err := d.tls.ServerHandshake(raw)
	if err != nil {
		d.refused(refusedHandshake)
		return nil, err
	}
	if verified, is := info.(credentials.TLSInfo); is {
		s.state = verified.State
	}
	return conn, nil
}

// ClientHandshake implements credentials.TransportCredentials: a door has no outside.
func (d *door) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("a server's credentials do not dial")
}

// Info implements credentials.TransportCredentials.
func (d *door) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls"}
}

// Clone implements credentials.TransportCredentials.
func (d *door) Clone() credentials.TransportCredentials { return d }

// OverrideServerName implements credentials.TransportCredentials.
func (d *door) OverrideServerName(string) error { return nil }

// tap bounds how fast a connection opens streams, before any of them costs a goroutine:
// streams that are reset at once (HTTP/2 rapid reset) count like any other.
func (d *door) tap(ctx context.Context, _ *tap.Info) (context.Context, error) {
	s := sessionOf(ctx)
	if s == nil {
		return ctx, status.Error(codes.Unauthenticated, "the connection came through no door")
	}
	if s.take(d.now(), &d.limits) {
		return ctx, nil
	}
	return ctx, status.Errorf(codes.ResourceExhausted, "streams are opened faster than %g a second", d.limits.StreamRate)
}

// take takes one stream from the connection's allowance. What asks far beyond it is cut.
func (s *session) take(now time.Time, limits *Limits) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	most := float64(limits.StreamBurst)
	s.tokens = min(most, s.tokens+limits.StreamRate*now.Sub(s.filled).Seconds())
	s.filled = now
	if s.tokens >= 1 {
		s.tokens--
		s.excess = 0
		return true
	}
	if s.excess++; s.excess > rateGrace*limits.StreamBurst {
		s.cut(refusedRate)
	} else {
		s.refused(refusedRate)
	}
	return false
}
