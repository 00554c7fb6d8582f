package server

import (
	"testing"
	"time"

	"github.com/sluicemesh/sluice/mesh"
)

// TestLive runs on real Envoys, one after the other on the same mesh.
func TestLive(t *testing.T) {
	r := newRig(t)
	for _, test := range []struct {
		name string
		run  func(*testing.T, *rig)
	}{
		{"a single instance is held over its restart", singleInstance},
		{"two instances roll", rolling},
	} {
		if !t.Run(test.name, func(t *testing.T) {
			r.t = t
			test.run(t, r)
		}) {
			return
		}
	}
}

func singleInstance(t *testing.T, r *rig) {
	l := startLoad(r.front("shop/solo"))
	eventually(t, 5*time.Second, "traffic flows", func() bool { return l.ok.Load() > 30 })
	o := drainOf("shop/solo", 1, "solo-0")
	r.apply(o)
	r.prove(o, empty)
	r.restart("solo-0", 1500*time.Millisecond)
	r.withdraw(o, 0)
	before := l.ok.Load()
	eventually(t, 5*time.Second, "traffic flows again", func() bool { return l.ok.Load() > before+50 })
	l.stop(t)
}

func rolling(t *testing.T, r *rig) {
	l := startLoad(r.front("shop/cart"))
	eventually(t, 5*time.Second, "traffic flows", func() bool { return l.ok.Load() > 30 })
	for i, uid := range []mesh.UID{"cart-0", "cart-1"} {
		o := drainOf("shop/cart", uint64(i+1), uid)
		r.apply(o)
		r.prove(o, empty)
		before := l.answered(string(uid))
		r.restart(uid, 700*time.Millisecond)
		if n := l.answered(string(uid)) - before; n > 2 {
			t.Errorf("%s answered %d requests while it was down", uid, n)
		}
		r.withdraw(o, 300*time.Millisecond)
		before = l.answered(string(uid))
		eventually(t, 5*time.Second, "it serves again", func() bool { return l.answered(string(uid)) > before+10 })
	}
	l.stop(t)
}
