package shape

import (
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const small = `
name: small
entry: shop/front
mix: [{operation: buy, share: 1}]
services:
  - name: shop/front
    operations:
      buy:
        - parallel: [{to: shop/cart, op: add, via: grpc}, {to: shop/db, op: get, timeout: 2s}]
  - {name: shop/cart, instances: 3, session: shop/db, operations: {add: [{to: shop/db, op: set}]}}
  - {name: shop/db, kind: store}
faults: {crash: {service: shop/cart}}
`

func TestParseFillsDefaults(t *testing.T) {
	topology, err := Parse([]byte(small))
	if err != nil {
		t.Fatal(err)
	}
	front, _ := topology.Find("shop/front")
	want := []Upstream{{Name: "shop/cart", Timeout: DefaultTimeout}, {Name: "shop/db", Timeout: 2 * time.Second}}
	got := front.Upstreams()
	if len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("upstreams of front are %v, want %v", got, want)
	}
	cart, _ := topology.Find("shop/cart")
	if got := cart.Upstreams(); len(got) != 1 || !got[0].Sticky {
		t.Errorf("upstreams of cart are %v, want a sticky shop/db", got)
	}
	if cart.Instances != 3 || front.Instances != 1 {
		t.Errorf("instances are %d and %d, want 3 and 1", cart.Instances, front.Instances)
	}
	if via := cart.Operations["add"][0].Via; via != TCP {
		t.Errorf("a store is called via %q, want tcp", via)
	}
}

func TestParseRefuses(t *testing.T) {
	for name, c := range map[string]struct{ old, new, want string }{
		"unknown field":   {"name: small", "name: small\nnom: x", "nom"},
		"unknown callee":  {"to: shop/cart", "to: shop/cars", "shop/cars"},
		"unknown op":      {"op: add,", "op: sub,", `no operation "sub"`},
		"shares":          {"share: 1}", "share: 0.5}", "sum to 0.5"},
		"entry":           {"entry: shop/front", "entry: shop/x", "entry"},
		"loop":            {"add: [{to: shop/db, op: set}]", "add: [{to: shop/cart, op: add}]", "reaches itself"},
		"store operation": {"op: set", "op: drop", "want op get or set"},
		"fault target":    {"crash: {service: shop/cart}", "crash: {service: shop/y}", "shop/y"},
		"session":         {"session: shop/db", "session: shop/front", "not a store"},
		"two documents":   {"faults:", "---\nfaults:", "more than one document"},
		"twice":           {"name: shop/db", "name: shop/cart", "used twice"},
		"chance":          {"timeout: 2s", "chance: .nan", "chance"},
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.Replace(small, c.old, c.new, 1)
			if text == small {
				t.Fatal("the case changes nothing")
			}
			_, err := Parse([]byte(text))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error is %v, want one with %q", err, c.want)
			}
		})
	}
}

func TestTopologiesOfTheRepository(t *testing.T) {
	for name, bound := range map[string]int{"hotel": 24, "social": 32} {
		topology, err := Load(filepath.Join("..", "..", "topologies", name+".yaml"))
		if err != nil {
			t.Fatal(err)
		}
		instances, triple := 0, false
		for _, service := range topology.Services {
			instances += service.Instances
			triple = triple || service.Instances == 3
		}
		if instances > bound || !triple {
			t.Errorf("%s has %d instances (bound %d), one service with three: %t", name, instances, bound, triple)
		}
		for _, kind := range []string{"poison", "crash", "hang", "latency", "errors", "leak", "bad-instance", "retry-storm"} {
			if _, ok := topology.Faults[kind]; !ok {
				t.Errorf("%s names no target for %s", name, kind)
			}
		}
	}
}

// Of social, user and social-graph call each other; hotel has no cycle.
func TestSocialHasACycleOfTwo(t *testing.T) {
	topology, err := Load(filepath.Join("..", "..", "topologies", "social.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	calls := func(from, to string) bool {
		service, _ := topology.Find(from)
		for _, upstream := range service.Upstreams() {
			if upstream.Name == to {
				return true
			}
		}
		return false
	}
	if !calls("social/user", "social/social-graph") || !calls("social/social-graph", "social/user") {
		t.Error("user and social-graph do not call each other")
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(small))
	f.Add([]byte("services: [{name: a, operations: {x: [{}]}}]"))
	f.Fuzz(func(t *testing.T, text []byte) {
		topology, err := Parse(text)
		if err != nil {
			return
		}
		if _, ok := topology.Find(topology.Entry); !ok {
			t.Error("accepted without an entry")
		}
		for i := range topology.Services {
			topology.Services[i].Upstreams()
		}
	})
}
