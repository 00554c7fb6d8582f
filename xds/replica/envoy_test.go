package replica

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/mesh/envoy"
)

// TestEnvoysOfTwoReplicas spreads real Envoys of two workers over two replicas: the callers by
// turns, the callee's own sidecar at the one that follows. A single instance is drained, held,
// proved empty by all and restarted without a failed request. While the follower is gone there
// is no proof; when it is back, all must ACK and be empty once more.
func TestEnvoysOfTwoReplicas(t *testing.T) {
	const (
		callers = 4
		ttl     = 4 * time.Second // on a machine that is busy, renewals can come late
	)
	world := worldOn(t, callers)
	p := newPlaneOf(t, 2, world, ttl)
	p.lead(0, 1)
	solo := newSolo(t, world.Find("shop/solo").Instances[0].App)
	p.envoys()
	l := flowing(t, world)

	o := drain(1)
	if err := <-p.apply(0, o); err != nil {
		t.Fatal(err)
	}
	if got := p.prove(0, o, all(callers)); got.Inbound != 0 {
		t.Errorf("%+v, want the word of the callee's sidecar", got)
	}
	solo.restart(500 * time.Millisecond)
	p.withdraw(0, o)
	l.flows(20 * callers)

	o = drain(2)
	o.Lease = time.Minute
	if err := <-p.apply(0, o); err != nil {
		t.Fatal(err)
	}
	p.prove(0, o, all(callers))
	name, address := p.replicas[1].Name, p.replicas[1].Address
	p.replicas[1].kill()
	p.prove(0, o, func(proof mesh.Proof) bool { return proof.Acked < proof.Required && proof.Quiet == 0 })
	p.unproved(0, o, time.Second)
	p.replicas[1] = p.member(name, address)
	p.prove(0, o, all(callers))
	solo.restart(500 * time.Millisecond)
	p.withdraw(0, o)
	l.flows(20 * callers)
	l.stop()
}

// all is a proof by so many callers and the callee's sidecar.
func all(callers int) func(mesh.Proof) bool {
	return func(p mesh.Proof) bool { return empty(p) && p.Required == callers && p.Inbound <= 0 }
}

// unproved demands that no proof holds for some time.
func (p *plane) unproved(i int, o mesh.Overlay, during time.Duration) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), during)
	defer cancel()
	err := p.replicas[i].Traffic().Prove(ctx, o.Key, o.Generation, func(proof mesh.Proof) {
		if empty(proof) {
			p.t.Errorf("%+v while a replica cannot be heard", proof)
		}
	})
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		p.t.Error(err)
	}
}

func (p *plane) withdraw(i int, o mesh.Overlay) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), 15*time.Second)
	defer cancel()
	if err := p.replicas[i].Traffic().Withdraw(ctx, o.Key, 0); err != nil {
		p.t.Fatal(err)
	}
}

// worldOn is worldOf on ports that are free, with a sidecar beside the callee.
func worldOn(t *testing.T, callers int) *mesh.World {
	t.Helper()
	w := worldOf(callers)
	for i := range w.Services[0].Instances {
		in, proxy := &w.Services[0].Instances[i], &w.Proxies[i]
		in.App, in.Inbound = free(t), free(t)
		proxy.App, proxy.Inbound, proxy.Park, proxy.Admin = in.App, in.Inbound, free(t), free(t)
		proxy.Outbound[0].Listen, proxy.Outbound[0].Timeout = free(t), 15*time.Second
	}
	solo := &w.Services[1].Instances[0]
	solo.App, solo.Inbound, solo.Proxy = free(t), free(t), "solo-0"
	w.Proxies = append(w.Proxies, mesh.Proxy{
		Node: "solo-0", Service: "shop/solo", Instance: "solo-0", App: solo.App, Inbound: solo.Inbound, Park: free(t), Admin: free(t),
	})
	return w
}

// ports counts those that free gave away: each is given once.
var ports atomic.Uint32 //nolint:gochecknoglobals // one count for all tests of the process

// free returns a port of the loopback that is free now, above those of outgoing connections.
func free(t *testing.T) netip.AddrPort {
	t.Helper()
	const first, count = 61000, 4500
	for range count {
		port := uint16(first + (ports.Add(1)+uint32(os.Getpid())*89)%count)
		address := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port)
		if listener, err := net.Listen("tcp", address.String()); err == nil {
			_ = listener.Close()
			return address
		}
	}
	t.Fatal("no free port from 61000 on")
	return netip.AddrPort{}
}

// envoys starts the proxies of the world, the i-th at replica i modulo their number, and
// waits until all are served.
func (p *plane) envoys() {
	p.t.Helper()
	binary, err := envoy.Find(p.t.Context(), "", io.Discard)
	if err != nil {
		if os.Getenv("CI") == "true" {
			p.t.Fatal(err)
		}
		p.t.Skip(err)
	}
	for i := range p.world.Proxies {
		proxy := &p.world.Proxies[i]
		at := p.replicas[i%len(p.replicas)]
		if proxy.Node == "solo-0" {
			at = p.replicas[1]
		}
		path := filepath.Join(p.dir, proxy.Node+".json")
		bootstrap := envoy.Bootstrap(envoy.Options{
			Node: proxy.Node, Cluster: string(proxy.Service), Admin: proxy.Admin, XDSSocket: at.socket,
		})
		if err := os.WriteFile(path, bootstrap, 0o600); err != nil {
			p.t.Fatal(err)
		}
		cmd := exec.Command(binary.Path, envoy.Args(path, 2)...)
		if err := cmd.Start(); err != nil {
			p.t.Fatal(err)
		}
		p.t.Cleanup(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		})
		eventually(p.t, 20*time.Second, proxy.Node+" has its listeners", func() bool {
			listens := proxy.Inbound
			if len(proxy.Outbound) > 0 {
				listens = proxy.Outbound[0].Listen
			}
			conn, err := net.Dial("tcp", listens.String())
			if err == nil {
				_ = conn.Close()
			}
			return err == nil
		})
	}
}

// solo is the one instance of the callee.
type solo struct {
	t       *testing.T
	address string
	server  *http.Server
	serving sync.WaitGroup
	inside  atomic.Int64
}

func newSolo(t *testing.T, address netip.AddrPort) *solo {
	t.Helper()
	s := &solo{t: t, address: address.String()}
	s.start()
	t.Cleanup(s.kill)
	return s
}

func (s *solo) start() {
	listener, err := net.Listen("tcp", s.address)
	if err != nil {
		s.t.Error(err)
		return
	}
	s.server = &http.Server{Handler: s, ReadHeaderTimeout: time.Minute}
	s.serving.Go(func() { _ = s.server.Serve(listener) })
}

// kill ends it as kill -9 would: what is in flight is lost.
func (s *solo) kill() {
	_ = s.server.Close()
	s.serving.Wait()
}

// restart demands that nothing is in flight.
func (s *solo) restart(down time.Duration) {
	s.t.Helper()
	if n := s.inside.Load(); n > 0 {
		s.t.Errorf("%d requests are in flight when it is killed", n)
	}
	s.kill()
	<-time.After(down)
	s.start()
}

// ServeHTTP implements http.Handler.
func (s *solo) ServeHTTP(http.ResponseWriter, *http.Request) {
	s.inside.Add(1)
	defer s.inside.Add(-1)
	<-time.After(40 * time.Millisecond)
}

// load is an open loop of requests by all callers.
type load struct {
	t        *testing.T
	cancel   context.CancelFunc
	sending  sync.WaitGroup
	ok, sent atomic.Int64
	mu       sync.Mutex
	faults   []string
}

// flowing starts the load: each caller 40 requests a second, at most a minute long.
func flowing(t *testing.T, world *mesh.World) *load {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	l := &load{t: t, cancel: cancel}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 500}, Timeout: 20 * time.Second}
	for i := range world.Proxies {
		for _, out := range world.Proxies[i].Outbound {
			l.sending.Go(func() { l.send(ctx, client, "http://"+out.Listen.String()+"/") })
		}
	}
	t.Cleanup(func() {
		cancel()
		l.sending.Wait()
		client.CloseIdleConnections()
	})
	l.flows(40)
	return l
}

func (l *load) send(ctx context.Context, client *http.Client, url string) {
	ticker := time.NewTicker(25 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			l.sent.Add(1)
			l.sending.Go(func() { l.one(client, url) })
		}
	}
}

func (l *load) one(client *http.Client, url string) {
	resp, err := client.Post(url, "text/plain", strings.NewReader("x"))
	if err == nil {
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			l.ok.Add(1)
			return
		}
		err = errors.New(resp.Status)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.faults = append(l.faults, fmt.Sprintf("%s: %v", time.Now().Format("05.000"), err))
}

// flows waits until n more requests are answered.
func (l *load) flows(n int64) {
	l.t.Helper()
	from := l.ok.Load()
	eventually(l.t, 10*time.Second, "traffic flows", func() bool { return l.ok.Load() >= from+n })
}

// stop ends the load and demands that every request was answered.
func (l *load) stop() {
	l.t.Helper()
	l.cancel()
	l.sending.Wait()
	l.t.Logf("%d requests, %d answered", l.sent.Load(), l.ok.Load())
	if len(l.faults) > 0 || l.ok.Load() != l.sent.Load() {
		l.t.Errorf("%d of %d requests failed: %s", len(l.faults), l.sent.Load(), strings.Join(l.faults[:min(5, len(l.faults))], "; "))
	}
}
