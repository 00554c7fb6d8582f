package microkernel_test

import (
	"testing"

	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/microkernel"
)

// proposed parses body, proposes it in the world of view, and returns the verdict.
func proposed(t *testing.T, view microkernel.View, body string) string {
	t.Helper()
	program, _, faults := isa.ParseText([]byte("plan p\n" + body))
	if len(faults) > 0 {
		t.Fatalf("%s: %v", body, faults)
	}
	by := microkernel.Principal{Name: "anna", Role: microkernel.Approver}
	_, effects := microkernel.Step(led(microkernel.DefaultPolicy()), microkernel.Submitted{By: by, Program: program, View: view})
	return verdict(t, effects)
}

func TestWhatMayBeScaled(t *testing.T) {
	cart := func(change func(*microkernel.ServiceView)) func(*microkernel.View) {
		return func(v *microkernel.View) { change(&v.Services[0]) }
	}
	drained := "d1 = drain shop/cart#cart-0\n"
	for _, c := range []struct {
		name, body, want string
		view             func(*microkernel.View)
	}{
		{"more", "s1 = scale shop/cart to 5", "admit", nil},
		{"as many", "s1 = scale shop/cart to 3", "admit", nil},
		{"fewer", "s1 = scale shop/cart to 2", "admit", nil},
		{"nobody", "s1 = scale shop/nobody to 2", "reject:unknown-target", nil},
		{"below the least", "s1 = scale shop/cart to 1", "reject:scale-floor",
			cart(func(s *microkernel.ServiceView) { s.MinAvailable = 2 })},
		{"below its quorum", "s1 = scale shop/cart to 1", "reject:scale-floor",
			cart(func(s *microkernel.ServiceView) { s.Quorum = 2 })},
		{"less than its load needs", "s1 = scale shop/cart to 2", "reject:scale-floor",
			cart(func(s *microkernel.ServiceView) { s.Utilisation = 0.7 })},
		{"more, though its load needs more still", "s1 = scale shop/cart to 4", "admit",
			cart(func(s *microkernel.ServiceView) { s.Utilisation = 1 })},
		{"nobody can", "s1 = scale shop/cart to 5", "reject:unsupported", cart(func(s *microkernel.ServiceView) { s.Fixed = true })},
		{"an autoscaler's", "s1 = scale shop/cart to 5", "reject:foreign-owner",
			cart(func(s *microkernel.ServiceView) { s.Owner = "hpa/cart" })},
		{"protected", "s1 = scale shop/cart to 5", "reject:protected", cart(func(s *microkernel.ServiceView) { s.Protected = true })},
		{"fewer while one is drained", drained + "s1 = scale shop/cart to 1 after d1\nt1 = restore d1 after s1", "reject:scale-floor", nil},
		{"fewer at any time beside a drain", drained + "s1 = scale shop/cart to 1\nt1 = restore d1 after d1", "reject:scale-floor", nil},
		{"fewer before a drain", "s1 = scale shop/cart to 1\nd1 = drain shop/cart#cart-0 after s1\nt1 = restore d1 after d1",
			"reject:scale-floor", nil},
		{"fewer, and enough are left", drained + "s1 = scale shop/cart to 2 after d1\nt1 = restore d1 after s1", "admit", nil},
		{"fewer after the restore", drained + "t1 = restore d1 after d1\ns1 = scale shop/cart to 1 after t1", "admit", nil},
		{"more while one is drained", drained + "s1 = scale shop/cart to 4 after d1\nt1 = restore d1 after s1", "admit", nil},
		{"fewer while requests are held", "d1 = drain shop/cart hold\ns1 = scale shop/cart to 1 after d1\nt1 = restore d1 after s1", "admit", nil},
	} {
		if got := proposed(t, lone(c.view), c.body); got != c.want {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
	}
}

func TestWhatMayBeRolledBack(t *testing.T) {
	object := func(change func(*microkernel.ObjectView)) func(*microkernel.View) {
		return func(v *microkernel.View) {
			o := microkernel.ObjectView{
				Name: "configmap/shop/cart", Services: []mesh.Service{"shop/cart"}, Current: "8",
				Known: []string{"6", "7", "8"}, Denied: []string{"6"},
			}
			if change != nil {
				change(&o)
			}
			v.Rollback, v.Objects = true, []microkernel.ObjectView{o}
		}
	}
	configures := func(services ...mesh.Service) func(*microkernel.View) {
		return object(func(o *microkernel.ObjectView) { o.Services = services })
	}
	back := func(revision string) string { return "c1 = rollback configmap/shop/cart to " + revision }
	for _, c := range []struct {
		name, body, want string
		view             func(*microkernel.View)
	}{
		{"known", back("7"), "admit", object(nil)},
		{"denied", back("6"), "reject:denied", object(nil)},
		{"never in force", back("9"), "reject:unknown-version", object(nil)},
		{"denied, and not kept any more", back("5"), "reject:denied",
			object(func(o *microkernel.ObjectView) { o.Denied = []string{"5"} })},
		{"owned", back("7"), "reject:foreign-owner", object(func(o *microkernel.ObjectView) { o.Owner = "argo" })},
		{"of no service", back("7"), "reject:unknown-target", configures()},
		{"another one", "c1 = rollback configmap/shop/other to 7", "reject:unknown-target", object(nil)},
		{"nobody can", back("7"), "reject:unsupported", nil},
		{"by its name of a protected namespace", "c1 = rollback configmap/kube-system/dns to 7", "reject:protected-namespace", object(nil)},
		{"configures a protected namespace", back("7"), "reject:protected-namespace", configures("kube-system/dns", "shop/cart")},
		{"configures Sluice", back("7"), "reject:self", configures("shop/cart", "sluice/sluiced")},
		{"configures what is declared protected", back("7"), "reject:protected", func(v *microkernel.View) {
			object(nil)(v)
			v.Services[0].Protected = true
		}},
	} {
		if got := proposed(t, lone(c.view), c.body); got != c.want {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
	}
}
