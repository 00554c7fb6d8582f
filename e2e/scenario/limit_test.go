package scenario

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A plan that limits a service is admitted, holds back what is above the rate, and ends
// with its lease.
func TestRateLimitEndsWithItsLease(t *testing.T) {
	s := up(t, shop(t))
	s.until(20*time.Second, "the ingress answers 200", func() bool { return s.answers(1)[http.StatusOK] == 1 })
	file := filepath.Join(t.TempDir(), "limit.plan")
	program := "plan limit-web\nl1 = limit shop/web 20/s burst 20 lease 5s\n"
	if err := os.WriteFile(file, []byte(program), 0o600); err != nil {
		t.Fatal(err)
	}
	var p plan
	s.must(&p, "plan", "propose", file)
	s.until(10*time.Second, "the limit is in force", func() bool {
		s.must(&p, "plan", "show", "limit-web")
		return p.Phase == "verifying"
	})
	start := time.Now()
	got := s.answers(100)
	most := 20*time.Since(start).Seconds() + 20 + 2
	if passed := got[http.StatusOK]; passed+got[http.StatusTooManyRequests] != 100 || float64(passed) > most || passed < 10 {
		t.Errorf("limited: %v, want 10 to %.0f to pass and all others 429", got, most)
	}
	s.until(20*time.Second, "the plan ends with the lease", func() bool {
		s.must(&p, "plan", "show", "limit-web")
		return p.Phase == "committed"
	})
	if got := s.answers(50); got[http.StatusOK] != 50 {
		t.Errorf("after the lease: %v, want 50 to pass", got)
	}
}

// answers sends n requests to the ingress, one after the other, and counts their statuses;
// 0 is none.
func (s *system) answers(n int) map[int]int {
	address := "http://" + strings.TrimPrefix(s.ps.Ingress.Address, "http://")
	out := map[int]int{}
	for range n {
		answer, err := http.Get(address + "/home")
		if err != nil {
			out[0]++
			continue
		}
		answer.Body.Close()
		out[answer.StatusCode]++
	}
	return out
}
