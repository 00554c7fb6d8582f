package explore

import (
	"crypto/sha256"
	"encoding/binary"
)

// key is what two nodes have in common if nothing can tell them apart from now on.
type key [16]byte

func (n *node) key() key {
	w := writer{buf: append(make([]byte, 0, 512), n.like[:]...)}
	w.numbers(int64(n.now), n.left.Crashes, n.left.Faults, n.left.Timeouts, n.left.Acts, n.left.Harms, n.process)
	w.bits(n.down, n.sent[0], n.sent[1], n.revised)
	w.numbers(0, n.replicas[0], n.replicas[1], n.replicas[2])
	for i := range n.instances {
		w.bits(n.instances[i].up, n.instances[i].dead)
		w.numbers(int64(n.instances[i].ref.Incarnation))
	}
	for i := range n.overlays {
		o := &n.overlays[i]
		w.text(string(o.overlay.Key.Callee), string(o.overlay.Key.Kind), o.overlay.Plan, o.overlay.Step)
		w.numbers(int64(o.leaseEnd), int(o.overlay.Generation), o.obey, o.acked, o.busy, o.proved)
		w.bits(o.lapsed, o.removing, o.stuck)
	}
	for i := range n.orders {
		w.text(string(n.orders[i].kind), string(n.orders[i].plan), string(n.orders[i].step))
		w.numbers(int64(n.orders[i].number))
		w.bits(n.orders[i].done)
	}
	for i := range n.timers {
		t := &n.timers[i]
		w.text(string(t.id.Plan), string(t.id.Step), t.id.Name)
		w.numbers(int64(t.due))
	}
	for i := range n.reboots {
		w.text(string(n.reboots[i].plan), string(n.reboots[i].step))
	}
	for i := range n.formers {
		w.text(string(n.formers[i].plan), string(n.formers[i].step))
		w.numbers(int64(n.formers[i].replicas))
	}
	sum := sha256.Sum256(w.buf)
	return key(sum[:16])
}

// writer spells values so that no two lists of them look alike.
type writer struct{ buf []byte }

func (w *writer) numbers(first int64, rest ...int) {
	w.buf = binary.LittleEndian.AppendUint64(w.buf, uint64(first))
	for _, n := range rest {
		w.buf = binary.AppendVarint(w.buf, int64(n))
	}
}

func (w *writer) text(words ...string) {
	for _, s := range words {
		w.buf = append(binary.AppendUvarint(w.buf, uint64(len(s))), s...)
	}
}

func (w *writer) bits(values ...bool) {
	for _, b := range values {
		if b {
			w.buf = append(w.buf, 1)
		} else {
			w.buf = append(w.buf, 0)
		}
	}
}
