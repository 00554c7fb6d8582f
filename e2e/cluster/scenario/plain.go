package scenario

import "context"

// Rates of the loads, a second: enough to hit every moment of a restart, little enough for
// two cores that also run the cluster.
const rate = 60

// rolloutControl is the control: what `kubectl rollout restart` costs the callers of an
// application without a mesh, whose processes end at once when they are told to. Failed
// requests are counted, not judged.
func rolloutControl(ctx context.Context, s *stage) error {
	if err := s.apply(ctx, "cart", "$KIND", "Deployment", "$REPLICAS", "3", "$HOST", "0.0.0.0"); err != nil {
		return err
	}
	if err := s.rolledOut(ctx, "deployment/cart"); err != nil {
		return err
	}
	return s.rolloutUnderLoad(ctx, carts())
}

// rolloutUnderLoad restarts the cart as kubectl does it, under load.
func (s *stage) rolloutUnderLoad(ctx context.Context, at entry) error {
	before, err := s.uids(ctx, "app=cart")
	if err != nil {
		return err
	}
	l, err := s.load(ctx, at, 120)
	if err != nil {
		return err
	}
	if err := s.kubectl(ctx, "rollout", "restart", "deployment/cart"); err != nil {
		return err
	}
	if err := s.rolledOut(ctx, "deployment/cart"); err != nil {
		return err
	}
	if _, err := l.end(ctx, true); err != nil {
		return err
	}
	return s.allReplaced(ctx, before)
}

// allReplaced returns an error unless the carts of before are gone and as many others are
// there.
func (s *stage) allReplaced(ctx context.Context, before map[string]string) error {
	after, err := s.uids(ctx, "app=cart")
	if err != nil {
		return err
	}
	return replaced(before, after)
}
