package replica

import (
	"context"
	"crypto/tls"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/sluicemesh/sluice/xds/server"
)

const (
	// breath is the least time between two accounts.
	breath = 10 * time.Millisecond
	// handshake bounds how long a connection may take to say who it is.
	handshake = 5 * time.Second
	// leaders is how many streams one connection may have: one, and one that is ending.
	leaders = 4
)

// NewServer returns the gRPC server through which leaders order s. config must demand the
// certificate of a replica (identity.PeerConfigs); the caller serves and stops it.
func NewServer(s *server.Server, config *tls.Config) *grpc.Server {
	out := grpc.NewServer(grpc.Creds(credentials.NewTLS(config)), grpc.ForceServerCodec(codec{}),
		grpc.MaxRecvMsgSize(maxMessage), grpc.ConnectionTimeout(handshake), grpc.MaxConcurrentStreams(leaders))
	out.RegisterService(description(), &following{server: s})
	return out
}

// following serves leaders.
type following struct{ server *server.Server }

// serve follows one leader until it ends, or a later one has spoken.
func (f *following) serve(stream grpc.ServerStream) error {
	var first server.Order
	if err := stream.RecvMsg(&first); err != nil {
		return err
	}
	if err := f.server.Follow(first); err != nil {
		return coded(err)
	}
	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(nil)
	// It ends with the stream, which ends when this function returns.
	go func() { cancel(f.obey(stream, first.Epoch)) }()
	var last *server.Account
	for {
		account, err := f.server.NextAccount(ctx, first.Epoch, last)
		if cause := context.Cause(ctx); cause != nil {
			return coded(cause)
		}
		if err != nil {
			return coded(err)
		}
		if err := stream.SendMsg(account); err != nil {
			return err
		}
		last = account
		select {
		case <-ctx.Done():
		case <-time.After(breath):
		}
	}
}

// obey follows order after order, until the leader ends.
func (f *following) obey(stream grpc.ServerStream, epoch uint64) error {
	for {
		var next server.Order
		if err := stream.RecvMsg(&next); err != nil {
			return err
		}
		if next.Epoch != epoch {
			return fmt.Errorf("order of epoch %d from the leader of epoch %d: %w", next.Epoch, epoch, server.ErrEpoch)
		}
		if err := f.server.Follow(next); err != nil {
			return err
		}
	}
}
