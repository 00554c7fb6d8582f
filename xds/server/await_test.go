package server

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluicemesh/sluice/mesh"
)

// waiting is a wait for three proxies that a test answers for.
type waiting struct {
	server *Server
	done   map[string]bool
	refuse error
	looks  int
	ended  chan error
}

func newWaiting(t *testing.T) *waiting {
	t.Helper()
	world := &mesh.World{Version: 1, Services: []mesh.ServiceState{{Name: "shop/cart", Replicas: 1}}}
	for i := range 3 {
		world.Proxies = append(world.Proxies, mesh.Proxy{
			Node: fmt.Sprintf("web-%d", i), Service: "shop/web", Outbound: []mesh.Outbound{{Service: "shop/cart"}},
		})
	}
	s, err := New(Config{Socket: filepath.Join(t.TempDir(), "x.sock"), World: world})
	if err != nil {
		t.Fatal(err)
	}
	w := &waiting{server: s, done: map[string]bool{}, ended: make(chan error, 1)}
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	key := mesh.OverlayKey{Kind: mesh.OverlayDrain, Callee: "shop/cart"}
	go func() {
		w.ended <- s.awaitEach(ctx, key, func(n *node) (bool, error) {
			w.looks++
			return w.done[n.id], w.refuse
		})
	}()
	w.until(t, func() bool { return s.nodes["web-2"].awaited })
	return w
}

// until waits for what is to be so with the server's lock held.
func (w *waiting) until(t *testing.T, so func() bool) {
	t.Helper()
	eventually(t, 10*time.Second, "the wait stands where it should", func() bool {
		w.server.mu.Lock()
		defer w.server.mu.Unlock()
		return so()
	})
}

func (w *waiting) ack(id string) {
	w.server.mu.Lock()
	defer w.server.mu.Unlock()
	w.done[id] = true
	w.server.acked(w.server.nodes[id])
}

func TestAwaitEach(t *testing.T) {
	w := newWaiting(t)
	w.ack("web-2")
	w.until(t, func() bool { return w.server.nodes["web-1"].awaited })
	w.ack("web-0")
	w.ack("web-1")
	if err := <-w.ended; err != nil {
		t.Fatal(err)
	}
}

// Whoever is refused anywhere hears of it, although it waits for another proxy.
func TestAwaitEachRefused(t *testing.T) {
	w := newWaiting(t)
	w.server.mu.Lock()
	w.refuse = errors.New("refused")
	w.server.bump()
	w.server.mu.Unlock()
	if err := <-w.ended; !errors.Is(err, w.refuse) {
		t.Fatalf("got %v", err)
	}
}

// What was done may not be so any more, if anything but an ACK comes in between.
func TestAwaitEachTakenBack(t *testing.T) {
	w := newWaiting(t)
	w.ack("web-2")
	w.until(t, func() bool { return w.server.nodes["web-1"].awaited })
	w.server.mu.Lock()
	w.done["web-2"] = false
	w.server.bump()
	w.server.mu.Unlock()
	w.until(t, func() bool { return w.server.nodes["web-2"].awaited })
	w.ack("web-0")
	w.ack("web-1")
	w.until(t, func() bool { return w.server.nodes["web-2"].awaited && len(w.ended) == 0 })
	w.ack("web-2")
	if err := <-w.ended; err != nil {
		t.Fatal(err)
	}
}

// A nonce is not to be had but by reading the response: it stands for what has arrived.
func TestNonce(t *testing.T) {
	seen := map[string]bool{}
	for n := range uint64(1000) {
		number, secret, found := strings.Cut(newNonce(n), "-")
		if number != fmt.Sprint(n) || !found || len(secret) != 16 || seen[secret] {
			t.Fatalf("nonce %d is %s-%s", n, number, secret)
		}
		seen[secret] = true
	}
}
