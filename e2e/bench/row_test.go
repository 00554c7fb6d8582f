package main

import (
	"math"
	"regexp"
	"testing"
)

func TestAFigureIsJudgedByItsRule(t *testing.T) {
	three := func(ours, reference float64) []Pair {
		return []Pair{{ours * 2, reference}, {ours, reference * 3}, {ours / 2, reference}}
	}
	for _, c := range []struct {
		name    string
		row     Row
		runs    []Pair
		ratio   float64 // NaN = null
		met     bool
		reached bool
	}{
		{"below the floor in its unit", Row{Floor: 50, Reach: 20}, three(30, 0), math.NaN(), true, false},
		{"above it", Row{Floor: 50, Reach: 20}, three(51, 0), math.NaN(), false, false},
		{"nothing at all", Row{Floor: 8, Reach: 0, ReferenceName: "r"}, three(0, 40), math.NaN(), true, true},
		{"more is better", Row{Higher: true, Floor: 2000, Reach: 10_000, ReferenceName: "r"}, three(10_000, 1), math.NaN(), true, true},
		{"less than wanted", Row{Higher: true, Floor: 2000, Reach: 10_000}, three(1999, 0), math.NaN(), false, false},
		{"so many times better", Row{Rule: Ratio, Floor: 25, Reach: 50, ReferenceName: "r"}, three(2, 60), 30, true, false},
		{"not so many times", Row{Rule: Ratio, Floor: 25, Reach: 50, ReferenceName: "r"}, three(2, 48), 24, false, false},
		{"within so many times", Row{Rule: Times, Floor: 1.5, Reach: 1.1, ReferenceName: "r"}, three(12, 10), 10. / 12, true, false},
		{"beyond them", Row{Rule: Times, Floor: 1.5, Reach: 1.1, ReferenceName: "r"}, three(16, 10), 10. / 16, false, false},
	} {
		f := newFigure(c.row, c.runs)
		if f.Met != c.met || f.Reached != c.reached {
			t.Errorf("%s: met %v, reached %v, want %v, %v", c.name, f.Met, f.Reached, c.met, c.reached)
		}
		if got := f.Ratio; got == nil != math.IsNaN(c.ratio) || got != nil && *got != c.ratio {
			t.Errorf("%s: ratio %v, want %v", c.name, got, c.ratio)
		}
		if want := 1.5; f.Ours > 0 && f.Spread != want || f.Runs != 3 {
			t.Errorf("%s: spread %v of %d runs, want %v of 3", c.name, f.Spread, f.Runs, want)
		}
	}
}

func TestEveryRowIsNamedOnce(t *testing.T) {
	seen := map[string]bool{}
	for _, name := range names(benches()) {
		if seen[name] || !regexp.MustCompile(`^[a-z0-9_]+$`).MatchString(name) {
			t.Errorf("row %q", name)
		}
		seen[name] = true
	}
	if got := names(matching(benches(), regexp.MustCompile("^journal_"))); len(got) != 1 || got[0] != "journal_commit" {
		t.Errorf("RUN=^journal_ selects %v", got)
	}
}
