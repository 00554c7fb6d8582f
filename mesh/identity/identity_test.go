package identity

import (
	"bytes"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/sluicemesh/sluice/internal/testca"
	"github.com/sluicemesh/sluice/mesh"
)

var domain = spiffeid.RequireTrustDomainFromString("mesh.test")

func TestRules(t *testing.T) {
	cart := &mesh.Proxy{Node: "cart-0", Service: "shop/cart", Instance: "cart-0-uid"}
	gateway := &mesh.Proxy{Node: "ingress", Service: "outside/web"}
	account := AccountRule(func(p *mesh.Proxy) string {
		if p == cart {
			return "cart-runner"
		}
		return ""
	})
	for _, test := range []struct {
		rule  Rule
		path  string
		proxy *mesh.Proxy
		want  bool
	}{
		{ServiceRule, "/ns/shop/svc/cart", cart, true},
		{ServiceRule, "/ns/shop/svc/cart/instance/cart-0-uid", cart, true},
		{ServiceRule, "/ns/outside/svc/web", gateway, true},
		{ServiceRule, "/ns/shop/svc/cart/instance/cart-1-uid", cart, false},
		{ServiceRule, "/ns/outside/svc/web/instance/x", gateway, false},
		{ServiceRule, "/ns/outside/svc/web/instance/", gateway, false},
		{ServiceRule, "/ns/shop/svc/store", cart, false},
		{ServiceRule, "/ns/other/svc/cart", cart, false},
		{ServiceRule, "/ns/shop/sa/cart", cart, false},
		{ServiceRule, "/ns/shop/svc/cart/more/cart-0-uid", cart, false},
		{ServiceRule, "/ns/shop/svc", cart, false},
		{ServiceRule, "", cart, false},
		{ServiceRule, ControlPlane, cart, false},
		{account, "/ns/shop/sa/cart-runner", cart, true},
		{account, "/ns/shop/sa/default", cart, false},
		{account, "/ns/other/sa/cart-runner", cart, false},
		{account, "/ns/shop/svc/cart-runner", cart, false},
		{account, "/ns/outside/sa/", gateway, false},
	} {
		err := test.rule(test.path, test.proxy)
		if (err == nil) != test.want || err != nil && !errors.Is(err, ErrForeign) {
			t.Errorf("%q as %s: got %v, want covered %t", test.path, test.proxy.Node, err, test.want)
		}
	}
}

// clock is a time that a test moves.
type clock struct{ at time.Time }

func (c *clock) now() time.Time { return c.at }

func paths(dir string) Paths {
	return Paths{Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem"), CA: filepath.Join(dir, "ca.pem")}
}

// in a moment, for certificates.
func soon() time.Time { return time.Now().Add(time.Hour) }

func TestFilesAreTakenAnew(t *testing.T) {
	ca, dir, c := testca.New(t, "mesh.test"), t.TempDir(), &clock{at: time.Now()}
	testca.Write(t, dir, ca.Issue("/ns/shop/svc/a", soon()), ca)
	f, err := Open(paths(dir), domain, nil, c.now)
	if err != nil {
		t.Fatal(err)
	}
	path := func() string {
		svid, err := f.GetX509SVID()
		if err != nil {
			t.Fatal(err)
		}
		return svid.ID.Path()
	}
	testca.Write(t, dir, ca.Issue("/ns/shop/svc/b", soon()), ca)
	if got := path(); got != "/ns/shop/svc/a" {
		t.Errorf("looked again at once: %s", got)
	}
	c.at = c.at.Add(lookEvery)
	if got := path(); got != "/ns/shop/svc/b" {
		t.Errorf("a second later still %s", got)
	}
	// Half of a change, and what does not fit, is passed over until it does.
	whole, err := os.ReadFile(filepath.Join(dir, "key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(){
		"key of another": func() { write(t, dir, "key.pem", ca.Issue("/x", soon()).Key) },
		"no key":         func() { os.Remove(filepath.Join(dir, "key.pem")) },
		"no PEM":         func() { write(t, dir, "key.pem", []byte("rubbish")) },
		"too large":      func() { write(t, dir, "key.pem", bytes.Repeat([]byte("x"), maxFile+1)) },
		"expired":        func() { testca.Write(t, dir, ca.Issue("/ns/shop/svc/c", time.Now().Add(-time.Minute)), ca) },
		"other domain":   func() { testca.Write(t, dir, testca.New(t, "else.test").Issue("/ns/shop/svc/c", soon()), ca) },
		"no authority":   func() { testca.Write(t, dir, ca.Issue("/ns/shop/svc/c", soon())) },
	} {
		spoil()
		c.at = c.at.Add(lookEvery)
		if got := path(); got != "/ns/shop/svc/b" {
			t.Errorf("%s: got %s", name, got)
		}
		write(t, dir, "key.pem", whole)
	}
	testca.Write(t, dir, ca.Issue("/ns/shop/svc/d", soon()), ca)
	c.at = c.at.Add(lookEvery)
	if got := path(); got != "/ns/shop/svc/d" {
		t.Errorf("whole again: got %s", got)
	}
	if _, err := f.GetX509BundleForTrustDomain(spiffeid.RequireTrustDomainFromString("else.test")); err == nil {
		t.Error("authorities of another trust domain are to be had")
	}
}

func write(t *testing.T, dir, name string, text []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestOpenSaysWhatIsWrong(t *testing.T) {
	if _, err := Open(Paths{}, domain, nil, nil); err == nil || !strings.Contains(err.Error(), "path is missing") {
		t.Errorf("no paths: %v", err)
	}
	dir := t.TempDir()
	testca.Write(t, dir, testca.New(t, "else.test").Issue("/x", soon()), testca.New(t, "else.test"))
	if _, err := Open(paths(dir), domain, nil, nil); err == nil || !strings.Contains(err.Error(), "want trust domain") {
		t.Errorf("another trust domain: %v", err)
	}
}

// files returns a source with a fresh certificate of path by one authority that trusts
// others.
func files(t *testing.T, path string, by *testca.CA, trusts ...*testca.CA) *Files {
	t.Helper()
	dir := t.TempDir()
	testca.Write(t, dir, by.Issue(path, soon()), trusts...)
	f, err := Open(paths(dir), domain, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// shake lets two configurations meet, and returns what each end says.
func shake(t *testing.T, server, client *tls.Config) (state tls.ConnectionState, atServer, atClient error) {
	t.Helper()
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	done := make(chan error, 1)
	conn := tls.Server(a, server)
	go func() {
		err := conn.HandshakeContext(t.Context())
		if err != nil {
			a.Close() // or the client would wait for more
		}
		done <- err
	}()
	peer := tls.Client(b, client)
	atClient = peer.HandshakeContext(t.Context())
	if atClient != nil {
		b.Close()
	} else {
		go peer.Read(make([]byte, 1)) // a refusal comes after the client is done
	}
	atServer = <-done
	return conn.ConnectionState(), atServer, atClient
}

func TestHandshakes(t *testing.T) {
	ca, other := testca.New(t, "mesh.test"), testca.New(t, "mesh.test")
	control := files(t, ControlPlane, ca, ca)
	server := ServerConfig(control, domain)
	replicas, replica, err := PeerConfigs(control, domain)
	if err != nil {
		t.Fatal(err)
	}
	proxy, err := ClientConfig(files(t, "/ns/shop/svc/cart", ca, ca), domain)
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := ClientConfig(files(t, "/ns/shop/svc/cart", other, ca), domain)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name           string
		server, client *tls.Config
		want           bool
	}{
		{"a proxy at the proxies' listener", server, proxy, true},
		{"a replica at the replicas' listener", replicas, replica, true},
		{"a proxy at the replicas' listener", replicas, proxy, false},
		{"a proxy of an authority that is not trusted", server, stranger, false},
		{"a proxy that poses as the control plane", ServerConfig(files(t, "/ns/shop/svc/cart", ca, ca), domain), proxy, false},
		{"a client without a certificate", server, &tls.Config{InsecureSkipVerify: true}, false},
	} {
		state, atServer, atClient := shake(t, test.server, test.client)
		if ok := atServer == nil && atClient == nil; ok != test.want {
			t.Errorf("%s: server says %v, client %v, want it to pass: %t", test.name, atServer, atClient, test.want)
		}
		if id, err := Peer(state); test.want && (err != nil || id.TrustDomain() != domain) {
			t.Errorf("%s: peer is %s, %v", test.name, id, err)
		}
	}
}

func TestAllow(t *testing.T) {
	ca, foreign := testca.New(t, "mesh.test"), testca.New(t, "else.test")
	cart := &mesh.Proxy{Service: "shop/cart"}
	state := func(by *testca.CA, path string) tls.ConnectionState {
		pair := by.Issue(path, soon())
		cert, err := tls.X509KeyPair(pair.Cert, pair.Key)
		if err != nil {
			t.Fatal(err)
		}
		var s tls.ConnectionState
		s.PeerCertificates = append(s.PeerCertificates, cert.Leaf)
		return s
	}
	allow := Allow(domain, ServiceRule)
	if err := allow(state(ca, "/ns/shop/svc/cart"), cart); err != nil {
		t.Error(err)
	}
	if err := allow(state(foreign, "/ns/shop/svc/cart"), cart); !errors.Is(err, ErrForeign) {
		t.Errorf("another trust domain: %v", err)
	}
	if err := allow(tls.ConnectionState{}, cart); err == nil {
		t.Error("no certificate at all is allowed")
	}
}

// No path makes a rule crash, nor cover what it does not name.
func FuzzServiceRule(f *testing.F) {
	f.Add("/ns/shop/svc/cart")
	f.Add("/ns/shop/svc/cart/instance/u")
	f.Fuzz(func(t *testing.T, path string) {
		p := &mesh.Proxy{Service: "shop/cart", Instance: "u"}
		named := strings.TrimPrefix(path, "/") == "ns/shop/svc/cart" ||
			strings.TrimPrefix(path, "/") == "ns/shop/svc/cart/instance/u"
		if covered := ServiceRule(path, p) == nil; covered != named {
			t.Errorf("%q: covered %t", path, covered)
		}
	})
}
