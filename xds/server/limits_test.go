package server

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	loadstatsv3 "github.com/envoyproxy/go-control-plane/envoy/service/load_stats/v3"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sluicemesh/sluice/xds"
)

func TestStreamsOfANodeAreBounded(t *testing.T) {
	g := newGated(t, Limits{StreamsPerNode: 2, Nodes: 2})
	loads := loadstatsv3.NewLoadReportingServiceClient(g.local())
	open := func(node string) error {
		stream, err := loads.StreamLoadStats(t.Context(), grpc.WaitForReady(true))
		if err != nil {
			return err
		}
		if err := stream.Send(&loadstatsv3.LoadStatsRequest{Node: as(node, "").GetNode()}); err != nil {
			return err
		}
		_, err = stream.Recv()
		return err
	}
	for i, want := range []codes.Code{codes.OK, codes.OK, codes.ResourceExhausted} {
		if err := open("cart-0"); status.Code(err) != want {
			t.Errorf("stream %d: %v, want %s", i+1, err, want)
		}
	}
	if err := open("cart-1"); err != nil {
		t.Errorf("another node: %v", err)
	}
	if err := open("ingress"); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a third node: %v, want ResourceExhausted", err)
	}
	if g.refusals(refusedStreams) != 1 || g.refusals(refusedNodes) != 1 {
		t.Errorf("counted %d streams, %d nodes, want 1 and 1", g.refusals(refusedStreams), g.refusals(refusedNodes))
	}
}

func TestSubscriptionsAreBounded(t *testing.T) {
	g := newGated(t, Limits{Subscriptions: 4})
	ask := func(requests ...*discoveryv3.DeltaDiscoveryRequest) error {
		p := dialPeer(t, discoveryv3.NewAggregatedDiscoveryServiceClient(g.local()))
		for _, req := range requests {
			p.send(req)
		}
		for range requests {
			if _, err := p.stream.Recv(); err != nil {
				return err
			}
		}
		return nil
	}
	if err := ask(as("cart-0", xds.EndpointType, "a", "b", "c", "d", "e")); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("5 names at once: %v, want ResourceExhausted", err)
	}
	// The second subscription of a type is answered after the first is ACKed, but counted at once.
	few := ask(as("cart-0", xds.EndpointType, "a", "b", "c"), as("cart-0", xds.EndpointType, "d", "e"))
	if status.Code(few) != codes.ResourceExhausted {
		t.Errorf("5 names in two requests: %v, want ResourceExhausted", few)
	}
	var kinds []*discoveryv3.DeltaDiscoveryRequest
	for i := range maxTypes + 1 {
		kinds = append(kinds, as("cart-0", xds.TypeURL(fmt.Sprintf("type.googleapis.com/made.up.%d", i)), "a"))
	}
	if err := ask(kinds...); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("%d types: %v, want ResourceExhausted", len(kinds), err)
	}
}

func TestLargeRequestsAreRefused(t *testing.T) {
	g := newGated(t, Limits{MessageBytes: 1024})
	err := g.outcome(g.local(), strings.Repeat("x", 2048))
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("got %v, want ResourceExhausted", err)
	}
}

// A stream that says nothing, and a connection that does not even speak TLS, end by
// themselves.
func TestSilenceEnds(t *testing.T) {
	g := newGated(t, Limits{FirstMessage: 200 * time.Millisecond, Handshake: 200 * time.Millisecond})
	p := dialPeer(t, discoveryv3.NewAggregatedDiscoveryServiceClient(g.local()))
	if _, err := p.stream.Recv(); status.Code(err) != codes.Unavailable || g.refusals(refusedSilent) == 0 {
		t.Errorf("a silent stream: %v, counted %d, want Unavailable, counted", err, g.refusals(refusedSilent))
	}
	conn, err := net.Dial("tcp", g.address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetReadDeadline(hence(10 * time.Second))
	if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a connection without a word: %v, want it closed", err)
	}
}

func TestConnectionsAreBounded(t *testing.T) {
	g := newGated(t, Limits{Connections: 2})
	held := func() (net.Conn, error) {
		conn, err := net.Dial("tcp", g.address)
		if err != nil {
			return nil, err
		}
		conn.SetReadDeadline(hence(300 * time.Millisecond))
		_, err = conn.Read(make([]byte, 1))
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return conn, nil
		}
		conn.Close()
		return nil, errors.New("closed")
	}
	var conns []net.Conn
	eventually(t, 5*time.Second, "it listens", func() bool {
		conn, err := held()
		if err == nil {
			conns = append(conns, conn)
		}
		return err == nil
	})
	second, err := held()
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if _, err := held(); err == nil || g.refusals(refusedConnections) != 1 {
		t.Errorf("a third connection is held, %d counted", g.refusals(refusedConnections))
	}
	conns[0].Close()
	eventually(t, 5*time.Second, "there is room again", func() bool {
		conn, err := held()
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
}

// A proxy that asks and asks and does not read is cut, and meanwhile blocks nobody.
func TestSlowReader(t *testing.T) {
	g := newGated(t, Limits{Send: 300 * time.Millisecond})
	p := dialPeer(t, discoveryv3.NewAggregatedDiscoveryServiceClient(g.local(
		grpc.WithInitialWindowSize(1<<16), grpc.WithInitialConnWindowSize(1<<16))))
	asked := make(chan error, 1)
	go func() {
		for i := 0; ; i++ { // each name is answered: there is no such layer
			name := fmt.Sprintf("%d%s", i, strings.Repeat("x", 2000))
			if err := p.stream.Send(as("ingress", xds.RuntimeType, name)); err != nil || i > 2000 {
				asked <- err
				return
			}
		}
	}()
	if err := g.outcome(g.local(), "cart-0"); err != nil {
		t.Errorf("another proxy meanwhile: %v", err)
	}
	select {
	case err := <-asked:
		if err == nil || g.refusals(refusedSlow) == 0 {
			t.Errorf("it ended with %v, counted %d", err, g.refusals(refusedSlow))
		}
	case <-time.After(10 * time.Second):
		t.Error("the stream still waits for its reader")
	}
}

// Streams that are opened and reset at once are refused beyond a burst, and end the
// connection when they go on; no handler runs for them.
func TestRapidReset(t *testing.T) {
	g := newGated(t, Limits{StreamBurst: 50, StreamRate: 1})
	conn, framer := g.raw()
	defer conn.Close()
	id := uint32(1)
	for range 50 * (rateGrace + 4) {
		if g.tryOpen(framer, id, "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources") != nil ||
			framer.WriteRSTStream(id, http2.ErrCodeCancel) != nil {
			break // it was cut
		}
		id += 2
	}
	conn.SetReadDeadline(hence(10 * time.Second))
	for {
		if _, err := framer.ReadFrame(); err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error("the connection is still open")
			}
			break
		}
	}
	if n := g.refusals(refusedRate); n < 50 {
		t.Errorf("%d streams refused, want most of them", n)
	}
	if err := g.outcome(g.local(), "cart-0"); err != nil {
		t.Errorf("another proxy: %v", err)
	}
}

// raw opens HTTP/2 over TLS by hand, with windows of no bytes.
func (g *gated) raw() (net.Conn, *http2.Framer) {
	g.t.Helper()
	var conn *tls.Conn
	eventually(g.t, 5*time.Second, "it listens", func() bool {
		var err error
		conn, err = tls.Dial("tcp", g.address, g.client(g.ca, "/ns/outside/svc/web", hence(time.Hour)))
		return err == nil
	})
	if _, err := conn.Write([]byte(http2.ClientPreface)); err != nil {
		g.t.Fatal(err)
	}
	framer := http2.NewFramer(conn, conn)
	if err := framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0}); err != nil {
		g.t.Fatal(err)
	}
	return conn, framer
}

// tryOpen starts a gRPC stream by hand.
func (g *gated) tryOpen(framer *http2.Framer, id uint32, method string) error {
	var block strings.Builder
	encoder := hpack.NewEncoder(&block)
	for _, f := range [][2]string{
		{":method", "POST"}, {":scheme", "https"}, {":path", method}, {":authority", "x"},
		{"content-type", "application/grpc"}, {"te", "trailers"},
	} {
		if err := encoder.WriteField(hpack.HeaderField{Name: f[0], Value: f[1], Sensitive: true}); err != nil {
			return err
		}
	}
	return framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: []byte(block.String()), EndHeaders: true})
}
