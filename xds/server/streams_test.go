package server

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sluicemesh/sluice/mesh"
)

// post sends one request; its body is read and closed.
func post(address string) (*http.Response, error) {
	resp, err := http.Post("http://"+address+"/", "text/plain", strings.NewReader("x"))
	if err != nil {
		return nil, err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	return resp, err
}

// tcpHold opens connections while the only instance is down: all must be served.
func tcpHold(t *testing.T, r *rig) {
	address := r.front("shop/store")
	old := dial(t, address)
	echo(t, old, "before")
	o := drainOf("shop/store", 1, "store-0")
	r.apply(o)
	p := r.prove(o, func(p mesh.Proof) bool { return p.Reported == 1 && p.InFlight == 1 })
	if p.Inbound != -1 {
		t.Errorf("inbound is %d, want -1: there is no sidecar", p.Inbound)
	}
	_ = old.Close()
	r.prove(o, empty)
	r.apps["store-0"].kill()
	answers := make(chan error, 10)
	for range cap(answers) {
		conn := dial(t, address)
		go func() { answers <- echoed(conn, "held") }()
	}
	pause(t, time.Second)
	r.apps["store-0"].start()
	r.withdraw(o, 0)
	for range cap(answers) {
		if err := <-answers; err != nil {
			t.Error(err)
		}
	}
}

func dial(t *testing.T, address string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(15 * time.Second))
	return conn
}

func echo(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	if err := echoed(conn, text); err != nil {
		t.Fatal(err)
	}
}

// echoed sends text and demands it back.
func echoed(conn net.Conn, text string) error {
	if _, err := io.WriteString(conn, text); err != nil {
		return err
	}
	got := make([]byte, len(text))
	_, err := io.ReadFull(conn, got)
	return err
}

// streams opens a websocket, drains with policy cut, and demands that it is cut and
// counted while other requests go on; and sends gRPC's kind of request.
func streams(t *testing.T, r *rig) {
	grpcLike(t, r)
	conn, buffered := upgrade(t, r.front("shop/solo"))
	echo(t, conn, "hello")
	l := r.flowing("shop/solo")
	o := drainOf("shop/solo", 81, "solo-0")
	o.Drain.Streams = mesh.StreamsCut
	r.apply(o)
	p := r.prove(o, empty)
	if p.Cut != 1 {
		t.Errorf("cut is %d, want 1", p.Cut)
	}
	if _, err := buffered.ReadByte(); err == nil {
		t.Error("the websocket is still open")
	}
	r.withdraw(o, 0)
	l.flows(t, 30)
	l.stop(t)
}

// streamsRefused drains with policy refuse: a new websocket is refused at once, while
// other requests are held and served, and an open websocket stays.
func streamsRefused(t *testing.T, r *rig) {
	open, _ := upgrade(t, r.front("shop/solo"))
	l := r.flowing("shop/solo")
	o := drainOf("shop/solo", 85, "solo-0")
	o.Drain.Streams = mesh.StreamsRefuse
	r.apply(o)
	start := time.Now()
	_, resp := handshake(t, r.front("shop/solo"))
	if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Errorf("a new websocket: %s %v, want 503 with Retry-After", resp.Status, resp.Header)
	}
	if took := time.Since(start); took > time.Second {
		t.Errorf("it was refused after %s, want at once", took)
	}
	r.prove(o, func(p mesh.Proof) bool { return p.Reported == 1 && p.InFlight == 1 && p.Inbound == 1 })
	echo(t, open, "still here")
	_ = open.Close()
	r.prove(o, empty)
	r.withdraw(o, 0)
	again, _ := upgrade(t, r.front("shop/solo"))
	_ = again.Close()
	l.flows(t, 30)
	l.stop(t)
}

// streamsAsked drains with policy ask: as long as a request may take nothing is disturbed;
// the websocket that has not gone in the end is counted.
func streamsAsked(t *testing.T, r *rig) {
	conn, buffered := upgrade(t, r.front("shop/cart"))
	o := drainOf("shop/cart", 88, "cart-0", "cart-1")
	o.Drain.Streams = mesh.StreamsAsk
	start := time.Now()
	r.apply(o)
	if p := r.prove(o, empty); p.Cut != 1 {
		t.Errorf("cut is %d, want 1", p.Cut)
	}
	if took := time.Since(start); took < 4*time.Second {
		t.Errorf("cut after %s, although a request may take 4 s", took)
	}
	if _, err := buffered.ReadByte(); err == nil {
		t.Error("the websocket is still open")
	}
	_ = conn.Close()
	r.withdraw(o, 0)
}

// upgrade opens a websocket, as far as proxies look.
func upgrade(t *testing.T, address string) (net.Conn, *bufio.Reader) {
	t.Helper()
	conn, resp := handshake(t, address)
	if resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("got %s, want 101", resp.Status)
	}
	return conn, bufio.NewReader(conn)
}

// handshake asks for a websocket.
func handshake(t *testing.T, address string) (net.Conn, *http.Response) {
	t.Helper()
	conn := dial(t, address)
	_, err := io.WriteString(conn, "GET /ws HTTP/1.1\r\nHost: solo\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil) // nothing follows before we write
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return conn, resp
}

// grpcLike sends a request over HTTP/2 with prior knowledge and reads the trailer.
func grpcLike(t *testing.T, r *rig) {
	t.Helper()
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	client := &http.Client{Transport: &http.Transport{Protocols: protocols}, Timeout: 10 * time.Second}
	defer client.CloseIdleConnections()
	resp, err := client.Post("http://"+r.front("shop/solo")+"/p.S/M", "application/grpc", strings.NewReader("body"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if string(body) != "HTTP/2.0 body" || resp.Trailer.Get("grpc-status") != "0" {
		t.Errorf("got %q with trailers %v, want HTTP/2 all the way and grpc-status 0", body, resp.Trailer)
	}
}
