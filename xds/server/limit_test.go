package server

import (
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluicemesh/sluice/mesh"
)

func limitOf(callee, caller mesh.Service, generation uint64, perSecond float64, burst uint32) mesh.Overlay {
	return mesh.Overlay{
		Key:  mesh.OverlayKey{Kind: mesh.OverlayLimit, Callee: callee, Caller: caller},
		Plan: "test", Step: "l1", Generation: generation, Lease: 30 * time.Second,
		Limit: &mesh.LimitOverlay{PerSecond: perSecond, Burst: burst},
	}
}

func breakOf(callee mesh.Service, generation uint64, b mesh.BreakOverlay) mesh.Overlay {
	return mesh.Overlay{
		Key:  mesh.OverlayKey{Kind: mesh.OverlayBreak, Callee: callee},
		Plan: "test", Step: "b1", Generation: generation, Lease: 30 * time.Second, Break: &b,
	}
}

// statuses sends n requests, width at once, and counts the answers by status.
func statuses(t *testing.T, address string, n, width int) map[int]int {
	t.Helper()
	var mu sync.Mutex
	var left atomic.Int64
	left.Store(int64(n))
	out := map[int]int{}
	var senders sync.WaitGroup
	for range width {
		senders.Go(func() {
			for left.Add(-1) >= 0 {
				resp, err := post(address)
				code := 0
				if err == nil {
					code = resp.StatusCode
				}
				if code == http.StatusTooManyRequests && resp.Header.Get("Retry-After") == "" {
					code = -code // refused without saying when to come again
				}
				mu.Lock()
				out[code]++
				mu.Unlock()
			}
		})
	}
	senders.Wait()
	return out
}

// rateLimits limits one edge, and all callers at the callee's own proxies, and demands
// that no more pass than may, and all once the limit is gone.
func rateLimits(t *testing.T, r *rig) {
	for i, caller := range []mesh.Service{"outside/web", ""} {
		o := limitOf("shop/cart", caller, uint64(i+1), 20, 10)
		r.apply(o)
		start := time.Now()
		got := statuses(t, r.front("shop/cart"), 120, 6)
		most := 20*time.Since(start).Seconds() + 10 + 2 // the bucket was full, and two proxies round up
		t.Logf("by %q: %v, at most %.0f may pass", caller, got, most)
		if passed := got[http.StatusOK]; float64(passed) > most || passed < 10 || passed+got[http.StatusTooManyRequests] != 120 {
			t.Errorf("by %q: %v, want 10 to %.0f to pass and all others refused with 429 and Retry-After", caller, got, most)
		}
		r.withdraw(o, 0)
		if got := statuses(t, r.front("shop/cart"), 60, 6); got[http.StatusOK] != 60 {
			t.Errorf("by %q, withdrawn: %v, want 60 to pass", caller, got)
		}
	}
}

// limitLapses kills the control plane while a limit is in force: it ends with its TTL.
func limitLapses(t *testing.T, r *rig) {
	o := limitOf("shop/solo", "", 1, 1, 1)
	r.apply(o)
	if got := statuses(t, r.front("shop/solo"), 20, 4); got[http.StatusTooManyRequests] < 15 {
		t.Errorf("limited: %v, want most refused", got)
	}
	r.kill()
	eventually(t, rigTTL+2*time.Second, "the limit ends without a control plane", func() bool {
		return statuses(t, r.front("shop/solo"), 8, 4)[http.StatusOK] == 8
	})
	r.serve()
	eventually(t, 15*time.Second, "proxies are back", r.settled)
	if got := statuses(t, r.front("shop/solo"), 20, 4); got[http.StatusOK] != 20 {
		t.Errorf("under the next control plane: %v, want 20 to pass", got)
	}
}

// limitsCompose drains an instance while the edge is limited and its circuit breaker
// lowered: what passes the limit is held and served.
func limitsCompose(t *testing.T, r *rig) {
	limit := limitOf("shop/solo", "outside/web", 11, 1000, 1000)
	breaker := breakOf("shop/solo", 12, mesh.BreakOverlay{MaxRequests: 200, Consecutive5xx: 5})
	r.apply(limit)
	r.apply(breaker)
	l := r.flowing("shop/solo")
	o := drainOf("shop/solo", 13, "solo-0")
	r.apply(o)
	r.prove(o, empty)
	r.restart("solo-0", 700*time.Millisecond)
	r.withdraw(o, 0)
	l.flows(t, 50)
	r.withdraw(limit, 0)
	r.withdraw(breaker, 0)
	l.flows(t, 50)
	l.stop(t)
}

// breaks bounds the requests at once, which Envoy refuses from then on.
func breaks(t *testing.T, r *rig) {
	o := breakOf("shop/solo", 21, mesh.BreakOverlay{MaxRequests: 2})
	r.apply(o)
	got := statuses(t, r.front("shop/solo"), 60, 10)
	if got[http.StatusOK] == 0 || got[http.StatusServiceUnavailable] < 20 {
		t.Errorf("with 2 at once of 10: %v, want many refused", got)
	}
	r.withdraw(o, 0)
	if got := statuses(t, r.front("shop/solo"), 60, 10); got[http.StatusOK] != 60 {
		t.Errorf("withdrawn: %v, want 60 to pass", got)
	}
}

// ejects has one of two instances fail: it is taken out, the other serves, and load goes
// on over the change of clusters at both ends. A single instance is never taken out.
func ejects(t *testing.T, r *rig) {
	l := r.flowing("shop/cart")
	o := breakOf("shop/cart", 31, mesh.BreakOverlay{Consecutive5xx: 5})
	r.apply(o)
	l.flows(t, 50)
	r.withdraw(o, 0)
	l.flows(t, 50)
	l.stop(t)

	r.apps["cart-0"].failing.Store(true)
	defer r.apps["cart-0"].failing.Store(false)
	o.Generation++
	r.apply(o)
	statuses(t, r.front("shop/cart"), 40, 2)
	if got := statuses(t, r.front("shop/cart"), 60, 4); got[http.StatusOK] != 60 {
		t.Errorf("with a failing instance ejected: %v, want 60 to pass", got)
	}
	r.apps["cart-0"].failing.Store(false)
	r.withdraw(o, 0)

	r.apps["solo-0"].failing.Store(true)
	defer r.apps["solo-0"].failing.Store(false)
	single := breakOf("shop/solo", 33, mesh.BreakOverlay{Consecutive5xx: 3})
	r.apply(single)
	statuses(t, r.front("shop/solo"), 20, 2)
	if got := statuses(t, r.front("shop/solo"), 20, 2); got[http.StatusInternalServerError] != 20 {
		t.Errorf("a single failing instance: %v, want its own answers, it must not be taken out", got)
	}
	r.withdraw(single, 0)
}
