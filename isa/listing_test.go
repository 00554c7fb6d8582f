package isa_test

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/sluicemesh/sluice/isa"
)

// List leaves out what the first pass has found good, so it must say no less than the three
// passes by themselves, and what comes of it must be the same program.
func TestListSaysWhatTheThreePassesSay(t *testing.T) {
	env := stage().env
	var used isa.Checker
	valid := 0
	for seed := range uint64(3000) {
		p, _ := randomProgram(rand.New(rand.NewPCG(seed, 11)))
		faults, want := isa.Validate(p, env), isa.Program{}
		if len(faults) == 0 {
			want, faults = isa.Expand(p, env)
		}
		if len(faults) == 0 {
			faults = isa.ValidateExpanded(want, env)
		}
		listing, got := used.List(&p, env)
		if !reflect.DeepEqual(got, faults) || (listing == nil) != (len(faults) > 0) {
			t.Fatalf("seed %d: %v, the passes by themselves say %v", seed, got, faults)
		}
		if listing == nil {
			continue
		}
		valid++
		if got := listing.Program(); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("seed %d: %v, want %v", seed, got, want)
		}
		ordered(t, &used, listing)
	}
	if valid < 500 {
		t.Errorf("only %d programs were valid", valid)
	}
}

// ordered checks what a Checker tells of the lines against their After lists.
func ordered(t *testing.T, c *isa.Checker, l *isa.Listing) {
	t.Helper()
	at := map[isa.StepID]int{}
	for n, i := range c.Order() {
		for k, j := range c.Follows(i) {
			if id := l.Lines[i].After[k]; l.Lines[j].ID != id || !c.Precedes(j, i) || c.Precedes(i, j) {
				t.Fatalf("line %s follows %s, and is said to follow %s", l.Lines[i].ID, id, l.Lines[j].ID)
			}
			if place, before := at[l.Lines[j].ID]; !before || place >= n {
				t.Fatalf("line %s stands before %s", l.Lines[i].ID, l.Lines[j].ID)
			}
		}
		at[l.Lines[i].ID] = n
	}
	if len(at) != len(l.Lines) {
		t.Fatalf("%d lines in order, want %d", len(at), len(l.Lines))
	}
}

// A program is not changed by what is made of the Listing later.
func TestAProgramOutlivesItsListing(t *testing.T) {
	env := stage().env
	var c isa.Checker
	var kept []isa.Program
	var said []string
	for seed := range uint64(200) {
		p, _ := randomProgram(rand.New(rand.NewPCG(seed, 12)))
		if listing, _ := c.List(&p, env); listing != nil {
			kept = append(kept, listing.Program())
			said = append(said, fmt.Sprint(kept[len(kept)-1]))
		}
	}
	for i := range kept {
		if fmt.Sprint(kept[i]) != said[i] {
			t.Fatalf("it was %s, and became %v", said[i], kept[i])
		}
	}
	if len(kept) == 0 {
		t.Error("no program was valid")
	}
}

// A listing is its program, whatever may be in it.
func TestAListingIsItsProgram(t *testing.T) {
	for seed := range uint64(500) {
		p, _ := randomProgram(rand.New(rand.NewPCG(seed, 13)))
		if got := isa.NewListing(&p).Program(); fmt.Sprint(got) != fmt.Sprint(p) {
			t.Fatalf("seed %d: %v, want %v", seed, got, p)
		}
	}
}

// Ids that an expansion makes are found again, and never taken for others.
func TestMadeIDsAreNeverMixedUp(t *testing.T) {
	env := fleet(5000)
	var used isa.Checker
	for n := range 2000 {
		p := isa.Program{ID: "p", Steps: []isa.Step{{
			ID: isa.StepID(fmt.Sprintf("r%d", n%700)), Action: isa.Restart{Target: isa.Target{Service: "shop/hub"}, NoDrain: true},
		}}}
		got, _ := used.Expand(&p, env)
		want, _ := isa.Expand(p, env)
		if !reflect.DeepEqual(got, want) || len(got.Steps) < 2 {
			t.Fatalf("step %s: %v, want %v", p.Steps[0].ID, got, want)
		}
	}
}
