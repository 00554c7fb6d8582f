package isa_test

import (
	"testing"

	"github.com/sluicemesh/sluice/isa"
)

// tenActions is a plan of ten actions in the world of fleet.
const tenActions = `plan p
d1 = drain shop/hub hold lease 120s
r1 = restart shop/hub with d1 after d1
t1 = restore d1 ramp 10s after r1
d2 = drain zoo/s000001 hold after t1
r2 = restart zoo/s000001 with d2 after d2
t2 = restore d2 after r2
l1 = limit shop/cart 80/s
b1 = break shop/cart from shop/front requests 40
s1 = scale shop/cart to 5
r3 = restart shop/single after t2
verify shop/hub for 30s`

func BenchmarkValidate(b *testing.B) {
	env := fleet(5000)
	p, _, faults := isa.ParseText([]byte(tenActions))
	if faults = append(faults, isa.Validate(p, env)...); len(faults) > 0 {
		b.Fatal(listFaults(faults))
	}
	b.ReportAllocs()
	for b.Loop() {
		isa.Validate(p, env)
	}
}

func BenchmarkExpand(b *testing.B) {
	env := fleet(5000)
	p, _, _ := isa.ParseText([]byte(tenActions))
	b.ReportAllocs()
	for b.Loop() {
		isa.Expand(p, env)
	}
}

func BenchmarkHash(b *testing.B) {
	p, _, _ := isa.ParseText([]byte(tenActions))
	b.ReportAllocs()
	for b.Loop() {
		isa.Hash(p, "ann")
	}
}

// BenchmarkChecker is BenchmarkValidate with memory used again.
func BenchmarkChecker(b *testing.B) {
	env := fleet(5000)
	p, _, _ := isa.ParseText([]byte(tenActions))
	var c isa.Checker
	b.ReportAllocs()
	for b.Loop() {
		c.Validate(&p, env)
	}
}

// BenchmarkCheckerExpand is BenchmarkExpand with memory used again.
func BenchmarkCheckerExpand(b *testing.B) {
	env := fleet(5000)
	p, _, _ := isa.ParseText([]byte(tenActions))
	var c isa.Checker
	b.ReportAllocs()
	for b.Loop() {
		c.Expand(&p, env)
	}
}
