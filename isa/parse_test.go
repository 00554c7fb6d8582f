package isa_test

import (
	stdjson "encoding/json"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/mesh"
)

func fuzzParse(f *testing.F, parse func([]byte) (isa.Program, isa.Positions, []isa.Fault), format func(isa.Program) []byte) {
	for _, row := range hostile() {
		if len(row.src) < 1<<10 {
			f.Add([]byte(row.src))
		}
	}
	p, _, _ := isa.ParseText([]byte("plan p\nd1 = drain shop/cart{zone=a}@[u1] 50% hold lease 60s\nr1 = restart [shop/a,shop/b] after d1\n" +
		"l1 = limit shop/a from shop/b 1.5/s burst 3\nverify shop/a for 1s"))
	f.Add(format(p))
	env := fleet(3)
	f.Fuzz(func(t *testing.T, src []byte) {
		p, positions, faults := parse(src)
		for _, fault := range faults {
			plainText(t, fault)
		}
		if len(faults) > 0 {
			return
		}
		back, _, faults := parse(format(p))
		if len(faults) > 0 && faults[0].Code == isa.CodeTooLarge {
			return // a default layout may take more room
		}
		if len(faults) > 0 || isa.Hash(back, "") != isa.Hash(p, "") {
			t.Fatalf("no round trip: %v\n%s", faults, format(p))
		}
		faults = isa.Validate(p, env)
		positions.Place(faults)
		for _, fault := range faults {
			plainText(t, fault)
			if fault.Line == 0 {
				t.Fatalf("no place: %s", fault.Error())
			}
		}
		if expanded, bad := isa.Expand(p, env); len(faults)+len(bad) == 0 {
			if faults := isa.ValidateExpanded(expanded, env); len(faults) > 0 {
				t.Fatalf("valid as written, not as expanded:\n%s%s", isa.FormatText(expanded), listFaults(faults))
			}
		}
	})
}

func FuzzText(f *testing.F) { fuzzParse(f, isa.ParseText, isa.FormatText) }
func FuzzJSON(f *testing.F) { fuzzParse(f, isa.ParseJSON, isa.FormatJSON) }

// FuzzJSONSyntax holds the parser against encoding/json: it accepts no source that the
// standard library refuses.
func FuzzJSONSyntax(f *testing.F) {
	f.Add([]byte(`{"id":"p\u00e9","steps":[{"id":"a","scale":{"target":{"service":"a/b"},"replicas":1}}]}`))
	f.Fuzz(func(t *testing.T, src []byte) {
		if _, _, faults := isa.ParseJSON(src); len(faults) == 0 && !stdjson.Valid(src) {
			t.Fatalf("accepted %q", src)
		}
	})
}

// TestHash: the identity is that of the meaning, not of the spelling.
func TestHash(t *testing.T) {
	hash := func(src, proposer string) string {
		p, _, faults := isa.Parse([]byte(src))
		if len(faults) > 0 {
			t.Fatal(listFaults(faults))
		}
		return isa.Hash(p, proposer)
	}
	base := hash("plan p\nd1 = drain shop/a hold\nt1 = restore d1 after d1\nr1 = restart [shop/x,shop/y] after t1,d1", "ann")
	same := []string{
		"plan p\nr1 = restart [shop/y,shop/x] after d1,t1\nt1 = restore d1 after d1\nd1 = drain shop/a hold",
		"plan p\nd1 = drain shop/a 100% hold streams wait deadline 30s lease 1m\nt1 = restore d1 after d1\n" +
			"r1 = restart [shop/x,shop/y] rolling deadline 20s after t1,d1",
		`{"id":"p","steps":[{"id":"d1","drain":{"target":{"service":"shop/a"},"onEmpty":"hold"}},
		 {"id":"t1","after":["d1"],"restoreTraffic":{"drain":"d1"}},
		 {"id":"r1","after":["t1","d1"],"restart":{"target":{"group":["shop/x","shop/y"]}}}]}`,
	}
	for _, src := range same {
		if got := hash(src, "ann"); got != base {
			t.Errorf("another hash for\n%s", src)
		}
	}
	other := []string{
		"plan q\nd1 = drain shop/a hold\nt1 = restore d1 after d1\nr1 = restart [shop/x,shop/y] after t1,d1",
		"plan p\nd1 = drain shop/a shed\nt1 = restore d1 after d1\nr1 = restart [shop/x,shop/y] after t1,d1",
		"plan p\nd1 = drain shop/a hold\nt1 = restore d1 after d1\nr1 = restart [shop/x,shop/y] after t1",
		"plan p epoch e1\nd1 = drain shop/a hold\nt1 = restore d1 after d1\nr1 = restart [shop/x,shop/y] after t1,d1",
	}
	for _, src := range other {
		if got := hash(src, "ann"); got == base {
			t.Errorf("the same hash for\n%s", src)
		}
	}
	if hash(same[0], "bob") == base {
		t.Error("the hash does not depend on the proposer")
	}
	if !strings.HasPrefix(base, "sha256:") || len(base) != len("sha256:")+64 {
		t.Errorf("hash %q", base)
	}
}

// TestMarshal brings back, through encoding/json, also programs that no parser accepts:
// the journal holds what was refused too.
func TestMarshal(t *testing.T) {
	programs := []isa.Program{
		{},
		{ID: "Bad ID", Deadline: -1, Steps: []isa.Step{
			{},
			{ID: "x", Action: isa.Scale{Target: isa.Target{Service: "Shop/рay"}, Replicas: -3}},
			{ID: "x", After: []isa.StepID{"x"}, Action: isa.Drain{Share: -5, OnEmpty: "drop"}},
			{ID: "l", Action: isa.RateLimit{PerSecond: math.Inf(1)}},
			{ID: "t", Action: isa.RestoreTraffic{}},
			{ID: "b", Action: isa.CircuitBreak{MaxRequests: math.MaxUint32}},
			{ID: "r", Action: isa.Restart{NoDrain: true, Mode: "fast"}},
			{ID: "a", Action: isa.Await{}},
			{ID: "c", Action: isa.RollbackConfig{}},
		}, Verify: []isa.Check{{Service: mesh.Service("x"), For: -2}}},
	}
	for _, want := range programs {
		src, err := stdjson.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		var got isa.Program
		if err := stdjson.Unmarshal(src, &got); err != nil {
			t.Fatalf("%v\n%s", err, src)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v\nwant %+v\n%s", got, want, src)
		}
		for i := range want.Steps {
			src, err := stdjson.Marshal(want.Steps[i])
			if err != nil {
				t.Fatal(err)
			}
			var step isa.Step
			if err := stdjson.Unmarshal(src, &step); err != nil || !reflect.DeepEqual(step, want.Steps[i]) {
				t.Errorf("step %s: %v, got %+v", src, err, step)
			}
		}
	}
}

// TestEffects: every action is in the effect table and in the grammar, and its overlays
// are what the table says.
func TestEffects(t *testing.T) {
	edge := isa.Target{Service: "shop/a"}
	tests := []struct {
		action isa.Action
		class  isa.EffectClass
		writes []mesh.OverlayKey
	}{
		{isa.Restart{Target: edge}, isa.Restartable, nil},
		{isa.Drain{Target: edge}, isa.Reversible, []mesh.OverlayKey{{Kind: mesh.OverlayDrain, Callee: "shop/a"}}},
		{isa.RestoreTraffic{Drain: "d1"}, isa.Closing, nil},
		{isa.CircuitBreak{Target: edge, Caller: "shop/b"}, isa.Reversible,
			[]mesh.OverlayKey{{Kind: mesh.OverlayBreak, Callee: "shop/a", Caller: "shop/b"}}},
		{isa.RateLimit{Target: edge}, isa.Reversible, []mesh.OverlayKey{{Kind: mesh.OverlayLimit, Callee: "shop/a"}}},
		{isa.Scale{Target: edge}, isa.Compensatable, nil},
		{isa.RollbackConfig{}, isa.Compensatable, nil},
		{isa.Await{}, isa.Waiting, nil},
	}
	if len(isa.Effects()) != len(tests) {
		t.Errorf("%d rows in the effect table, %d actions", len(isa.Effects()), len(tests))
	}
	for _, test := range tests {
		if got := isa.ClassOf(test.action.Kind()); got != test.class {
			t.Errorf("%s: class %q, want %q", test.action.Kind(), got, test.class)
		}
		if got := isa.Writes(test.action); !reflect.DeepEqual(got, test.writes) {
			t.Errorf("%s: writes %v, want %v", test.action.Kind(), got, test.writes)
		}
	}
	if undo, ok := isa.Inverse(isa.Step{ID: "d1", Action: isa.Drain{}},
		nil); !ok || undo != (isa.RestoreTraffic{Drain: "d1"}) {
		t.Errorf("a drain is undone by %v, %v", undo, ok)
	}
	if _, ok := isa.Inverse(isa.Step{ID: "r1", Action: isa.Restart{}}, nil); ok {
		t.Error("a restart can be undone")
	}
	if _, ok := isa.Inverse(isa.Step{ID: "s1", Action: isa.Scale{Replicas: 3}}, isa.RollbackConfig{}); ok {
		t.Error("a scale is undone by another action")
	}
}

// TestInputsUnchanged: the checker and the expansion change neither program nor world.
func TestInputsUnchanged(t *testing.T) {
	src := []byte("plan p\nd1 = drain shop/cart#cart-0\nr1 = restart shop/cart#cart-0 with d1 after d1\nt1 = restore d1 after r1\nr2 = restart shop/front after t1")
	p, _, _ := isa.ParseText(src)
	twin, _, _ := isa.ParseText(src)
	env := fleet(3)
	isa.Validate(p, env)
	one, _ := isa.Expand(p, env)
	isa.Canonical(one)
	two, _ := isa.Expand(p, env)
	if !reflect.DeepEqual(p, twin) || !reflect.DeepEqual(env, fleet(3)) || !reflect.DeepEqual(one, two) {
		t.Error("an input was changed, or the expansion differs from one time to the next")
	}
}
