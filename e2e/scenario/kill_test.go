package scenario

import (
	"testing"
	"time"
)

// TestKillingTheControlPlaneEndsEveryPlanAndKeepsTraffic kills sluiced with -9 at six
// moments of a restart: before the drain, during its proof, during the restart, at the
// restore, and while it is verified.
func TestKillingTheControlPlaneEndsEveryPlanAndKeepsTraffic(t *testing.T) {
	s := up(t, shop(t))
	generator := s.drive(100, 1_000_000, 4*time.Minute)
	moments := []time.Duration{
		0, 60 * time.Millisecond, 150 * time.Millisecond, 400 * time.Millisecond, 800 * time.Millisecond, 2 * time.Second,
	}
	targets := []string{"shop/cart", "shop/catalog", "shop/web"}
	for i, moment := range moments {
		target := targets[i%len(targets)]
		var p plan
		s.must(&p, "restart", target, "--wait=false")
		<-time.After(moment)
		if out, err := s.try("local", "kill", "sluiced", "--state", s.state); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		s.until(60*time.Second, "plan "+p.ID+" ends", func() bool {
			return s.ask(&p, "plan", "show", p.ID) &&
				(p.Phase == "committed" || p.Phase == "compensated" || p.Phase == "refused")
		})
		t.Logf("%s, killed %v after the proposal: %s %s", target, moment, p.Phase, p.Reason)
		s.until(10*time.Second, "no overlay is left", func() bool { return !s.overlaid() })
	}
	log := generator.Wait()
	if n := failed(t, log); n > 0 {
		t.Errorf("%d of %d requests failed, want 0", n, len(log.Records))
	}
}

// overlaid reports whether any proxy has an overlay in force, or nobody answers.
func (s *system) overlaid() bool {
	var list struct {
		Proxies []struct {
			Node      string   `json:"node"`
			Connected bool     `json:"connected"`
			Overlays  []string `json:"overlays"`
		} `json:"proxies"`
	}
	if !s.ask(&list, "proxies") || len(list.Proxies) == 0 {
		return true
	}
	for _, p := range list.Proxies {
		if !p.Connected || len(p.Overlays) > 0 {
			return true
		}
	}
	return false
}
