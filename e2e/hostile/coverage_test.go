package main

import (
	"os"
	"strings"
	"testing"

	"github.com/sluicemesh/sluice/isa"
)

// programs are the indented blocks of a page that begin with "plan".
func programs(page string) []string {
	var found []string
	open := false
	for _, text := range strings.Split(page, "\n") {
		code, indented := strings.CutPrefix(text, "    ")
		switch {
		case indented && strings.HasPrefix(code, "plan "):
			found, open = append(found, code+"\n"), true
		case indented && open:
			found[len(found)-1] += code + "\n"
		default:
			open = false
		}
	}
	return found
}

func TestEveryPlanOfTheCoveragePageIsOne(t *testing.T) {
	page, err := os.ReadFile("../../docs/coverage.md")
	if err != nil {
		t.Fatal(err)
	}
	found, kinds := programs(string(page)), map[isa.Kind]bool{}
	for _, source := range found {
		p, positions, faults := isa.ParseText([]byte(source))
		if len(faults) == 0 {
			faults = isa.Validate(p, nil)
			positions.Place(faults)
		}
		for _, f := range faults {
			t.Errorf("%s%s", source, f.Error())
		}
		for _, step := range p.Steps {
			kinds[step.Action.Kind()] = true
		}
	}
	if len(found) < 10 || len(kinds) != 8 {
		t.Errorf("%d plans with %d kinds of action, want at least 10 with all of them", len(found), len(kinds))
	}
}

// The steps in the second table are read too, each within a program that makes it whole.
func TestEveryStepOfTheCommandTableCanBeWritten(t *testing.T) {
	page, err := os.ReadFile("../../docs/coverage.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(page), "## What people type")
	steps := 0
	for i, part := range strings.Split(table, "`") {
		id, _, isStep := strings.Cut(part, " = ")
		if i%2 == 0 || !isStep || len(id) != 2 {
			continue
		}
		steps++
		source := "plan p\n" + part + "\n"
		if id == "a1" || strings.Contains(part, "with d1") {
			source += "d1 = drain shop/cart#cart-1\n"
		}
		if _, _, faults := isa.ParseText([]byte(source)); len(faults) > 0 {
			t.Errorf("%s: %s", part, faults[0].Error())
		}
	}
	if steps < 10 {
		t.Errorf("%d steps were found", steps)
	}
}
