package sim

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// shrinkRuns bounds how many runs the search for a shorter one may take.
const shrinkRuns = 600

// shrinker looks for a shorter run that breaks the same invariant.
type shrinker struct {
	seed  uint64
	best  Options
	least Result
	runs  int
}

// Shrink returns options under which seed breaks the invariant that it breaks under o
// with fewer faults, crashes, acts of people and events, and the result; the result has
// no violation if the seed fails in nothing.
func Shrink(seed uint64, o Options) (Options, Result) {
	o.Trace = nil
	first := Run(seed, o)
	if len(first.Violations) == 0 {
		return o, first
	}
	s := &shrinker{seed: seed, best: o, least: first}
	s.best.Keep = slices.Clone(first.Taken)
	for before := -1; before != len(s.best.Keep) && s.runs < shrinkRuns; {
		before = len(s.best.Keep)
		s.sooner()
		s.fewer()
	}
	return s.best, s.least
}

// sooner makes the world fair earlier.
func (s *shrinker) sooner() {
	for _, share := range []int{4, 2} {
		o := s.best
		o.Events = max(1, s.least.Events-s.least.Events/share)
		s.try(o)
	}
}

// fewer leaves out choices: first in large pieces, then one by one (ddmin).
func (s *shrinker) fewer() {
	for size := (len(s.best.Keep) + 1) / 2; size > 0; size /= 2 {
		for at := 0; at < len(s.best.Keep) && s.runs < shrinkRuns; {
			o := s.best
			o.Keep = slices.Delete(slices.Clone(s.best.Keep), at, min(at+size, len(s.best.Keep)))
			if !s.try(o) {
				at += size
			}
		}
	}
}

// try keeps o if the run under it breaks the same invariant.
func (s *shrinker) try(o Options) bool {
	s.runs++
	result := Run(s.seed, o)
	if len(result.Violations) == 0 || result.Violations[0].Invariant[:2] != s.least.Violations[0].Invariant[:2] {
		return false
	}
	if len(result.Taken) > len(s.best.Keep) || len(result.Taken) == len(s.best.Keep) && result.Events >= s.least.Events {
		return false
	}
	o.Keep = append([]int{}, result.Taken...) // never nil: nil keeps everything
	s.best, s.least = o, result
	return true
}

// small prints the shortest failing run of seed, and how to print it again.
func small(seed uint64, stdout io.Writer) int {
	before := Run(seed, Options{})
	o, result := Shrink(seed, Options{})
	if len(result.Violations) == 0 {
		fmt.Fprintf(stdout, "seed %d breaks nothing\n", seed)
		return 0
	}
	o.Trace = stdout
	Run(seed, o)
	keep := make([]string, len(o.Keep))
	for i, n := range o.Keep {
		keep[i] = strconv.Itoa(n)
	}
	fmt.Fprintf(stdout, "seed %d: %d choices and %d events instead of %d and %d: %s\n  go run ./microkernel/sim/cmd -replay -from %d -events %d -keep %s\n",
		seed, len(o.Keep), result.Events, len(before.Taken), before.Events, result.Violations[0].Invariant, seed, o.Events,
		strings.Join(append(keep, "0"), ","))
	return 1
}

// options reads what small printed.
func options(events int, keep string) (Options, error) {
	o := Options{Events: events}
	if keep == "" {
		return o, nil
	}
	for _, word := range strings.Split(keep, ",") {
		n, err := strconv.Atoi(word)
		if err != nil {
			return o, fmt.Errorf("-keep %s: want numbers with commas between them: %w", keep, err)
		}
		o.Keep = append(o.Keep, n)
	}
	slices.Sort(o.Keep)
	return o, nil
}
