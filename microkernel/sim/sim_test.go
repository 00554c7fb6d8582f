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
		if result.Events < 500 || result.Counts.Crashes == 0 {
			t.Errorf("seed %d: %d events, %d crashes; want 500 and 1 at least", seed, result.Events, result.Counts.Crashes)
		}
	}
}

func TestASeedReplaysExactly(t *testing.T) {
	var first, second bytes.Buffer
	Run(3, Options{Trace: &first})
	Run(3, Options{Trace: &second})
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("two runs of one seed differ")
	}
}

func BenchmarkSeed(b *testing.B) {
	for i := range b.N {
		Run(uint64(i), Options{})
	}
}
