package server

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/xds/gate"
)

// rampSteps is in how many steps a drained instance gets its weight back.
const rampSteps = 10

// Withdraw removes the overlay of any generation, and returns when every proxy that
// calls the target has ACKed that, or has lost it by itself. Where other instances serve
// too, drained ones first get their weight back over ramp. Then the keys go off, which
// sets held requests free, and at last the twin is cleaned. An absent overlay is no error.
//
// When ctx ends first the error is its cause; calling it again goes on.
func (t *Traffic) Withdraw(ctx context.Context, key mesh.OverlayKey, ramp time.Duration) error {
	t.server.mu.Lock()
	err := t.server.leads()
	t.server.mu.Unlock()
	if err != nil {
		return err
	}
	return t.server.withdraw(ctx, key, ramp)
}

// withdraw is Traffic.Withdraw of a server that leads, or whose lease has run out.
func (s *Server) withdraw(ctx context.Context, key mesh.OverlayKey, ramp time.Duration) error {
	s.cleaned(key, 1)
	defer s.cleaned(key, -1)
	release, err := s.acquire(ctx, key)
	if err != nil {
		return err
	}
	defer release()
	if !s.isInstalled(key) {
		return s.awaitClean(ctx, key)
	}
	if ramp > 0 && s.ramps(key, ramp) {
		if err := s.ramp(ctx, key, ramp); err != nil {
			return err
		}
	}
	if err := s.change(key, func(o *installed) { o.Armed, o.early = false, nil }); err != nil {
		return err
	}
	if err := s.awaitClean(ctx, key); err != nil {
		return err
	}
	if err := s.remove(key); err != nil {
		return err
	}
	return s.awaitClean(ctx, key)
}

func (s *Server) isInstalled(key mesh.OverlayKey) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.overlays[key] != nil
}

// ramps reports whether others serve beside the drained instances, so that weights mean
// anything; if so the lease is made to last for the ramp.
func (s *Server) ramps(key mesh.OverlayKey, ramp time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.overlays[key]
	if o == nil || o.Drain == nil || !o.Armed {
		return false
	}
	others := o.Drain.To != ""
	if state := s.world.Find(key.Callee); state != nil {
		for i := range state.Instances {
			instance := &state.Instances[i]
			others = others || instance.State == mesh.Ready && !slices.Contains(o.Drain.Instances, instance.UID)
		}
	}
	if others {
		s.leases.Grant(key, o.Generation, ramp+leaseOf(o.Overlay), s.now())
	}
	return others
}

// ramp gives drained instances their weight back, step by step.
func (s *Server) ramp(ctx context.Context, key mesh.OverlayKey, ramp time.Duration) error {
	tick := time.NewTicker(max(ramp/rampSteps, time.Millisecond))
	defer tick.Stop()
	for step := range rampSteps {
		back := (step + 1) * 100 / rampSteps
		if err := s.change(key, func(o *installed) { o.Back = back }); err != nil {
			return err
		}
		if err := s.awaitTaken(ctx, key); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("restoring traffic to %s: %w", key.Callee, context.Cause(ctx))
		case <-tick.C:
		}
	}
	return nil
}

// change edits an overlay and offers the outcome.
func (s *Server) change(key mesh.OverlayKey, edit func(*installed)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.overlays[key]
	if o == nil {
		return nil
	}
	edit(o)
	if err := s.rebuild(); err != nil {
		return err
	}
	s.require(o)
	s.bump()
	return nil
}

// remove takes an overlay whose keys are off out of the twin.
func (s *Server) remove(key mesh.OverlayKey) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.overlays, key)
	s.leases.Revoke(key)
	s.bump()
	return s.rebuild()
}

// awaitClean waits until every required proxy has what it is now offered. One that is
// not connected has lost the keys when their TTL is over; of a raw TCP upstream, which
// has none, it must come back and say so.
func (s *Server) awaitClean(ctx context.Context, key mesh.OverlayKey) error {
	err := s.awaitEach(ctx, key, func(n *node) (bool, error) { return s.clean(n, key), nil })
	if err != nil {
		return fmt.Errorf("withdrawing the overlay on %s: %w", key.Callee, err)
	}
	return nil
}

func (s *Server) clean(n *node, key mesh.OverlayKey) bool {
	if clean, decided := s.remoteClean(n, key); decided {
		return clean
	} else if !clean && len(s.claims(n.id, key)) > 0 {
		return false
	}
	if n.book.Connected().IsZero() && s.lapses(key) && !n.plain {
		now := s.now()
		if slices.Contains(s.leases.Shadows(), n.id) {
			_, lapsed := s.leases.Lapsed(n.id, now)
			return lapsed
		}
		return now.Sub(s.started) > s.leases.TTL() // what a server before this one armed is over, too
	}
	state, _ := n.state(n.needs(s.callersOf(key).carriers, nil))
	return state == gate.Acked
}
