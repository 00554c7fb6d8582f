package topology

import (
	"math/rand/v2"
	"testing"
	"time"
)

// TestTallyIsTheSumOfItsWindow counts random windows of random calls in both ways.
func TestTallyIsTheSumOfItsWindow(t *testing.T) {
	random, start := rand.New(rand.NewPCG(1, 2)), int64(1_700_000_000)
	for range 50 {
		s := NewSeries()
		for range random.IntN(400) {
			s.Record(Call{
				Caller: "p/web", Callee: "p/cart", At: time.Unix(start+random.Int64N(700), 0), Source: AccessLog,
				Latency: time.Duration(random.IntN(1 << (10 + random.IntN(20)))), Weight: random.Uint64N(9), Failed: random.IntN(9) == 0,
			})
		}
		_, id := s.best("p/web", "p/cart", start)
		for range 20 {
			if id < 0 {
				continue
			}
			from := start + random.Int64N(700)
			to, limit := from+random.Int64N(300), time.Duration(random.IntN(1<<24))
			want := Tick{Hist: &Histogram{}}
			s.tracks[id].sum(&want, from, to)
			got := s.tracks[id].tally(from, to, bucketOf(limit))
			if got.calls != want.Requests || got.errors != want.Errors || got.above != want.Hist.Above(limit) {
				t.Fatalf("tally of [%d, %d) above %s is %+v, the sum %d, %d, %d",
					from-start, to-start, limit, got, want.Requests, want.Errors, want.Hist.Above(limit))
			}
			if want.Requests > 0 && s.tracks[id].p99(&got, from, to) != want.P99() {
				t.Fatalf("p99 of [%d, %d) is not %s", from-start, to-start, want.P99())
			}
		}
	}
}
