package server

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/sluicemesh/sluice/mesh"
)

func TestReadClusters(t *testing.T) {
	text := "shop/cart::observability_name::shop/cart\nshop/cart::default_priority::max_requests::1024\n" +
		"shop/cart::127.0.0.1:1::cx_active::9\nshop/cart::127.0.0.1:1::rq_active::3\n" +
		"shop/cart::127.0.0.1:1::rq_pending_active::2\nshop/cart::127.0.0.1:2::rq_active::0\n" +
		"shop/cart~o::[::1]:7::rq_active::1\nshop/cart~o::[::1]:7::hostname::\n"
	got, err := readClusters(strings.NewReader(text), []string{"shop/cart", "shop/cart~o"})
	if err != nil {
		t.Fatal(err)
	}
	base, twin := got["shop/cart"], got["shop/cart~o"]
	if len(base) != 1 || base[netip.MustParseAddrPort("127.0.0.1:1")] != 5 || twin[netip.MustParseAddrPort("[::1]:7")] != 1 {
		t.Errorf("got %v, want 5 in flight on 127.0.0.1:1 and 1 on [::1]:7", got)
	}
	for _, fault := range []struct{ name, text string }{
		{"another proxy's", "shop/other::127.0.0.1:1::rq_active::0\n"},
		{"no statistics", "<html>\n"},
		{"a number that is none", "shop/cart::127.0.0.1:1::rq_active::-1\n"},
		{"empty", ""},
	} {
		if _, err := readClusters(strings.NewReader(fault.text), []string{"shop/cart"}); !errors.Is(err, errStatistics) {
			t.Errorf("%s: got error %v, want errStatistics", fault.name, err)
		}
	}
}

func TestReadCounters(t *testing.T) {
	n, err := readCounters(strings.NewReader("http.in.downstream_rq_active: 3\nhttp.in_cut1.downstream_rq_active: 1\n"))
	if err != nil || n != 4 {
		t.Errorf("got %d, %v, want 4", n, err)
	}
	if _, err := readCounters(strings.NewReader("404")); !errors.Is(err, errStatistics) {
		t.Errorf("got error %v, want errStatistics", err)
	}
}

// Whatever an admin interface says, sums stay in range.
func FuzzReadClusters(f *testing.F) {
	for _, seed := range []string{"a::b::rq_active::1\n", "a::1.2.3.4:5::rq_active::18446744073709551615\n", "::::\n", ""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := readClusters(strings.NewReader(text), []string{"a"})
		if err != nil {
			return
		}
		if got["a"] == nil {
			t.Fatal("accepted without the cluster that must be there")
		}
		for _, endpoints := range got {
			for endpoint, n := range endpoints {
				if n <= 0 {
					t.Fatalf("%s has %d in flight", endpoint, n)
				}
			}
		}
	})
}

// firstProof restarts the control plane while a request is in flight. Envoy opens its
// load report stream again only 5 s later; the proof must not wait for that.
func firstProof(t *testing.T, r *rig) {
	conn, _ := upgrade(t, r.front("shop/solo"))
	echo(t, conn, "in flight")
	r.kill()
	r.serve()
	o := drainOf("shop/solo", 91, "solo-0")
	r.apply(o)
	p := r.prove(o, func(p mesh.Proof) bool { return p.Reported == 1 && p.InFlight > 0 && p.Inbound > 0 })
	if p.Quiet > 0 {
		t.Errorf("quiet for %s with %d in flight", p.Quiet, p.InFlight)
	}
	r.server.mu.Lock()
	streams := len(r.server.loads)
	r.server.mu.Unlock()
	if streams > 0 {
		t.Skip("load reports were back sooner than the proof: nothing to see here")
	}
	_ = conn.Close()
	ended := time.Now()
	r.prove(o, empty)
	if took := time.Since(ended); took > 2*time.Second {
		t.Errorf("the gate opened %s after the last request had ended", took)
	} else {
		t.Logf("the gate opened %s after the last request had ended", took)
	}
	r.withdraw(o, 0)
}
