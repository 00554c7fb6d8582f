package server

import (
	"context"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/sluicemesh/sluice/internal/testca"
	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/mesh/envoy"
	"github.com/sluicemesh/sluice/mesh/identity"
	"github.com/sluicemesh/sluice/xds"
)

// secureRig is the rig with every proxy on mutual TLS.
type secureRig struct {
	*rig
	address string
	binary  envoy.Binary
}

func newSecureRig(t *testing.T) *secureRig {
	t.Helper()
	binary, err := envoy.Find(t.Context(), "", io.Discard)
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	dir, err := os.MkdirTemp("", "xds")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	r := &secureRig{
		rig:     &rig{t: t, root: t, dir: dir, world: rigWorld(t), apps: map[mesh.UID]*app{}},
		address: freePort(t).String(), binary: binary,
	}
	for _, state := range r.world.Services {
		for _, instance := range state.Instances {
			r.apps[instance.UID] = newApp(t, instance.App, instance.Name, state.Protocol)
		}
	}
	return r
}

// of is the directory of a holder's certificate.
func (r *secureRig) of(holder string) string { return filepath.Join(r.dir, "tls", holder) }

// pathOf is the identity of a proxy.
func pathOf(p *mesh.Proxy) string {
	return "/ns/" + p.Service.Namespace() + "/svc/" + p.Service.Name()
}

// issue gives everybody a certificate by one authority, and others to trust.
func (r *secureRig) issue(by *testca.CA, trusted ...*testca.CA) {
	testca.Write(r.t, r.of("sluiced"), by.Issue(identity.ControlPlane, hence(time.Hour)), trusted...)
	for i := range r.world.Proxies {
		p := &r.world.Proxies[i]
		testca.Write(r.t, r.of(p.Node), by.Issue(pathOf(p), hence(time.Hour)), trusted...)
	}
}

// serve starts a control plane that knows nothing of any before it.
func (r *secureRig) serve() {
	log := slog.New(slog.NewTextHandler(testWriter{r.t}, &slog.HandlerOptions{Level: slog.LevelInfo}))
	server, err := New(Config{
		Socket: filepath.Join(r.dir, "x.sock"), World: r.world, Log: log, TTL: rigTTL,
		Remote: &Remote{
			Address: r.address, TLS: identity.ServerConfig(source(r.t, r.of("sluiced")), testDomain),
			Allow: identity.Allow(testDomain, identity.ServiceRule),
		},
	})
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.server, r.traffic, r.stop, r.stopped = server, server.Traffic(), cancel, make(chan error, 1)
	stopped := r.stopped
	go func() { stopped <- server.Serve(ctx) }()
	r.t.Cleanup(cancel)
}

// startTLS runs an Envoy as a node, with the certificates of holder.
func (r *secureRig) startTLS(p *mesh.Proxy, holder string) {
	r.t.Helper()
	over := &envoy.TLS{Address: r.address, Server: "spiffe://mesh.test" + identity.ControlPlane, Dir: r.of(holder)}
	files := over.Secrets()
	files[p.Node+".json"] = envoy.Bootstrap(envoy.Options{
		Node: p.Node, Cluster: string(p.Service), Admin: p.Admin, TLS: over,
	})
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(over.Dir, name), text, 0o600); err != nil {
			r.t.Fatal(err)
		}
	}
	cmd := exec.Command(r.binary.Path, envoy.Args(filepath.Join(over.Dir, p.Node+".json"), 1)...)
	cmd.Stderr = testWriter{r.t}
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
}

// Real Envoys over mutual TLS: they are configured and drained, certificates and
// authorities of both sides change under load, and a proxy with another's certificate
// stays outside.
func TestTLSLive(t *testing.T) {
	r := newSecureRig(t)
	first, second := testca.New(t, "mesh.test"), testca.New(t, "mesh.test")
	r.issue(first, first)
	r.serve()
	var impostor *mesh.Proxy
	for i := range r.world.Proxies {
		p := &r.world.Proxies[i]
		if p.Node == "cart-1" {
			impostor = p
			r.startTLS(p, "solo-0")
			continue
		}
		r.startTLS(p, p.Node)
	}
	refused := func() int { return (&gated{t: t, server: r.server}).refusals(refusedIdentity) }
	eventually(t, 20*time.Second, "the impostor is refused", func() bool { return refused() > 0 })
	eventually(t, 20*time.Second, "the others have taken everything", func() bool { return r.settledBut(impostor.Node) })

	load := startLoad(r.front("shop/solo"))
	o := drainOf("shop/solo", 1, "solo-0")
	r.apply(o)
	r.prove(o, empty)
	r.withdraw(o, 0)
	r.issue(first, first, second) // trust both, then show the new, then trust only that
	r.issue(second, first, second)
	r.issue(second, second)
	if !r.settledBut(impostor.Node) {
		t.Error("a stream was lost as certificates changed")
	}
	r.kill()
	r.serve()
	eventually(t, 30*time.Second, "all are back by their new certificates", func() bool { return r.settledBut(impostor.Node) })
	load.stop(t)
	if !r.server.ledgerConnected(impostor.Node).IsZero() {
		t.Error("the impostor is connected")
	}
}

// ledgerConnected returns since when a node is connected.
func (s *Server) ledgerConnected(node string) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ledger.Connected(node)
}

// settledBut reports whether every proxy but one has taken the newest of everything.
func (r *secureRig) settledBut(node string) bool {
	s := r.server
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, n := range s.nodes {
		for _, typ := range xds.Types() {
			if id != node && (s.ledger.Connected(id).IsZero() || !s.took(n, typ)) {
				return false
			}
		}
	}
	return true
}
