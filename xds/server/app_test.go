package server

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluicemesh/sluice/mesh"
)

// app is one application process, as far as the network can see. Its handler takes a
// while, so that some requests are always in flight.
type app struct {
	t        *testing.T
	address  netip.AddrPort
	name     string
	protocol mesh.Protocol
	server   *http.Server
	listener net.Listener
	serving  sync.WaitGroup
	inFlight atomic.Int64
	failing  atomic.Bool            // answers 500 at once
	upstream atomic.Pointer[string] // address that is called for each request; nil = none
	conns    sync.Map               // raw TCP
}

const handlerTime = 60 * time.Millisecond

func newApp(t *testing.T, address netip.AddrPort, name string, protocol mesh.Protocol) *app {
	a := &app{t: t, address: address, name: name, protocol: protocol}
	a.start()
	t.Cleanup(a.kill)
	return a
}

func (a *app) start() {
	var err error
	if a.listener, err = net.Listen("tcp", a.address.String()); err != nil {
		a.t.Error(err)
		return
	}
	if a.protocol == mesh.TCP {
		a.serving.Go(a.echoes)
		return
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	a.server = &http.Server{Handler: http.HandlerFunc(a.handle), Protocols: protocols}
	a.serving.Go(func() { _ = a.server.Serve(a.listener) })
}

// kill is kill -9: everything in flight is lost.
func (a *app) kill() {
	if a.server != nil {
		_ = a.server.Close()
	}
	_ = a.listener.Close()
	a.conns.Range(func(conn, _ any) bool {
		_ = conn.(net.Conn).Close()
		return true
	})
	a.serving.Wait()
}

func (a *app) handle(w http.ResponseWriter, req *http.Request) {
	a.inFlight.Add(1)
	defer a.inFlight.Add(-1)
	if req.Header.Get("Upgrade") == "websocket" {
		a.websocket(w)
		return
	}
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return
	}
	if a.failing.Load() {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	for _, name := range []string{"x-sluice-callee", "x-sluice-park"} {
		if req.Header.Get(name) != "" {
			w.WriteHeader(http.StatusTeapot) // ours must not reach an application
			return
		}
	}
	select {
	case <-req.Context().Done():
	case <-time.After(handlerTime):
	}
	if upstream := a.upstream.Load(); upstream != nil {
		if resp, err := post(*upstream); err != nil || resp.StatusCode != http.StatusOK {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
	}
	w.Header().Set("x-app", a.name)
	w.Header().Set("x-sluice-park", "forged")
	w.Header().Set("Trailer", "grpc-status")
	_, _ = w.Write(append([]byte(req.Proto+" "), body...))
	w.Header().Set("grpc-status", "0")
}

// websocket echoes after the handshake, which is all that a proxy looks at.
func (a *app) websocket(w http.ResponseWriter) {
	conn, buffered, err := w.(http.Hijacker).Hijack()
	if err != nil {
		a.t.Error(err)
		return
	}
	defer conn.Close()
	a.conns.Store(conn, nil)
	defer a.conns.Delete(conn)
	_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
	_, _ = io.Copy(conn, buffered)
}

func (a *app) echoes() {
	for {
		conn, err := a.listener.Accept()
		if err != nil {
			return
		}
		a.conns.Store(conn, nil)
		a.serving.Go(func() {
			_, _ = io.Copy(conn, conn)
			_ = conn.Close()
			a.conns.Delete(conn)
		})
	}
}

// load is an open loop of POST requests against one address.
type load struct {
	cancel context.CancelFunc
	done   sync.WaitGroup
	sent   atomic.Int64
	ok     atomic.Int64
	mu     sync.Mutex
	faults []string
	byApp  map[string]int
	worst  time.Duration
}

const (
	loadRate = 150
	loadMax  = 6000 // requests, at most
)

func startLoad(address string) *load {
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{cancel: cancel, byApp: map[string]int{}}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 500}, Timeout: 20 * time.Second}
	l.done.Go(func() {
		defer client.CloseIdleConnections()
		tick := time.NewTicker(time.Second / loadRate)
		defer tick.Stop()
		var requests sync.WaitGroup
		defer requests.Wait()
		for l.sent.Load() < loadMax {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				l.sent.Add(1)
				requests.Go(func() { l.request(client, address) })
			}
		}
	})
	return l
}

func (l *load) request(client *http.Client, address string) {
	start := time.Now()
	resp, err := client.Post("http://"+address+"/buy", "text/plain", strings.NewReader("one book"))
	fault, by := "", ""
	if err != nil {
		fault = err.Error()
	} else {
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		by = resp.Header.Get("x-app")
		switch {
		case err != nil:
			fault = err.Error()
		case resp.StatusCode != http.StatusOK:
			fault = resp.Status + " " + string(body)
		case string(body) != "HTTP/1.1 one book" || resp.Header.Get("x-sluice-park") != "":
			fault = "changed: " + string(body)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.worst = max(l.worst, time.Since(start))
	if fault != "" {
		l.faults = append(l.faults, time.Now().Format("05.000 ")+fault)
		return
	}
	l.ok.Add(1)
	l.byApp[by]++
}

// answered counts the requests that one instance answered.
func (l *load) answered(name string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.byApp[name]
}

// stop ends the load and demands that no request failed.
func (l *load) stop(t *testing.T) {
	t.Helper()
	l.cancel()
	l.done.Wait()
	t.Logf("%d requests, %d failed, longest %s, by instance %v", l.sent.Load(), len(l.faults), l.worst, l.byApp)
	if len(l.faults) > 0 {
		t.Errorf("%d of %d requests failed: first %s, last %s", len(l.faults), l.sent.Load(), l.faults[0],
			l.faults[len(l.faults)-1])
	}
	if l.sent.Load() != l.ok.Load()+int64(len(l.faults)) {
		t.Errorf("%d sent, %d accounted for", l.sent.Load(), l.ok.Load()+int64(len(l.faults)))
	}
}
