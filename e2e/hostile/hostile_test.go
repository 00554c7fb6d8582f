package main

import (
	"slices"
	"testing"
)

// gaps are the cases that are known not to get the verdict that is written, each with
// what is missing. A case that is here and passes fails the test: then it must go.
func gaps() map[string]string {
	return map[string]string{}
}

func TestEveryAttackGetsTheVerdictThatIsWritten(t *testing.T) {
	known := gaps()
	r := makeReport(options{variants: 1, seed: 1})
	for _, l := range slices.Concat(r.Rows, r.Benign) {
		name := l.Row + " " + l.Case
		_, gap := known[name]
		switch {
		case l.Passed == nil:
			if l.Reason == "" || l.Door != nil {
				t.Errorf("%s: no result and no reason", name)
			}
		case !*l.Passed && !gap:
			t.Errorf("%s: want %s, got %s: %s", name, l.Expected, l.Got, l.Reason)
		case *l.Passed && gap:
			t.Errorf("%s passes: it is no gap any more", name)
		}
		delete(known, name)
	}
	if len(known) > 0 {
		t.Errorf("gaps that are no cases: %v", known)
	}
	if len(r.Benign) < 13 || len(r.Rows) < 50 {
		t.Errorf("%d rows, %d twins", len(r.Rows), len(r.Benign))
	}
}

func TestTheSameSeedGivesTheSameVariants(t *testing.T) {
	attacks := nameRows()
	a, b := newTrial(&attacks[0], 3, 7), newTrial(&attacks[0], 3, 7)
	c := newTrial(&attacks[0], 4, 7)
	if x := a.Uint64(); x != b.Uint64() || x == c.Uint64() {
		t.Error("variants do not follow from the seed")
	}
}
