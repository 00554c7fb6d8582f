package server

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/xds"
)

// What a plan would push is shown for each step, and nothing of it is pushed.
func TestPreview(t *testing.T) {
	s, err := New(Config{Socket: filepath.Join(t.TempDir(), "x"), World: rigWorld(t)})
	if err != nil {
		t.Fatal(err)
	}
	program := &isa.Program{ID: "p", Steps: []isa.Step{
		{ID: "d1", Action: isa.Drain{Target: isa.Target{Service: "shop/solo"}, OnEmpty: mesh.OnEmptyHold}},
		{ID: "l1", Action: isa.RateLimit{Target: isa.Target{Service: "shop/cart"}, PerSecond: 5}},
	}}
	changes, leftOff, err := s.Preview(program, 100)
	if err != nil || leftOff != 0 {
		t.Fatal(leftOff, err)
	}
	var got []string
	for _, c := range changes {
		name, _, _ := strings.Cut(c.Name, "@")
		got = append(got, string(c.Step)+" "+c.Node+" "+c.Type.Short()+" "+name+" "+c.Kind)
	}
	want := "d1 ingress EDS shop/solo~o changed, d1 ingress RTDS ov changed, l1 cart-0 RDS in changed, " +
		"l1 cart-0 RTDS ov changed, l1 cart-1 RDS in changed, l1 cart-1 RTDS ov changed"
	if strings.Join(got, ", ") != want {
		t.Errorf("got  %s\nwant %s", strings.Join(got, ", "), want)
	}
	if len(s.Overlaid("ingress")) > 0 || len(s.Traffic().Installed()) > 0 {
		t.Error("a preview left something behind")
	}
	if few, leftOff, err := s.Preview(program, 3); err != nil || len(few) != 3 || leftOff != 2 {
		t.Errorf("at most 3: got %d and %d left off, %v; want 3, 1 of cart-0 and cart-1 as one", len(few), leftOff, err)
	}
	program.Steps[1].Action = isa.RateLimit{Target: isa.Target{Service: "shop/store"}, PerSecond: 5}
	if _, _, err := s.Preview(program, 100); !errors.Is(err, xds.ErrUnsupported) {
		t.Errorf("what cannot be done: got error %v, want ErrUnsupported", err)
	}
}

// What is in force is shown against the base.
func TestOverlaid(t *testing.T) {
	s, err := New(Config{Socket: filepath.Join(t.TempDir(), "x"), World: rigWorld(t)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.stage(drainOf("shop/solo", 1, "solo-0")); err != nil {
		t.Fatal(err)
	}
	changes := s.Overlaid("ingress")
	if len(changes) == 0 || !strings.Contains(changes[0].Diff, "+") || !strings.Contains(changes[0].Diff, "DRAINING") {
		t.Errorf("got %+v, want the drained twin", changes)
	}
	config := s.Config("ingress")
	if config.Find(xds.RuntimeType, xds.Overlays) == nil || len(s.Overlaid("nobody")) > 0 {
		t.Error("a proxy that is there has a runtime layer, one that is not has nothing")
	}
}
