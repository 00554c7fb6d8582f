package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"go.opentelemetry.io/otel/propagation"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// Names of the gRPC service that every handler offers: the request is the operation's
// name, the answer the name of who answered; all else is metadata.
const (
	rpcService = "e2e.Service"
	rpcCall    = "/" + rpcService + "/Call"
	rpcWatch   = "/" + rpcService + "/Watch"
)

// peer is a handler that this node calls.
type peer struct {
	name    string
	address string
	client  *http.Client
	rpc     *grpc.ClientConn
}

// newPeer prepares calls; nothing is connected yet.
func newPeer(name, address string) (*peer, error) {
	rpc, err := grpc.NewClient("passthrough:///"+address,
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDisableRetry())
	if err != nil {
		return nil, fmt.Errorf("upstream %s: %w", name, err)
	}
	transport := &http.Transport{MaxIdleConnsPerHost: 512, MaxIdleConns: 512,
		IdleConnTimeout: time.Minute, DisableCompression: true}
	return &peer{name: name, address: address, client: &http.Client{Transport: transport}, rpc: rpc}, nil
}

// post calls an operation over HTTP/1.1. The body has no GetBody, so that net/http
// never sends a request twice: a lost one shows.
func (p *peer) post(ctx context.Context, operation, key string) outcome {
	body := io.NopCloser(strings.NewReader(key))
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+p.address+"/"+operation, body)
	if err != nil {
		return unreachable(p.name)
	}
	r.ContentLength = int64(len(key))
	r.Header.Set(headerKey, key)
	propagator().Inject(ctx, propagation.HeaderCarrier(r.Header))
	response, err := p.client.Do(r)
	if err != nil {
		return unreachable(p.name)
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		return unreachable(p.name)
	}
	return answered(p.name, response.StatusCode, response.Header.Get)
}

// invoke calls an operation over gRPC.
func (p *peer) invoke(ctx context.Context, operation, key string) outcome {
	ctx = outgoing(ctx, key)
	var trailer metadata.MD
	answer := new(wrapperspb.StringValue)
	err := p.rpc.Invoke(ctx, rpcCall, wrapperspb.String(operation), answer, grpc.Trailer(&trailer))
	status := http.StatusOK
	if err != nil {
		status = http.StatusServiceUnavailable
	}
	return answered(p.name, status, first(trailer))
}

// outgoing adds key and trace context to the metadata of a call.
func outgoing(ctx context.Context, key string) context.Context {
	carrier := propagation.MapCarrier{}
	propagator().Inject(ctx, carrier)
	md := metadata.New(carrier)
	md.Set(headerKey, key)
	return metadata.NewOutgoingContext(ctx, md)
}

// first looks up the first value of a name in md.
func first(md metadata.MD) func(string) string {
	return func(name string) string {
		if values := md.Get(name); len(values) > 0 {
			return values[0]
		}
		return ""
	}
}

func (p *peer) close() {
	p.client.CloseIdleConnections()
	p.rpc.Close()
}
