package sim

import (
	"bytes"
	"testing"
)

// TestSeedsKeepTheInvariants is the smallest useful simulation; make sim runs more.
func TestSeedsKeepTheInvariants(t *testing.T) {
	for seed := range uint64(25) {
		result := Run(seed, Options{})
		for _, v := range result.Violations {
			t.Errorf("seed %d, event %d: %s (go run ./microkernel/sim/cmd -from %d -replay)", v.Seed, v.Event, v.Invariant, v.Seed)
		}
		if result.Events < leastEvents || result.Counts.Crashes == 0 {
			t.Errorf("seed %d: %d events, %d crashes; want %d and 1 at least", seed, result.Events, result.Counts.Crashes, leastEvents)
		}
	}
}

// TestASeedReplaysExactly looks at seeds that crash while several overlays are on their way.
func TestASeedReplaysExactly(t *testing.T) {
	var first, second bytes.Buffer
	digest(1, 12, &first)
	digest(1, 12, &second)
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Errorf("two runs of the same seeds differ: %s %s", &first, &second)
	}
}

func BenchmarkSeed(b *testing.B) {
	for i := range b.N {
		Run(uint64(i), Options{})
	}
}
