package gate_test

import (
	"strings"
	"testing"
	"time"

	"github.com/sluicemesh/sluice/xds/gate"
)

func TestWatch(t *testing.T) {
	ms := time.Millisecond
	for name, test := range map[string]struct {
		run     func(w *gate.Watch)
		want    gate.Facts
		waiting string
	}{
		"nobody has ACKed": {
			func(w *gate.Watch) { w.Report("a", true, 3, at(0)) },
			gate.Facts{Required: 2, InFlight: 3, Inbound: 0}, "a has not ACKed",
		},
		"a report before the ACK does not count": {
			func(w *gate.Watch) {
				acked(w, 100)
				both(w, 0, 90, 0)
			},
			gate.Facts{Required: 2, Acked: 2, Inbound: 0}, "a, which calls it, has not reported since",
		},
		"nor one that is just after it": {
			func(w *gate.Watch) {
				acked(w, 100)
				both(w, 0, 110, 0)
			},
			gate.Facts{Required: 2, Acked: 2, Inbound: 0}, "has not reported since",
		},
		"one zero is not enough": {
			func(w *gate.Watch) {
				acked(w, 100)
				both(w, 0, 150, 0)
			},
			gate.Facts{Required: 2, Acked: 2, Reported: 2, Inbound: 0}, "a, which calls it, has reported zero once",
		},
		"two are": {
			func(w *gate.Watch) {
				acked(w, 100)
				both(w, 0, 150, 0)
				both(w, 0, 200, 0)
			},
			gate.Facts{Required: 2, Acked: 2, Reported: 2, Inbound: 0, Quiet: 50 * ms}, "",
		},
		"quiet is what all share": {
			func(w *gate.Watch) {
				acked(w, 100)
				both(w, 0, 150, 0)
				w.Report("a", true, 0, at(200))
				w.Report("b", true, 0, at(260))
				w.Report("t", false, 0, at(240))
			},
			gate.Facts{Required: 2, Acked: 2, Reported: 2, Inbound: 0, Quiet: 50 * ms}, "",
		},
		"one in flight starts over": {
			func(w *gate.Watch) {
				acked(w, 100)
				both(w, 0, 150, 0)
				w.Report("b", true, 1, at(170))
				both(w, 0, 200, 0)
			},
			gate.Facts{Required: 2, Acked: 2, Reported: 2, Inbound: 0}, "b, which calls it, has reported zero once",
		},
		"the callee's side counts": {
			func(w *gate.Watch) {
				acked(w, 100)
				both(w, 0, 150, 2)
				both(w, 0, 200, 2)
			},
			gate.Facts{Required: 2, Acked: 2, Reported: 2, Inbound: 2}, "t, which serves it, reports 2 in flight",
		},
		"the callee counts from the last ACK": {
			func(w *gate.Watch) {
				w.Acked("a", at(100))
				w.Report("t", false, 0, at(150))
				w.Report("t", false, 0, at(160))
				w.Acked("b", at(200))
				w.Report("a", true, 0, at(250))
				w.Report("b", true, 0, at(250))
				w.Report("a", true, 0, at(300))
				w.Report("b", true, 0, at(300))
			},
			gate.Facts{Required: 2, Acked: 2, Reported: 2, Inbound: 0}, "t, which serves it, has not reported since",
		},
		"a proxy that reconnected must ACK again": {
			func(w *gate.Watch) {
				acked(w, 100)
				both(w, 0, 150, 0)
				both(w, 0, 200, 0)
				w.Acked("b", time.Time{})
			},
			gate.Facts{Required: 2, Acked: 1, Reported: 1, Inbound: 0}, "b has not ACKed",
		},
		"a late joiner is required": {
			func(w *gate.Watch) {
				acked(w, 100)
				both(w, 0, 150, 0)
				both(w, 0, 200, 0)
				w.Require([]string{"a", "b", "c"}, []string{"t"})
			},
			gate.Facts{Required: 3, Acked: 2, Reported: 2, Inbound: 0}, "c has not ACKed",
		},
		"one that is gone is not": {
			func(w *gate.Watch) {
				acked(w, 100)
				w.Report("b", true, 5, at(150))
				w.Require([]string{"a"}, nil)
				w.Report("a", true, 0, at(160))
				w.Report("a", true, 0, at(220))
			},
			gate.Facts{Required: 1, Acked: 1, Reported: 1, Inbound: -1, Quiet: 60 * ms}, "",
		},
		"a proxy outside is not heard": {
			func(w *gate.Watch) {
				w.Acked("x", at(100))
				w.Report("x", true, 9, at(150))
				w.Report("x", false, 9, at(150))
			},
			gate.Facts{Required: 2, Inbound: 0}, "a has not ACKed",
		},
		"nobody calls it": {
			func(w *gate.Watch) {
				w.Require(nil, []string{"t"})
				w.Since(at(100))
				w.Report("t", false, 0, at(150))
				w.Report("t", false, 0, at(200))
			},
			gate.Facts{Inbound: 0, Quiet: 50 * ms}, "",
		},
	} {
		w := gate.NewWatch()
		w.Require([]string{"a", "b"}, []string{"t"})
		test.run(w)
		got := w.Facts()
		if !strings.Contains(got.Waiting, test.waiting) || (test.waiting == "") != (got.Waiting == "") {
			t.Errorf("%s: waiting %q, want %q", name, got.Waiting, test.waiting)
		}
		if got.Waiting = ""; got != test.want {
			t.Errorf("%s:\n got %+v\nwant %+v", name, got, test.want)
		}
	}
}

// acked makes both callers ACK.
func acked(w *gate.Watch, ms int) {
	w.Acked("a", at(ms))
	w.Acked("b", at(ms))
}

// both makes all three report.
func both(w *gate.Watch, callers, ms, callee int) {
	w.Report("a", true, callers, at(ms))
	w.Report("b", true, callers, at(ms))
	w.Report("t", false, callee, at(ms))
}
