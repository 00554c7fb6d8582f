package mesh_test

import (
	"strings"
	"testing"

	"github.com/sluicemesh/sluice/mesh"
)

func TestParseService(t *testing.T) {
	long := strings.Repeat("a", mesh.MaxLabel)
	for _, c := range []struct{ text, fault string }{
		{"shop/cart", ""},
		{"0shop/9-cart", ""},
		{long + "/" + long, ""},
		{"shop", "want NAMESPACE/NAME"},
		{"shop/", "name is empty"},
		{"/cart", "namespace is empty"},
		{"shop/" + long + "a", "at most 63"},
		{"shop/-cart", "hyphen"},
		{"shop/cart-", "hyphen"},
		{"Shop/cart", "0x53"},
		{"shop/cart/x", "0x2f"},
		{"shop/c\u0430rt", "0xd0"},
		{"shop/cart\r\n", "0x0d"},
	} {
		got, err := mesh.ParseService(c.text)
		switch {
		case c.fault == "" && (err != nil || string(got) != c.text):
			t.Errorf("%q: got %q, %v, want it unchanged", c.text, got, err)
		case c.fault != "" && (err == nil || !strings.Contains(err.Error(), c.fault)):
			t.Errorf("%q: got error %v, want one with %q", c.text, err, c.fault)
		}
	}
}

// What ParseService accepts is made of its two parts, and its errors are plain ASCII.
func FuzzParseService(f *testing.F) {
	for _, seed := range []string{"shop/cart", "a/b/c", "", "/", "рayment/x", "a/\x00"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		service, err := mesh.ParseService(text)
		if err == nil {
			if service.Namespace()+"/"+service.Name() != text {
				t.Errorf("%q splits into %q and %q", text, service.Namespace(), service.Name())
			}
			return
		}
		for _, b := range []byte(err.Error()) {
			if b < ' ' || b > '~' {
				t.Fatalf("error of %q has byte %#x: %q", text, b, err.Error())
			}
		}
	})
}

func TestFindAndInstance(t *testing.T) {
	world := &mesh.World{Services: []mesh.ServiceState{
		{Name: "shop/cart", Instances: []mesh.Instance{
			{Ref: mesh.Ref{UID: "u1"}, State: mesh.Ready}, {Ref: mesh.Ref{UID: "u2"}, State: mesh.Stopped},
		}},
		{Name: "shop/web"},
	}}
	if s := world.Find("shop/cart"); s == nil || s.ReadyCount() != 1 {
		t.Errorf("shop/cart: got %+v, want it with one ready instance", s)
	}
	if s := world.Find("shop/db"); s != nil {
		t.Errorf("shop/db: got %+v, want none", s)
	}
	if s, i := world.Instance("u2"); s == nil || s.Name != "shop/cart" || i.State != mesh.Stopped {
		t.Errorf("u2: got %+v of %+v", i, s)
	}
	if s, i := world.Instance("u3"); s != nil || i != nil {
		t.Errorf("u3: got %+v of %+v, want none", i, s)
	}
}

func TestGradesAreOrdered(t *testing.T) {
	order := []mesh.Grade{mesh.GradeA, mesh.GradeB, mesh.GradeC, mesh.GradeD}
	for i, g := range order {
		for j, floor := range order {
			if got, want := g.AtLeast(floor), i <= j; got != want {
				t.Errorf("%s at least %s: got %v, want %v", g, floor, got, want)
			}
		}
	}
	if mesh.Grade("").AtLeast(mesh.GradeD) {
		t.Error("an unknown grade counts as one")
	}
}
