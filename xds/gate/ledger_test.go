package gate_test

import (
	"strconv"
	"testing"
	"time"

	"github.com/sluicemesh/sluice/xds/gate"
)

// at is a moment of a test.
func at(ms int) time.Time { return time.Unix(1000, 0).Add(time.Duration(ms) * time.Millisecond) }

const eds = "EDS"

func TestLedger(t *testing.T) {
	open := func() *gate.Ledger {
		l := gate.NewLedger()
		l.Open("web", 1, at(0))
		return l
	}
	for name, test := range map[string]struct {
		run  func(l *gate.Ledger)
		want map[uint64]gate.State // by version
	}{
		"nothing sent": {func(*gate.Ledger) {}, map[uint64]gate.State{1: gate.Pending}},
		"sent":         {func(l *gate.Ledger) { l.Sent(1, eds, "1", 1, at(1)) }, map[uint64]gate.State{1: gate.Pending}},
		"acked": {func(l *gate.Ledger) {
			l.Sent(1, eds, "1", 2, at(1))
			l.Answered(1, eds, "1", "", at(2))
		}, map[uint64]gate.State{1: gate.Acked, 2: gate.Acked, 3: gate.Pending}},
		"nacked, then mended": {func(l *gate.Ledger) {
			l.Sent(1, eds, "1", 1, at(1))
			l.Answered(1, eds, "1", "bad weight", at(2))
			l.Sent(1, eds, "2", 2, at(3))
			l.Answered(1, eds, "2", "", at(4))
		}, map[uint64]gate.State{1: gate.Acked, 2: gate.Acked}},
		"nacked over an ACK": {func(l *gate.Ledger) {
			l.Sent(1, eds, "1", 1, at(1))
			l.Answered(1, eds, "1", "", at(2))
			l.Sent(1, eds, "2", 2, at(3))
			l.Answered(1, eds, "2", "bad weight", at(4))
		}, map[uint64]gate.State{1: gate.Acked, 2: gate.Nacked, 3: gate.Pending}},
		"a foreign nonce": {func(l *gate.Ledger) {
			l.Sent(1, eds, "1", 1, at(1))
			l.Answered(1, eds, "99", "", at(2))
		}, map[uint64]gate.State{1: gate.Pending}},
		"a nonce of another type": {func(l *gate.Ledger) {
			l.Sent(1, "CDS", "1", 1, at(1))
			l.Answered(1, eds, "1", "", at(2))
		}, map[uint64]gate.State{1: gate.Pending}},
		"a stale nonce after a newer answer": {func(l *gate.Ledger) {
			l.Sent(1, eds, "1", 1, at(1))
			l.Sent(1, eds, "2", 2, at(2))
			l.Answered(1, eds, "2", "bad weight", at(3))
			l.Answered(1, eds, "1", "", at(4))
		}, map[uint64]gate.State{1: gate.Nacked, 2: gate.Nacked}},
		"a heartbeat's ACK is no version's": {func(l *gate.Ledger) {
			l.Sent(1, eds, "1", 0, at(1))
			l.Answered(1, eds, "1", "", at(2))
		}, map[uint64]gate.State{1: gate.Pending}},
		"a reconnect forgets": {func(l *gate.Ledger) {
			l.Sent(1, eds, "1", 1, at(1))
			l.Answered(1, eds, "1", "", at(2))
			l.Close(1)
			l.Open("web", 2, at(3))
		}, map[uint64]gate.State{1: gate.Pending}},
		"a disconnect does not": {func(l *gate.Ledger) {
			l.Sent(1, eds, "1", 1, at(1))
			l.Answered(1, eds, "1", "", at(2))
			l.Close(1)
		}, map[uint64]gate.State{1: gate.Acked}},
		"a late answer on the old stream": {func(l *gate.Ledger) {
			l.Sent(1, eds, "1", 1, at(1))
			l.Open("web", 2, at(2))
			l.Answered(1, eds, "1", "", at(3))
		}, map[uint64]gate.State{1: gate.Pending}},
		"in sync at a reconnect": {func(l *gate.Ledger) { l.InSync(1, eds, 4, at(1)) },
			map[uint64]gate.State{4: gate.Acked, 5: gate.Pending}},
		"in sync while something is unanswered": {func(l *gate.Ledger) {
			l.Sent(1, eds, "1", 4, at(1))
			l.InSync(1, eds, 4, at(2))
		}, map[uint64]gate.State{4: gate.Pending}},
		"in sync after a NACK": {func(l *gate.Ledger) {
			l.Sent(1, eds, "1", 4, at(1))
			l.Answered(1, eds, "1", "bad weight", at(2))
			l.InSync(1, eds, 4, at(3))
		}, map[uint64]gate.State{4: gate.Nacked}},
		"gone": {func(l *gate.Ledger) { l.Drop("web") }, map[uint64]gate.State{1: gate.Gone}},
	} {
		l := open()
		test.run(l)
		for version, want := range test.want {
			if got := l.State("web", eds, version); got != want {
				t.Errorf("%s: version %d is %s, want %s", name, version, got, want)
			}
		}
	}
}

// What a proxy never answers is bounded, and forgetting it never makes an ACK.
func TestUnansweredIsBounded(t *testing.T) {
	l := gate.NewLedger()
	l.Open("web", 1, at(0))
	for i := range 100 {
		l.Sent(1, eds, strconv.Itoa(i), uint64(i+1), at(i))
	}
	if a := l.Answered(1, eds, "0", "", at(200)); a.Known {
		t.Errorf("the oldest of 100 is still known: %+v", a)
	}
	if a := l.Answered(1, eds, "99", "", at(200)); !a.Known || a.Version != 100 {
		t.Errorf("the newest is %+v", a)
	}
}
