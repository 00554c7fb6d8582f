package main

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/sluicemesh/sluice/xds"
)

// bound is a server that knows nothing: it hands one response, marshalled beforehand, to
// each stream and counts what comes back unread. What it takes is what grpc-go takes, with
// the best options that we know: the bound of every server that is made with it.
type bound struct {
	grpc   *grpc.Server
	fleet  *fleet
	body   mem.Buffer
	pushes int
	wanted atomic.Int64
	done   chan struct{}

	mu      sync.Mutex
	streams []grpc.ServerStream
}

// boundFrame is a response: what all have in common, and a stream's own.
type boundFrame struct {
	shared mem.Buffer
	own    []byte
}

// boundCodec passes frames on, and throws requests away.
type boundCodec struct{}

// Name implements encoding.CodecV2.
func (boundCodec) Name() string { return "proto" }

// Marshal implements encoding.CodecV2 for *boundFrame.
func (boundCodec) Marshal(v any) (mem.BufferSlice, error) {
	f, ok := v.(*boundFrame)
	if !ok {
		return nil, fmt.Errorf("%T is not a frame", v)
	}
	return mem.BufferSlice{f.shared, mem.SliceBuffer(f.own)}, nil
}

// Unmarshal implements encoding.CodecV2.
func (boundCodec) Unmarshal(mem.BufferSlice, any) error { return nil }

func openBound(ctx context.Context, m *pushMesh, dir string) (side, error) {
	const buffer, window = 4 << 10, 64 << 10
	b := &bound{done: make(chan struct{}, 1)}
	body := new(anypb.Any)
	if err := anypb.MarshalFrom(body, m.drain, proto.MarshalOptions{}); err != nil {
		return nil, err
	}
	text, err := proto.Marshal(&discoveryv3.DeltaDiscoveryResponse{
		TypeUrl:   string(xds.EndpointType),
		Resources: []*discoveryv3.Resource{{Name: m.changed, Version: "0123456789abcdef", Resource: body}},
	})
	if err != nil {
		return nil, err
	}
	b.body = mem.SliceBuffer(text)
	b.grpc = grpc.NewServer(grpc.ForceServerCodecV2(boundCodec{}), grpc.UnknownServiceHandler(b.serve),
		grpc.ReadBufferSize(buffer), grpc.WriteBufferSize(buffer),
		grpc.StaticStreamWindowSize(window), grpc.StaticConnWindowSize(window))
	socket := filepath.Join(dir, "bound.sock")
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "unix", socket)
	if err != nil {
		return nil, err
	}
	go func() { _ = b.grpc.Serve(listener) }()
	clients := len(m.world.Proxies)
	b.wanted.Store(int64(clients)) // the first ACKs
	b.fleet, err = startFleet(ctx, fleetConfig{Socket: socket, Clients: clients, Want: m.order})
	if err == nil {
		err = b.await(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("grpc-go alone: %w", err)
	}
	return b, nil
}

// serve answers the first request and counts the others.
func (b *bound) serve(_ any, ss grpc.ServerStream) error {
	for first := true; ; first = false {
		if err := ss.RecvMsg(nil); err != nil {
			return nil
		}
		if !first {
			if b.wanted.Add(-1) == 0 {
				b.done <- struct{}{}
			}
			continue
		}
		b.mu.Lock()
		b.streams = append(b.streams, ss)
		b.mu.Unlock()
		if err := ss.SendMsg(b.frame()); err != nil {
			return err
		}
	}
}

func (b *bound) frame() *boundFrame {
	own := protowire.AppendString(protowire.AppendTag(nil, fieldOfNonce, protowire.BytesType), strconv.Itoa(b.pushes))
	return &boundFrame{shared: b.body, own: own}
}

func (b *bound) push(ctx context.Context) error {
	b.pushes++
	b.wanted.Store(int64(len(b.streams)))
	for _, ss := range b.streams {
		if err := ss.SendMsg(b.frame()); err != nil {
			return err
		}
	}
	return b.await(ctx)
}

func (b *bound) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, pushWithin)
	defer cancel()
	select {
	case <-b.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%d ACKs are missing: %w", b.wanted.Load(), ctx.Err())
	}
}

func (b *bound) close() error {
	err := b.fleet.stop()
	b.grpc.Stop()
	return err
}
