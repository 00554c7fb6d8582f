package replica

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/sluicemesh/sluice/internal/testca"
	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/mesh/identity"
	"github.com/sluicemesh/sluice/xds"
	"github.com/sluicemesh/sluice/xds/server"
)

var domain = spiffeid.RequireTrustDomainFromString("mesh.test")

// ttl of overlays at proxies in these tests.
const ttl = time.Second

// plane is a control plane of several replicas in one process, joined over mutual TLS.
type plane struct {
	t        *testing.T
	ca       *testca.CA
	dir      string
	world    *mesh.World
	ttl      time.Duration
	replicas []*member
}

// member is one replica.
type member struct {
	Peer
	*server.Server
	socket  string // of its proxies
	links   *grpc.Server
	stop    context.CancelFunc
	stopped chan error
	down    bool
}

func newPlane(t *testing.T, size, callers int) *plane {
	t.Helper()
	return newPlaneOf(t, size, worldOf(callers), ttl)
}

func newPlaneOf(t *testing.T, size int, world *mesh.World, ttl time.Duration) *plane {
	t.Helper()
	dir, err := os.MkdirTemp("", "rep")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	p := &plane{t: t, ca: testca.New(t, "mesh.test"), dir: dir, world: world, ttl: ttl}
	for i := range size {
		p.add(fmt.Sprintf("r%d", i))
	}
	return p
}

// add starts a replica that knows nothing but the world.
func (p *plane) add(name string) {
	p.t.Helper()
	p.replicas = append(p.replicas, p.member(name, "127.0.0.1:0"))
}

// member is a replica whose leader connects to address.
func (p *plane) member(name, address string) *member {
	p.t.Helper()
	m := &member{socket: filepath.Join(p.dir, name), stopped: make(chan error, 2)}
	var err error
	if m.Server, err = server.New(server.Config{Socket: m.socket, World: p.world, TTL: p.ttl}); err != nil {
		p.t.Fatal(err)
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		p.t.Fatal(err)
	}
	m.Peer = Peer{Name: name, Address: listener.Addr().String()}
	inbound, _ := p.configs(identity.ControlPlane)
	m.links = NewServer(m.Server, inbound.TLS)
	ctx, cancel := context.WithCancel(context.Background())
	m.stop = cancel
	go func() { m.stopped <- m.Serve(ctx) }()
	go func() { m.stopped <- m.links.Serve(listener) }()
	p.t.Cleanup(m.kill)
	return m
}

// kill ends a replica.
func (m *member) kill() {
	if m.down {
		return
	}
	m.down = true
	m.links.Stop()
	m.stop()
	<-m.stopped
	<-m.stopped
}

// configs returns both ends of a holder of an identity.
func (p *plane) configs(path string) (inbound, outbound *Leader) {
	p.t.Helper()
	dir, err := os.MkdirTemp(p.dir, "tls")
	if err != nil {
		p.t.Fatal(err)
	}
	testca.Write(p.t, dir, p.ca.Issue(path, time.Now().Add(time.Hour)), p.ca)
	files, err := identity.Open(identity.Paths{
		Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem"), CA: filepath.Join(dir, "ca.pem"),
	}, domain, nil, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	serving, dialing, err := identity.PeerConfigs(files, domain)
	if err != nil {
		p.t.Fatal(err)
	}
	return &Leader{TLS: serving}, &Leader{TLS: dialing}
}

// lead makes replica i the leader; the channel says how that ended.
func (p *plane) lead(i int, epoch uint64) <-chan error {
	p.t.Helper()
	_, l := p.configs(identity.ControlPlane)
	l.Server, l.Epoch = p.replicas[i].Server, epoch
	l.Log = slog.New(slog.DiscardHandler)
	for j, m := range p.replicas {
		if j != i {
			l.Peers = append(l.Peers, m.Peer)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	over := make(chan struct{})
	go func() {
		ended <- l.Run(ctx)
		close(over)
	}()
	p.t.Cleanup(func() {
		cancel()
		<-over
	})
	return ended
}

// proxies starts callers, the i-th at replica i modulo their number.
func (p *plane) proxies(n int) []*proxy {
	p.t.Helper()
	var out []*proxy
	for i := range n {
		one := &proxy{t: p.t, node: fmt.Sprintf("caller-%d", i), world: p.world}
		at := p.replicas[i%len(p.replicas)]
		one.connect(at.socket)
		out = append(out, one)
		eventually(p.t, 10*time.Second, one.node+" is served", func() bool { return acked(at.Server, one.node) })
	}
	return out
}

// acked reports whether a proxy has taken endpoints and runtime at a server.
func acked(s *server.Server, node string) bool {
	n := 0
	for _, status := range s.Proxies() {
		for _, typ := range status.Types {
			if status.Node == node && typ.Acked > 0 && (typ.Type == "EDS" || typ.Type == "RTDS") {
				n++
			}
		}
	}
	return n == 2
}

func worldOf(callers int) *mesh.World {
	solo := mesh.Instance{
		Ref: mesh.Ref{Service: "shop/solo", UID: "solo-0", Incarnation: 1}, Name: "solo-0", State: mesh.Ready,
		App: port(1), Inbound: port(1),
	}
	w := &mesh.World{Version: 1, Services: []mesh.ServiceState{
		{Name: "shop/caller", Protocol: mesh.HTTP, Replicas: callers},
		{Name: "shop/solo", Protocol: mesh.HTTP, Replicas: 1, Instances: []mesh.Instance{solo}},
	}}
	for i := range callers {
		name := fmt.Sprintf("caller-%d", i)
		w.Services[0].Instances = append(w.Services[0].Instances, mesh.Instance{
			Ref: mesh.Ref{Service: "shop/caller", UID: mesh.UID(name), Incarnation: 1}, Name: name,
			State: mesh.Ready, App: port(10 + 10*i), Inbound: port(11 + 10*i), Proxy: name,
		})
		w.Proxies = append(w.Proxies, mesh.Proxy{
			Node: name, Service: "shop/caller", Instance: mesh.UID(name),
			App: port(10 + 10*i), Inbound: port(11 + 10*i), Park: port(12 + 10*i), Admin: port(13 + 10*i),
			Outbound: []mesh.Outbound{{Service: "shop/solo", Listen: port(14 + 10*i), Timeout: 10 * time.Second}},
		})
	}
	return w
}

// port is an address that nobody listens on: no traffic runs.
func port(n int) netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(n))
}

func eventually(t *testing.T, within time.Duration, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(within)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", within, what)
		}
		select {
		case <-t.Context().Done():
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// apply runs Apply; the channel says how it ended.
func (p *plane) apply(i int, o mesh.Overlay) <-chan error {
	ended := make(chan error, 1)
	ctx, cancel := context.WithTimeout(p.t.Context(), 15*time.Second)
	go func() {
		defer cancel()
		_, err := p.replicas[i].Traffic().Apply(ctx, o)
		ended <- err
	}()
	return ended
}

// prove waits for a proof that the predicate likes.
func (p *plane) prove(i int, o mesh.Overlay, likes func(mesh.Proof) bool) mesh.Proof {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), 15*time.Second)
	defer cancel()
	var last mesh.Proof
	err := p.replicas[i].Traffic().Prove(ctx, o.Key, o.Generation, func(proof mesh.Proof) {
		if last = proof; likes(proof) {
			cancel()
		}
	})
	if err != nil || !likes(last) {
		p.t.Fatalf("no such proof: %v, last %+v", err, last)
	}
	return last
}

func empty(p mesh.Proof) bool {
	return p.Required == p.Acked && p.Acked == p.Reported && p.InFlight == 0 && p.Quiet >= 50*time.Millisecond && !p.Lapsed
}

// A drain is proved only when the proxies of every replica have answered and are empty.
func TestDrainOverReplicas(t *testing.T) {
	p := newPlane(t, 3, 3)
	p.lead(0, 1)
	callers := p.proxies(3)
	o := drain(1)
	release := callers[2].hold()
	callers[1].busy(3)
	applied := p.apply(0, o)
	eventually(t, 10*time.Second, "the followers have the overlay", func() bool {
		return len(p.replicas[1].Traffic().Installed()) == 1 && len(p.replicas[2].Traffic().Installed()) == 1
	})
	select {
	case err := <-applied:
		t.Fatalf("applied (%v) while a proxy of a follower had not answered", err)
	case <-time.After(500 * time.Millisecond):
	}
	release()
	if err := <-applied; err != nil {
		t.Fatal(err)
	}
	p.prove(0, o, func(proof mesh.Proof) bool {
		return proof.Required == 3 && proof.Acked == 3 && proof.Reported == 3 && proof.InFlight == 3
	})
	callers[1].busy(0)
	got := p.prove(0, o, empty)
	if got.Required != 3 {
		t.Errorf("%d proxies are required, want 3", got.Required)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	if err := p.replicas[0].Traffic().Withdraw(ctx, o.Key, 0); err != nil {
		t.Fatal(err)
	}
	for _, m := range p.replicas {
		if left := m.Traffic().Installed(); len(left) > 0 {
			t.Errorf("%s still has %v", m.Name, left)
		}
	}
}

// The proxies of a replica that dies prove nothing, until they are back at another.
func TestReplicaDies(t *testing.T) {
	p := newPlane(t, 3, 3)
	p.lead(0, 1)
	callers := p.proxies(3)
	o := drain(1)
	if err := <-p.apply(0, o); err != nil {
		t.Fatal(err)
	}
	p.prove(0, o, empty)
	p.replicas[1].kill()
	p.prove(0, o, func(proof mesh.Proof) bool { return proof.Acked == 2 && proof.Quiet == 0 })
	callers[1].disconnect()
	callers[1].connect(p.replicas[2].socket)
	if got := p.prove(0, o, empty); got.Required != 3 {
		t.Errorf("%d proxies are required, want 3", got.Required)
	}
}

// Followers renew overlays while the leader's leases run, and a follower that becomes the
// leader goes on with what is in force. The former leader's words count no more.
func TestLeaderChanges(t *testing.T) {
	p := newPlane(t, 3, 3)
	first := p.lead(0, 1)
	p.proxies(3)
	o := drain(1)
	if err := <-p.apply(0, o); err != nil {
		t.Fatal(err)
	}
	second := p.lead(1, 2)
	if err := <-first; !errors.Is(err, server.ErrEpoch) && !errors.Is(err, server.ErrFollower) {
		t.Errorf("the former leader ended with %v, want ErrEpoch or ErrFollower", err)
	}
	p.prove(1, o, empty)
	eventually(t, 10*time.Second, "the former leader follows", func() bool {
		_, err := p.replicas[0].Traffic().Apply(t.Context(), drain(2))
		return errors.Is(err, server.ErrFollower)
	})
	if err := p.replicas[2].Follow(server.Order{Epoch: 1, Seq: 9}); !errors.Is(err, server.ErrEpoch) {
		t.Errorf("an order of the former epoch: %v, want ErrEpoch", err)
	}
	if err := p.replicas[2].Follow(server.Order{Epoch: 2}); err == nil || errors.Is(err, server.ErrEpoch) {
		t.Errorf("an old order of the present leader: %v, want an error that deposes nobody", err)
	}
	if err := p.replicas[0].Lead(1); !errors.Is(err, server.ErrEpoch) {
		t.Errorf("leading in the former epoch: %v, want ErrEpoch", err)
	}
	if left := p.replicas[2].Traffic().Installed(); len(left) != 1 {
		t.Errorf("a follower has %v, want the overlay", left)
	}
	// Past the TTL it is still in force: heartbeats come from every replica.
	deadline := time.Now().Add(3 * ttl)
	for time.Now().Before(deadline) {
		if got := p.prove(1, o, func(mesh.Proof) bool { return true }); got.Lapsed {
			t.Fatal("the overlay lapsed at a proxy")
		}
		<-time.After(50 * time.Millisecond)
	}
	select {
	case err := <-second:
		t.Errorf("the leader ended: %v", err)
	default:
	}
}

// A replica that joins has what is in force before it serves any proxy.
func TestJoinsWithWhatIsInForce(t *testing.T) {
	p := newPlane(t, 2, 1)
	p.lead(0, 1)
	p.proxies(1)
	o := drain(1)
	if err := <-p.apply(0, o); err != nil {
		t.Fatal(err)
	}
	p.replicas[1].AwaitOrder(t.Context(), 10*time.Second)
	eventually(t, 10*time.Second, "it has the overlay", func() bool {
		got := p.replicas[1].Traffic().Installed()
		return len(got) == 1 && got[0].Generation == 1
	})
	alone, err := server.New(server.Config{Socket: "x", World: p.world})
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	alone.AwaitOrder(t.Context(), 50*time.Millisecond)
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("one that nobody leads waited %s", took)
	}
}

// Only the control plane may order: a proxy's certificate is refused.
func TestProxyCannotOrder(t *testing.T) {
	p := newPlane(t, 1, 1)
	_, proxy := p.configs("/ns/shop/svc/caller")
	proxy.TLS.VerifyPeerCertificate = nil // what it thinks of the server is not what is tested
	conn, err := grpc.NewClient(p.replicas[0].Address, grpc.WithTransportCredentials(credentials.NewTLS(proxy.TLS)),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(codec{})))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	stream, err := conn.NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true, ClientStreams: true},
		"/"+service+"/"+method)
	if err == nil {
		_ = stream.SendMsg(&server.Order{Epoch: 1, Seq: 1})
		err = stream.RecvMsg(&server.Account{})
	}
	if status.Code(err) != codes.Unavailable || len(p.replicas[0].Traffic().Installed()) > 0 {
		t.Errorf("got %v, want Unavailable", err)
	}
}

func TestMessagesAreDecodedStrictly(t *testing.T) {
	for text, want := range map[string]string{
		`{"Epoch":1,"Seq":1}`:           "",
		`{"Epoch":1,"Surprise":1}`:      "unknown field",
		`{"Epoch":1}{"Epoch":2}`:        "more than one",
		`{"Epoch":"one"}`:               "cannot unmarshal",
		`{"Epoch":1,"Overlays":[{"Key"`: "unexpected EOF",
	} {
		var o server.Order
		err := codec{}.Unmarshal([]byte(text), &o)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

// What one end writes the other reads, and nothing that is sent crashes a replica.
func FuzzOrder(f *testing.F) {
	for _, o := range []server.OrderedOverlay{
		{Left: 1}, {Staged: xds.Staged{Overlay: drain(1), Armed: true}, Left: time.Second},
	} {
		whole, err := codec{}.Marshal(&server.Order{
			Epoch: 1, Seq: 1, Overlays: []server.OrderedOverlay{o}, Watch: []string{"caller-0"},
			Cuts: map[string]uint64{"caller-0": 1}, Clean: []mesh.OverlayKey{o.Key},
		})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(whole)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var o server.Order
		if (codec{}).Unmarshal(data, &o) != nil {
			return
		}
		s, err := server.New(server.Config{Socket: "x", World: worldOf(1)})
		if err != nil {
			t.Fatal(err)
		}
		_ = s.Follow(o)
	})
}
