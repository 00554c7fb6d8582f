package isa_test

import (
	"flag"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluicemesh/sluice/isa"
)

var (
	programs = flag.Int("programs", 100_000, "random programs of TestReference; 10000000 for a release")
	fromSeed = flag.Uint64("from", 0, "the first program of TestReference")
)

// tally is what was met in the comparison.
type tally struct {
	programs, valid, near int // near: one change away from a valid program, and not valid
	codes                 map[isa.Code]int
}

func (t *tally) add(other *tally) {
	t.programs, t.valid, t.near = t.programs+other.programs, t.valid+other.valid, t.near+other.near
	for code, n := range other.codes {
		t.codes[code] += n
	}
}

// TestReference compares the two checkers on programs that are valid or a few faults away
// from it, on all processors. The seed of a program that they judge differently is printed;
// -programs 1 -from SEED repeats it.
func TestReference(t *testing.T) {
	const chunk = 500
	var (
		next  atomic.Int64
		mu    sync.Mutex
		wait  sync.WaitGroup
		total = tally{codes: map[isa.Code]int{}}
	)
	started := time.Now()
	for range runtime.GOMAXPROCS(0) {
		wait.Go(func() {
			c := comparison{t: t, r: reference{world: stage()}, tally: tally{codes: map[isa.Code]int{}}}
			for {
				first := int(next.Add(chunk)) - chunk
				for i := first; i < min(first+chunk, *programs) && !t.Failed(); i++ {
					c.compare(*fromSeed + uint64(i))
				}
				if first >= *programs || t.Failed() {
					break
				}
			}
			mu.Lock()
			defer mu.Unlock()
			total.add(&c.tally)
		})
	}
	wait.Wait()
	report(t, &total, time.Since(started))
}

// report prints the counts; a code that was never met is a fault of the generator.
func report(t *testing.T, total *tally, took time.Duration) {
	t.Logf("%d programs, %.0f a second: %d valid, %d one fault away from it", total.programs,
		float64(total.programs)/took.Seconds(), total.valid, total.near)
	for _, code := range slices.Sorted(maps.Keys(total.codes)) {
		t.Logf("%9d %s", total.codes[code], code)
	}
	if total.programs < 10_000 {
		return // one that is repeated
	}
	if 10*total.valid < 3*total.programs || 10*total.near < 3*total.programs {
		t.Errorf("%d valid and %d one fault away, want 30 %% of %d each", total.valid, total.near, total.programs)
	}
	least := min(max(total.programs/10_000, 1), 1000)
	for _, code := range staticCodes() {
		if total.codes[code] < least {
			t.Errorf("code %s was met %d times, want %d", code, total.codes[code], least)
		}
	}
}

// staticCodes are the codes of the checker.
func staticCodes() []isa.Code {
	codes := []isa.Code{isa.CodeUnsupported, isa.CodeConflict}
	for _, m := range isa.Meanings() {
		codes = append(codes, m.Code)
		if m.Code == isa.CodeTooSlow {
			break // the others are the microkernel's
		}
	}
	return codes
}

// comparison is one worker of TestReference.
type comparison struct {
	t *testing.T
	r reference
	tally
	checker isa.Checker
}

func (c *comparison) compare(seed uint64) {
	p, changes := randomProgram(rand.New(rand.NewPCG(seed, 4)))
	want, ordered := c.r.check(&p)
	faults := c.checker.Validate(&p, c.r.world.env)
	got := map[isa.Code]bool{}
	for _, f := range faults {
		got[f.Code] = true
	}
	for _, code := range staticCodes() {
		if want[code] != got[code] && !vague(code, want, ordered) {
			c.t.Errorf("seed %d: %s: reference %v, checker %v\n%s%s", seed, code, want[code], got[code],
				isa.FormatText(p), listFaults(faults))
			return
		}
	}
	c.programs++
	for code := range got {
		c.codes[code]++
	}
	switch {
	case len(got) == 0:
		c.valid++
	case changes == 1:
		c.near++
	}
}

// vague reports whether code may be judged differently: a program that is no partial order
// has no schedule, and one whose drains are not linear no time in which they are in force.
func vague(code isa.Code, want map[isa.Code]bool, ordered bool) bool {
	switch code {
	case isa.CodeOrder, isa.CodeConflict, isa.CodeLease:
		return !ordered || want[isa.CodeLinear] || want[isa.CodeUnknownStep]
	case isa.CodeLinear:
		return !ordered || want[isa.CodeUnknownStep]
	case isa.CodeDrainRequired:
		return !ordered
	}
	return false
}
