package isa_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/mesh"
)

// fleet is a world for the attacks: n services shop/s0... without calls, and a few that
// stand for something.
func fleet(n int) *isa.Env {
	env := &isa.Env{GraphSize: n + 20}
	add := func(f isa.ServiceFacts, instances int) {
		f.Instances = instancesOf(f.Name, instances, nil, nil)
		f.Replicas = instances
		f.Takes = true
		env.Services = append(env.Services, f)
	}
	named := func(name mesh.Service) isa.ServiceFacts {
		return isa.ServiceFacts{ServiceState: mesh.ServiceState{Name: name}}
	}
	add(named("0digits/"+mesh.Service(strings.Repeat("9", 63))), 2)
	ring := []mesh.Service{"ring/r0", "ring/r1", "ring/r2", "ring/r3", "ring/r4", "ring/r5"}
	for i, name := range ring {
		f := named(name)
		f.Component, f.Callers = ring, []mesh.Service{ring[(i+5)%6]}
		add(f, 2)
	}
	env.RestartOrder, env.RestoreOrder = ring, ring
	env.DrainOrder = []mesh.Service{"ring/r5", "ring/r4", "ring/r3", "ring/r2", "ring/r1", "ring/r0"}
	cart := named("shop/cart")
	cart.FanIn, cart.Callers, cart.Rate, cart.Concurrency = 4, []mesh.Service{"shop/front"}, 100, 10
	add(cart, 3)
	front := named("shop/front")
	add(front, 2)
	hub := named("shop/hub")
	hub.FanIn = 25
	add(hub, 3)
	add(named("shop/single"), 1)
	for i := range n {
		add(named(mesh.Service(fmt.Sprintf("zoo/s%06d", i))), 1)
	}
	return env
}

func wholeFleet(n int) string {
	var src strings.Builder
	src.WriteString("plan p\n")
	for i := 0; i < n; i += 900 {
		var names []string
		for k := i; k < min(n, i+900); k++ {
			names = append(names, fmt.Sprintf("zoo/s%06d", k))
		}
		fmt.Fprintf(&src, "g%d = restart [%s]\n", i, strings.Join(names, ","))
	}
	return src.String()
}

func json(steps string) string { return `{"id":"p","steps":[` + steps + `]}` }

// hostile lists the attacks of the phases D and S (and T as far as they are static): the
// number of the row, what comes in and the code that it must be refused with.
func hostile() []struct{ row, name, src, code string } {
	const scale = `{"id":"s1","scale":{"target":{"service":"shop/cart"},"replicas":%s}}`
	target := func(name string) string {
		return json(`{"id":"r1","restart":{"target":{"service":"shop/` + name + `"}}}`)
	}
	return []struct{ row, name, src, code string }{
		{"1", "the whole fleet by groups", wholeFleet(5000), "blast-radius"},
		{"3", "every replica, nothing said of the requests",
			"plan p\nd1 = drain shop/cart\nt1 = restore d1 after d1", "no-capacity"},
		{"5", "scale to 0", json(fmt.Sprintf(scale, "0")), "scale-floor"},
		{"6", "scale to 10^9", json(fmt.Sprintf(scale, "1000000000")), "range"},
		{"6", "scale to -1", json(fmt.Sprintf(scale, "-1")), "range"},
		{"6", "scale to NaN", json(fmt.Sprintf(scale, "NaN")), "decode"},
		{"6", "scale to 2^63", json(fmt.Sprintf(scale, "9223372036854775808")), "range"},
		{"6", "scale to 1e3", json(fmt.Sprintf(scale, `"1e3"`)), "decode"},
		{"7", "limit of 0", "plan p\nl1 = limit shop/cart 0/s", "equivalent-to-drain"},
		{"7", "limit far below the load", "plan p\nl1 = limit shop/cart 1/s", "equivalent-to-drain"},
		{"7", "bucket of 0", "plan p\nl1 = limit shop/cart 100/s burst 0", "equivalent-to-drain"},
		{"8", "no connection", "plan p\nb1 = break shop/cart connections 0", "equivalent-to-drain"},
		{"8", "opens at once", "plan p\nb1 = break shop/cart requests 1", "equivalent-to-drain"},
		{"8", "ejects at the first error", "plan p\nb1 = break shop/cart 5xx 1", "equivalent-to-drain"},
		{"9", "the kernel", "plan p\nr1 = restart sluice/sluiced", "self"},
		{"9", "its journal", "plan p\nc1 = rollback persistentvolumeclaim/sluice-system/journal to 1", "self"},
		{"9", "the xDS server", "plan p\nd1 = drain sluice-system/xds hold\nt1 = restore d1 after d1", "self"},
		{"10", "kube-system", "plan p\nr1 = restart kube-system/coredns", "protected-namespace"},
		{"10", "istio-system", "plan p\ns1 = scale istio-system/istiod to 1", "protected-namespace"},
		{"10", "cert-manager", "plan p\nd1 = drain cert-manager/webhook shed\nt1 = restore d1 after d1",
			"protected-namespace"},
		{"13", "fan-in of 25 without drain", "plan p\nr1 = restart shop/hub", "drain-required"},
		{"14", "caller before callee", "plan p\nr1 = restart shop/front\nr2 = restart shop/cart after r1", "order"},
		{"14", "both at once", "plan p\nr1 = restart shop/cart\nr2 = restart shop/front", "order"},
		{"15", "a after b after a", "plan p\na = restart shop/front after b\nb = restart shop/single after a", "cycle"},
		{"15", "a after a", "plan p\na = restart shop/single after a", "cycle"},
		{"16", "10^5 steps", json(strings.Repeat(`{"id":"a"},`, 100_000) + `{"id":"a"}`), "too-large"},
		{"16", "65 steps", json(strings.Repeat(`{"id":"a"},`, 64) + `{"id":"a"}`), "too-large"},
		{"16", "nesting of 10^4", strings.Repeat("[", 10_000), "too-large"},
		{"16", "100 MB", "{" + strings.Repeat(" ", 100<<20), "too-large"},
		{"16", "2^20 duplicate keys", "{" + strings.Repeat(`"id":1,`, 1<<20) + `"id":1}`, "too-large"},
		{"16", "8,000 duplicate keys", "{" + strings.Repeat(`"id":1,`, 8000) + `"id":1}`, "too-large"},
		{"16", "gzip", "\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xed\xc1", "too-large"},
		{"17", "duplicate key", `{"id":"p","id":"q","steps":[]}`, "decode"},
		{"17", "trailing bytes", json("") + "x", "decode"},
		{"17", "unknown field", `{"id":"p","steps":[],"x":1}`, "decode"},
		{"17", "unknown action", json(`{"id":"a","reboot":{"target":{"service":"shop/cart"}}}`), "decode"},
		{"17", "wrong case of an enum",
			json(`{"id":"a","restart":{"target":{"service":"shop/cart"},"mode":"ROLLING"}}`), "decode"},
		{"17", "required field missing", json(`{"id":"a","restart":{}}`), "decode"},
		{"17", "action with a NUL", json(`{"id":"a","action":"restart\u0000"}`), "decode"},
		{"18", "Cyrillic", target("рayment"), "name"},
		{"18", "zero-width joiner", target("pay\u200dment"), "name"},
		{"18", "right-to-left override", target("pay\u202ement"), "name"},
		{"18", "full width", target("ｐayment"), "name"},
		{"18", "combining mark", target("cafe\u0301"), "name"},
		{"18", "composed", target("café"), "name"},
		{"18", "escaped", target(`caf\u00e9`), "name"},
		{"19", "path", target("../etc"), "name"},
		{"19", "shell", target("svc;rm -rf"), "name"},
		{"19", "template", target("{{.}}"), "name"},
		{"19", "substitution", target("$(id)"), "name"},
		{"19", "CRLF", target(`a\r\nb`), "name"},
		{"19", "percent", target("%2e"), "name"},
		{"19", "254 bytes", target(strings.Repeat("a", 254)), "name"},
		{"22", "a date", `{"id":"p","steps":[],"created":"2026-01-01T00:00:00Z"}`, "decode"},
		{"30", "verified", `{"id":"p","steps":[],"verified":true}`, "decode"},
		{"30", "risk", `{"id":"p","steps":[],"risk":"low"}`, "decode"},
		{"30", "force", json(`{"id":"a","restart":{"target":{"service":"shop/cart"},"force":true}}`), "decode"},
		{"30", "dryRun", `{"id":"p","steps":[],"dryRun":false}`, "decode"},
		{"30", "skipDrain", json(`{"id":"a","restart":{"target":{"service":"shop/cart"},"skipDrain":true}}`), "decode"},
	}
}

func TestHostile(t *testing.T) {
	env := fleet(5000)
	for _, row := range hostile() {
		t.Run(row.row+" "+row.name, func(t *testing.T) {
			p, _, faults := isa.Parse([]byte(row.src))
			if len(faults) == 0 {
				faults = isa.Validate(p, env)
			}
			if len(faults) == 0 {
				t.Fatal("admitted")
			}
			for _, f := range faults {
				if string(f.Code) != row.code && !(f.Code == isa.CodeDecode && row.row == "30") && f.Path != "steps" {
					t.Errorf("got %s, want %s alone", f.Error(), row.code)
				}
				plainText(t, f)
			}
			if string(faults[0].Code) != row.code {
				t.Errorf("first fault %s, want %s", faults[0].Error(), row.code)
			}
		})
	}
}

// plainText fails if a fault carries a byte that a terminal or a log would obey.
func plainText(t *testing.T, f isa.Fault) {
	t.Helper()
	for _, c := range []byte(f.Path + f.Reason + f.Remedy) {
		if c < 0x20 || c >= 0x7f {
			t.Errorf("raw byte %#x in %+q", c, f.Error())
			return
		}
	}
	if f.Reason == "" || f.Remedy == "" {
		t.Errorf("fault without reason or remedy: %s", f.Error())
	}
}

// TestHostileMemory refuses what is too large at a cost of at most 1 MiB.
func TestHostileMemory(t *testing.T) {
	for _, row := range hostile() {
		if row.row != "16" {
			continue
		}
		src := []byte(row.src)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		isa.Parse(src)
		runtime.ReadMemStats(&after)
		if spent := after.TotalAlloc - before.TotalAlloc; spent > 1<<20 {
			t.Errorf("%s: %d bytes allocated", row.name, spent)
		}
	}
}

// TestHostileTime refuses a sweep over a fleet for its size alone, not after a look at
// the order of every pair of services, of which each calls the next.
func TestHostileTime(t *testing.T) {
	env := fleet(4900)
	for i := range env.Services {
		if i > 0 {
			env.Services[i].Callers = []mesh.Service{env.Services[i-1].Name}
		}
	}
	p, _, _ := isa.Parse([]byte(wholeFleet(4900)))
	if faults := isa.Validate(p, env); len(faults) != 1 || faults[0].Code != isa.CodeBlastRadius {
		t.Errorf("%d faults: %s", len(faults), listFaults(faults[:min(len(faults), 3)]))
	}
}

// TestBenign admits the twins: a checker that refuses everything is worth nothing.
func TestBenign(t *testing.T) {
	long := "0digits/" + strings.Repeat("9", 63)
	ring := "plan p\n"
	for i := 5; i >= 0; i-- {
		ring += fmt.Sprintf("d%d = drain ring/r%d hold deadline 5s lease 120s", i, i)
		if i < 5 {
			ring += fmt.Sprintf(" after d%d", i+1)
		}
		ring += "\n"
	}
	last := "d0"
	for _, part := range []string{"r%d = restart ring/r%d with d%d deadline 10s after %s\n",
		"t%d = restore d%d after %[4]s\n"} {
		for i := range 6 {
			if part[0] == 'r' {
				ring += fmt.Sprintf(part, i, i, i, last)
			} else {
				ring += fmt.Sprintf("t%d = restore d%d after %s\n", i, i, last)
			}
			last = fmt.Sprintf("%c%d", part[0], i)
		}
	}
	tests := []struct{ row, src string }{
		{"B1", "plan p\nr1 = restart shop/cart"},
		{"B2", "plan p\nd1 = drain shop/hub hold\nr1 = restart shop/hub with d1 after d1\nt1 = restore d1 after r1"},
		{"B3", "plan p\nd1 = drain shop/cart#cart-1\nt1 = restore d1 after d1"},
		{"B4", "plan p\nr1 = restart shop/hub#hub-0 with d1 after d1\nd1 = drain shop/hub#hub-0\nt1 = restore d1 after r1\nr2 = restart zoo/s000001"},
		{"B5", "plan p\ns1 = scale shop/cart to 5"},
		{"B6", "plan p\nl1 = limit shop/cart 80/s"},
		{"B7", "plan p\nb1 = break shop/cart from shop/front requests 40 5xx 5"},
		{"B8", "plan p\nc1 = rollback configmap/shop/cart to 7"},
		{"B9", "plan p\nd1 = drain shop/front hold\nr1 = restart shop/front with d1 after d1\nt1 = restore d1 ramp 10s after r1"},
		{"B11", ring},
		{"B12", "plan p\nr1 = restart " + long},
		{"B13", "plan p\nd1 = drain shop/single hold\nr1 = restart shop/single with d1 deadline 5s after d1\nt1 = restore d1 after r1"},
	}
	env := fleet(100)
	for _, test := range tests {
		p, positions, faults := isa.Parse([]byte(test.src))
		if len(faults) == 0 {
			faults = isa.Validate(p, env)
			positions.Place(faults)
		}
		if len(faults) == 0 {
			var expanded isa.Program
			if expanded, faults = isa.Expand(p, env); len(faults) == 0 {
				faults = isa.ValidateExpanded(expanded, env)
			}
		}
		if len(faults) > 0 {
			t.Errorf("%s is refused:\n%s%s", test.row, test.src, listFaults(faults))
		}
	}
}

// TestRestartSets checks the sizes at which a plan is held or refused.
func TestRestartSets(t *testing.T) {
	couple := func(env *isa.Env, n int) {
		var set []mesh.Service
		for i := range n {
			set = append(set, mesh.Service(fmt.Sprintf("zoo/s%06d", i)))
		}
		for i := range set {
			env.Find(set[i]).Component = set
		}
	}
	plan := func(n int) isa.Program {
		p := isa.Program{ID: "p"}
		for i := range n {
			id := isa.StepID(fmt.Sprintf("r%d", i))
			p.Steps = append(p.Steps, isa.Step{ID: id, Action: isa.Restart{
				Target: isa.Target{Service: mesh.Service(fmt.Sprintf("zoo/s%06d", i))}}})
		}
		return p
	}
	tests := []struct {
		name              string
		fleet, set, steps int
		code              isa.Code
	}{
		{"8 services that have nothing to do with each other", 12, 0, 8, ""},
		{"9 in a small graph", 12, 0, 9, isa.CodeBlastRadius},
		{"25 in a graph of 100", 80, 0, 25, ""},
		{"26 in a graph of 100", 80, 0, 26, isa.CodeBlastRadius},
		{"30 in a great graph", 1000, 0, 30, ""},
		{"31 in a great graph", 1000, 0, 31, isa.CodeBlastRadius},
		{"a component of 30", 50, 30, 30, ""},
		{"a component of 31", 50, 31, 31, isa.CodeGroupTooLarge},
		{"one of a component of 300", 400, 300, 1, isa.CodeGroupTooLarge},
	}
	for _, test := range tests {
		env := fleet(test.fleet)
		couple(env, test.set)
		faults := isa.Validate(plan(test.steps), env)
		if test.code == "" && len(faults) > 0 {
			t.Errorf("%s: %s", test.name, listFaults(faults))
		}
		if test.code != "" && (len(faults) == 0 || faults[0].Code != test.code) {
			t.Errorf("%s: want %s, got %s", test.name, test.code, listFaults(faults))
		}
	}
}
