package microkernel_test

import (
	"testing"

	"github.com/sluicemesh/sluice/microkernel"
)

// A control plane that is started again in another mode judges by that from then on,
// and replays what was judged before as it was judged.
func TestPolicyComesWithTheLeader(t *testing.T) {
	observe := microkernel.DefaultPolicy()
	observe.Mode = microkernel.Observe
	s, _ := microkernel.Step(microkernel.New(microkernel.DefaultPolicy()), microkernel.Led{Term: 1})
	if got := s.Policy().Mode; got != microkernel.Enforce {
		t.Errorf("led without a policy: mode %s, want that of New", got)
	}
	s, _ = microkernel.Step(s, microkernel.Led{Term: 2, Policy: observe})
	if got := s.Policy().Mode; got != microkernel.Observe {
		t.Errorf("led with a policy: mode %s, want %s", got, microkernel.Observe)
	}
	if s, _ = microkernel.Step(s, microkernel.Led{Term: 2, Policy: microkernel.DefaultPolicy()}); s.Policy().Mode != microkernel.Observe {
		t.Error("a stale leader changed the policy")
	}
}
