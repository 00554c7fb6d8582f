package main

import (
	"context"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/propagation"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// beat is the time between two messages of a stream.
const beat = 250 * time.Millisecond

// newRPC returns the gRPC side of a node. The service is described by hand: with
// messages of the well-known types it needs no generated code.
func newRPC(n *node) *grpc.Server {
	server := grpc.NewServer()
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: rpcService,
		HandlerType: (*any)(nil),
		Methods:     []grpc.MethodDesc{{MethodName: "Call", Handler: serveCall}},
		Streams:     []grpc.StreamDesc{{StreamName: "Watch", Handler: serveWatch, ServerStreams: true}},
	}, n)
	return server
}

// serveCall answers a unary call.
//
//nolint:revive // the order of parameters is gRPC's
func serveCall(srv any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
	n := srv.(*node)
	operation := new(wrapperspb.StringValue)
	if err := decode(operation); err != nil {
		return nil, err
	}
	md, _ := metadata.FromIncomingContext(ctx)
	get := first(md)
	carrier := propagation.MapCarrier{"traceparent": get("traceparent"), "tracestate": get("tracestate")}
	o := n.serve(ctx, request{operation: operation.Value, key: get(headerKey), carrier: carrier})
	trailer := metadata.MD{}
	o.write(n.service.Name, func(key, value string) { trailer.Set(key, value) })
	if err := grpc.SetTrailer(ctx, trailer); err != nil {
		return nil, err
	}
	if o.failed() {
		return nil, status.Error(rpcCode(o), "status "+strconv.Itoa(o.status))
	}
	return wrapperspb.String(n.service.Name), nil
}

// rpcCode is the gRPC code of a failure: what could not be reached is unavailable.
func rpcCode(o outcome) codes.Code {
	if o.failedAt != "" {
		return codes.Unavailable
	}
	return codes.Internal
}

// serveWatch sends a message every beat until the client goes or the process ends.
func serveWatch(srv any, stream grpc.ServerStream) error {
	n := srv.(*node)
	if err := stream.RecvMsg(new(wrapperspb.StringValue)); err != nil {
		return err
	}
	ticker := time.NewTicker(beat)
	defer ticker.Stop()
	for count := 1; ; count++ {
		if err := stream.SendMsg(wrapperspb.String(strconv.Itoa(count))); err != nil {
			return err
		}
		select {
		case <-stream.Context().Done():
			return stream.Context().Err()
		case <-n.stopping:
			return nil
		case <-ticker.C:
		}
	}
}
