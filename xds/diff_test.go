package xds_test

import (
	"strings"
	"testing"

	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/xds"
)

// TestDiff compares what a composed plan would push with a golden file: what is added,
// what is changed and by which lines, and nothing else.
func TestDiff(t *testing.T) {
	base := xds.Base(shop(), "web-0")
	got, errs := xds.Build(shop(), "web-0", composed())
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	var out strings.Builder
	for _, c := range xds.Diff(&base, &got) {
		out.WriteString("# " + c.Type.Short() + " " + c.Name + " " + c.Kind + "\n" + c.Diff)
	}
	compare(t, "diff", []byte(out.String()))
	if same := xds.Diff(&got, &got); len(same) > 0 {
		t.Errorf("nothing differs, got %v", same)
	}
	back := xds.Diff(&got, &base)
	if len(back) != strings.Count(out.String(), "# ") || back[0].Kind != "removed" {
		t.Errorf("the way back has %d changes, the first of kind %s", len(back), back[0].Kind)
	}
}

// What a program would put on is what its steps say, with the instances that they select.
func TestPreview(t *testing.T) {
	planned := xds.Preview(shop(), &isa.Program{ID: "p", Steps: []isa.Step{
		{ID: "d1", Action: isa.Drain{Target: isa.Target{Service: "shop/cart", UID: "uid-cart-1"}, OnEmpty: mesh.OnEmptyHold}},
		{ID: "r1", Action: isa.Restart{Target: isa.Target{Service: "shop/cart", UID: "uid-cart-1"}, Drain: "d1"}},
		{ID: "t1", Action: isa.RestoreTraffic{Drain: "d1"}},
		{ID: "b1", Action: isa.CircuitBreak{Target: isa.Target{Service: "shop/store"}, MaxConnections: 5}},
		{ID: "l1", Action: isa.RateLimit{Target: isa.Target{Service: "shop/cart"}, Caller: "shop/web", PerSecond: 5}},
	}})
	if len(planned) != 3 || planned[0].Step != "d1" || planned[1].Step != "b1" || planned[2].Step != "l1" {
		t.Fatalf("got %+v, want d1, b1 and l1", planned)
	}
	d := planned[0].Overlay.Drain
	if len(d.Instances) != 1 || d.Instances[0] != "uid-cart-1" || d.Share != 100 || d.Streams != mesh.StreamsWait {
		t.Errorf("drain is %+v, want all of uid-cart-1", d)
	}
	if key := planned[2].Overlay.Key; key.Caller != "shop/web" || key.Kind != mesh.OverlayLimit {
		t.Errorf("limit is on %+v, want the edge from shop/web", key)
	}
	for _, p := range planned {
		if err := xds.Validate(shop(), p.Overlay); err != nil {
			t.Errorf("%s: %v", p.Step, err)
		}
	}
}
