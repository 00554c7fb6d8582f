package server

import (
	"context"
	"time"

	"github.com/sluicemesh/sluice/mesh"
)

// keepInterval is how often leases and heartbeats are looked at.
const keepInterval = 100 * time.Millisecond

// withdrawPatience bounds how long the server waits for proxies when it withdraws an
// overlay by itself; what is left is offered to them whenever they come.
const withdrawPatience = 30 * time.Second

// keep sends heartbeats while leases run, and withdraws the overlays of those that have
// run out, until ctx ends.
func (s *Server) keep(ctx context.Context) {
	tick := time.NewTicker(keepInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, key := range s.renew() {
			s.running.Go(func() { s.expire(ctx, key) })
		}
	}
}

// renew sends the heartbeats that are due and returns the overlays whose lease ended.
func (s *Server) renew() []mesh.OverlayKey {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	for _, id := range s.leases.Shadows() {
		if _, lapsed := s.leases.Lapsed(id, now); lapsed {
			s.markLapsed(id, now)
		}
	}
	ended := s.leases.Ended(now)
	for _, id := range s.leases.Due(now) {
		if n := s.nodes[id]; n != nil {
			s.beat(n)
		}
	}
	return ended
}

// expire withdraws an overlay whose lease has run out.
func (s *Server) expire(ctx context.Context, key mesh.OverlayKey) {
	s.log.Warn("lease ran out, overlay is withdrawn", "callee", string(key.Callee), "kind", string(key.Kind))
	ctx, cancel := context.WithTimeout(ctx, withdrawPatience)
	defer cancel()
	if err := s.withdraw(ctx, key, 0); err != nil {
		s.log.Error("overlay is not withdrawn everywhere", "callee", string(key.Callee), "error", err)
	}
}

// markLapsed notes, for every overlay that was in force at a proxy when its TTL ran out
// there, that its lease has lapsed. The caller holds mu.
func (s *Server) markLapsed(node string, now time.Time) {
	at, lapsed := s.leases.Lapsed(node, now)
	if !lapsed {
		return
	}
	for _, id := range s.keys() {
		o := s.overlays[id]
		if o.lapsed || !o.Armed || !o.armedAt.Before(at) || o.need[node] == nil || !s.lapses(o.Key) {
			continue
		}
		o.lapsed = true
		s.log.Warn("overlay lapsed at a proxy", "callee", string(id.Callee), "node", node)
		s.bump()
	}
}
