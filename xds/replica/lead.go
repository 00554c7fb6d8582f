package replica

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/sluicemesh/sluice/xds/server"
)

const (
	// orderEvery is how often a follower is ordered at least: each order sets its clock.
	orderEvery = 5 * time.Second
	// silence is how long a follower may say nothing before it is lost.
	silence = 2 * time.Second
	// retry is the time between two attempts to reach a follower.
	retry = 250 * time.Millisecond
)

// Peer is another replica.
type Peer struct {
	Name    string
	Address string // host:port of its NewServer
}

// Leader leads the replicas of one control plane.
type Leader struct {
	Server *server.Server
	Epoch  uint64 // from the election; never used before
	Peers  []Peer
	TLS    *tls.Config // identity.PeerConfigs
	Log    *slog.Logger
}

// Run leads until ctx ends (nil), or until a later leader is seen: then the error wraps
// server.ErrEpoch or server.ErrFollower, and the caller must stop deciding.
func (l *Leader) Run(ctx context.Context) error {
	if err := l.Server.Lead(l.Epoch); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, peer := range l.Peers {
		group.Go(func() error { return l.keep(ctx, peer) })
	}
	group.Go(func() error { return l.watch(ctx) })
	if err := group.Wait(); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// watch returns when this replica itself was ordered by a later leader.
func (l *Leader) watch(ctx context.Context) error {
	last, err := l.Server.NextOrder(ctx, nil, 0)
	for err == nil {
		last, err = l.Server.NextOrder(ctx, last, orderEvery)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// keep talks to a peer, again and again.
func (l *Leader) keep(ctx context.Context, peer Peer) error {
	connect := grpc.ConnectParams{
		Backoff:           backoff.Config{BaseDelay: retry, Multiplier: 1.5, MaxDelay: 4 * retry},
		MinConnectTimeout: silence,
	}
	conn, err := grpc.NewClient(peer.Address, grpc.WithTransportCredentials(credentials.NewTLS(l.TLS)),
		grpc.WithConnectParams(connect),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(codec{}), grpc.MaxCallRecvMsgSize(maxMessage)))
	if err != nil {
		return fmt.Errorf("replica %s: %w", peer.Name, err)
	}
	defer conn.Close()
	for {
		err := l.converse(ctx, conn, peer)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if status.Code(err) == codes.FailedPrecondition || errors.Is(err, server.ErrFollower) {
			return fmt.Errorf("replica %s refused: %w: %w", peer.Name, server.ErrEpoch, err)
		}
		l.Log.Warn("no replica at the other end", "replica", peer.Name, "error", err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(retry):
		}
	}
}

// converse orders a peer and hears it, until that fails.
func (l *Leader) converse(ctx context.Context, conn *grpc.ClientConn, peer Peer) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{StreamName: method, ServerStreams: true, ClientStreams: true},
		"/"+service+"/"+method)
	if err != nil {
		return err
	}
	c := &conversation{stream: stream, server: l.Server, peer: peer.Name, sent: map[uint64]time.Time{}}
	var ordering sync.WaitGroup
	defer ordering.Wait()
	defer cancel(nil)
	ordering.Go(func() {
		if err := c.order(ctx); err != nil {
			cancel(err)
		}
	})
	defer l.Server.Lost(peer.Name)
	late := time.AfterFunc(silence, func() { cancel(fmt.Errorf("nothing heard for %s", silence)) })
	defer late.Stop()
	for {
		var account server.Account
		if err := stream.RecvMsg(&account); err != nil {
			if cause := context.Cause(ctx); cause != nil {
				return cause
			}
			return err
		}
		late.Reset(silence)
		if err := c.hear(&account, time.Now()); err != nil {
			return err
		}
	}
}

// conversation is what a leader and one follower say to each other.
type conversation struct {
	stream grpc.ClientStream
	server *server.Server
	peer   string
	clocks server.Clocks
	heard  uint64 // the greatest sequence number that was answered

	mu   sync.Mutex
	sent map[uint64]time.Time // when orders were sent that are not answered
}

// order sends what is in force, now and when it changes.
func (c *conversation) order(ctx context.Context) error {
	var last *server.Order
	for {
		next, err := c.server.NextOrder(ctx, last, orderEvery)
		if err != nil {
			return err
		}
		c.mu.Lock()
		c.sent[next.Seq] = time.Now()
		c.mu.Unlock()
		if err := c.stream.SendMsg(next); err != nil {
			return nil // Recv fails too, and says why
		}
		last = next
	}
}

// hear books an account. Its stamp lies between when the order that it answers was sent,
// and now: that ties the follower's clock to ours.
func (c *conversation) hear(a *server.Account, now time.Time) error {
	if a.Seq != c.heard {
		c.mu.Lock()
		at, known := c.sent[a.Seq]
		for seq := range c.sent {
			if seq <= a.Seq {
				delete(c.sent, seq)
			}
		}
		c.mu.Unlock()
		if !known {
			return fmt.Errorf("replica %s answers order %d, which it was not sent", c.peer, a.Seq)
		}
		c.heard = a.Seq
		c.clocks = server.Clocks{Early: at.Add(-a.Stamp), Late: now.Add(-a.Stamp)}
	}
	if c.heard == 0 {
		return fmt.Errorf("replica %s speaks before it was ordered", c.peer)
	}
	c.server.Heard(c.peer, a, c.clocks)
	return nil
}
