package lease_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/xds/lease"
)

// at is a moment of a test.
func at(s float64) time.Time { return time.Unix(1000, 0).Add(time.Duration(s * float64(time.Second))) }

func key(callee mesh.Service) mesh.OverlayKey {
	return mesh.OverlayKey{Kind: mesh.OverlayDrain, Callee: callee}
}

func TestLease(t *testing.T) {
	table := lease.NewTable(3 * time.Second)
	table.Grant(key("shop/b"), 1, 10*time.Second, at(0))
	table.Grant(key("shop/a"), 1, 10*time.Second, at(0))
	if err := table.Extend(key("shop/b"), 1, 10*time.Second, at(9)); err != nil {
		t.Error(err)
	}
	if ended := table.Ended(at(9.9)); len(ended) != 0 {
		t.Errorf("ended early: %v", ended)
	}
	if ended := table.Ended(at(10)); !slices.Equal(ended, []mesh.OverlayKey{key("shop/a")}) {
		t.Errorf("ended at 10 s: %v, want that of shop/a", ended)
	}
	if ended := table.Ended(at(19)); !slices.Equal(ended, []mesh.OverlayKey{key("shop/b")}) {
		t.Errorf("ended at 19 s: %v, want that of shop/b", ended)
	}
	if ended := table.Ended(at(30)); len(ended) != 0 {
		t.Errorf("ended twice: %v", ended)
	}
}

func TestExtendIsRefused(t *testing.T) {
	table := lease.NewTable(0)
	table.Grant(key("shop/a"), 2, time.Second, at(0))
	for name, err := range map[string]error{
		"never granted":      table.Extend(key("shop/b"), 1, time.Second, at(0)),
		"another generation": table.Extend(key("shop/a"), 1, time.Second, at(0)),
		"run out":            table.Extend(key("shop/a"), 2, time.Second, at(1)),
	} {
		if !errors.Is(err, lease.ErrEnded) {
			t.Errorf("%s: got %v, want ErrEnded", name, err)
		}
	}
	table.Grant(key("shop/a"), 2, 10*time.Second, at(0))
	if err := table.Extend(key("shop/a"), 2, time.Second, at(0)); err != nil {
		t.Error(err)
	}
	if ended := table.Ended(at(5)); len(ended) > 0 {
		t.Error("extending by less has shortened it")
	}
	table.Revoke(key("shop/a"))
	if ended := table.Ended(at(100)); len(ended) > 0 {
		t.Error("a revoked lease ended")
	}
}

func TestShadow(t *testing.T) {
	table := lease.NewTable(3 * time.Second)
	lapsed := func(s float64) bool {
		_, lapsed := table.Lapsed("web", at(s))
		return lapsed
	}
	if lapsed(0) || len(table.Due(at(0))) > 0 {
		t.Error("a proxy without an overlay lapsed, or is due")
	}
	table.Armed("web", at(0))
	if due := table.Due(at(0.9)); len(due) > 0 {
		t.Errorf("due after 0.9 s: %v", due)
	}
	if due := table.Due(at(1)); !slices.Equal(due, []string{"web"}) {
		t.Errorf("due after 1 s: %v", due)
	}
	if due := table.Due(at(1.5)); len(due) > 0 {
		t.Errorf("due again 0.5 s later: %v", due)
	}
	table.Renewed("web", at(1))
	if lapsed(3.9) || !lapsed(4) {
		t.Error("renewed at 1 s with a TTL of 3 s, it must lapse at 4 s")
	}
	if when, _ := table.Lapsed("web", at(9)); !when.Equal(at(4)) {
		t.Errorf("lapsed at %s, want 4 s", when)
	}
	table.Renewed("web", at(5)) // the ACK shows that it had not lapsed there after all
	if lapsed(7.9) {
		t.Error("an ACKed heartbeat does not renew")
	}
	table.Refused("web", at(6))
	table.Renewed("web", at(6.5))
	if !lapsed(6.5) || len(table.Due(at(8))) > 0 {
		t.Error("a refused heartbeat must lapse it, and end the heartbeats")
	}
	table.Armed("web", at(8))
	if lapsed(8) {
		t.Error("armed again, it is still lapsed")
	}
	table.Disarmed("web")
	if lapsed(100) || len(table.Shadows()) > 0 {
		t.Error("disarmed, it is still there")
	}
}
