package isa_test

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/sluicemesh/sluice/isa"
)

// What a Checker that has seen other programs says must be what a new one says.
func TestACheckerRemembersNothing(t *testing.T) {
	env := stage().env
	var used isa.Checker
	for seed := range uint64(2000) {
		p, _ := randomProgram(rand.New(rand.NewPCG(seed, 9)))
		if got, want := used.Validate(&p, env), isa.Validate(p, env); !reflect.DeepEqual(got, want) {
			t.Fatalf("seed %d: Validate: %v, a new checker says %v", seed, got, want)
		}
		got, gotFaults := used.Expand(&p, env)
		want, wantFaults := isa.Expand(p, env)
		if fmt.Sprint(got) != fmt.Sprint(want) || !reflect.DeepEqual(gotFaults, wantFaults) { // a NaN equals nothing
			t.Fatalf("seed %d: Expand: %v %v, a new checker says %v %v", seed, got, gotFaults, want, wantFaults)
		}
		if got, want := used.ValidateExpanded(&got, env), isa.ValidateExpanded(want, env); !reflect.DeepEqual(got, want) {
			t.Fatalf("seed %d: ValidateExpanded: %v, a new checker says %v", seed, got, want)
		}
	}
}

func TestAWarmCheckerAllocatesNothing(t *testing.T) {
	env := fleet(5000)
	p, _, _ := isa.ParseText([]byte(tenActions))
	var c isa.Checker
	if n := testing.AllocsPerRun(100, func() { c.Validate(&p, env) }); n != 0 {
		t.Errorf("Validate makes %g allocations", n)
	}
}
