package server

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/xds"
	"github.com/sluicemesh/sluice/xds/gate"
)

const (
	// cutAfter is how long streams may end by themselves before policy cut ends them.
	cutAfter = 2 * time.Second
	// quietStep is by how much Quiet must grow to be reported again.
	quietStep = 20 * time.Millisecond
	// longQuiet is a Quiet beyond which its growth is no news.
	longQuiet = time.Second
)

// openGate is a proof under way.
type openGate struct {
	watch     *gate.Watch
	callers   []string // sorted
	callees   []string // sorted
	clusters  []string
	addresses []netip.AddrPort
	opened    time.Time
	full      time.Time       // when all callers had ACKed; zero = not yet
	quiet     bool            // has been quiet once
	asking    map[string]bool // proxies whose statistics are being asked for
}

// Prove calls report with what is known of the drained target, at once and whenever the
// picture changes, until ctx ends (nil). Calls do not overlap. The error wraps ErrStale
// if the overlay is not, or no longer, in force in that generation.
func (t *Traffic) Prove(ctx context.Context, key mesh.OverlayKey, generation uint64, report func(mesh.Proof)) error {
	s := t.server
	g := &openGate{watch: gate.NewWatch(), opened: s.now(), asking: map[string]bool{}}
	s.openGate(g, key)
	defer s.closeGate(g)
	polls, stop := context.WithCancel(ctx)
	var polling sync.WaitGroup
	polling.Go(func() { s.poll(polls, g) })
	defer polling.Wait()
	defer stop()
	var last *mesh.Proof
	for {
		var proof mesh.Proof
		err := s.await(ctx, func() (bool, error) {
			o := s.overlays[key]
			if o == nil || o.Generation != generation {
				return false, fmt.Errorf("prove generation %d on %s: %w", generation, key.Callee, ErrStale)
			}
			proof = s.observe(g, o)
			return last == nil || news(last, &proof), nil
		})
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		report(proof)
		last = &proof
	}
}

// news reports whether next says anything that last did not.
func news(last, next *mesh.Proof) bool {
	a, b := *last, *next
	grown := b.Quiet-a.Quiet >= quietStep && a.Quiet < longQuiet
	lost := b.Quiet < a.Quiet
	a.Quiet, b.Quiet = 0, 0
	return a != b || grown || lost
}

// openGate makes load reports flow to g.
func (s *Server) openGate(g *openGate, key mesh.OverlayKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gates[g] = struct{}{}
	if o := s.overlays[key]; o != nil {
		s.observe(g, o)
	}
	for id, load := range s.loads {
		if !load.report.at.IsZero() {
			g.reported(id, &load.report)
		}
	}
	s.schedule()
}

func (s *Server) closeGate(g *openGate) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.gates, g)
	s.schedule()
}

// concerns reports whether the gate waits for the proxy.
func (g *openGate) concerns(node string) bool {
	return slices.Contains(g.callers, node) || slices.Contains(g.callees, node)
}

// reported feeds a load report to the gate.
func (g *openGate) reported(node string, r *loadReport) {
	if slices.Contains(g.callers, node) {
		g.watch.Report(node, true, r.sum(g.clusters, g.addresses), r.at)
	}
	if slices.Contains(g.callees, node) {
		total := 0
		for _, n := range r.inFlight[xds.AppCluster] {
			total += n
		}
		g.watch.Report(node, false, total, r.at)
	}
}

// observe brings the gate up to the world and sums up. The caller holds mu.
func (s *Server) observe(g *openGate, o *installed) mesh.Proof {
	s.target(g, o)
	for _, id := range g.callers {
		g.watch.Acked(id, s.since(o, id))
	}
	f := g.watch.Facts()
	now := s.now()
	if f.Acked == f.Required && g.full.IsZero() {
		g.full = now
	}
	if f.Quiet > 0 && !g.quiet {
		g.quiet = true
		s.metrics.gates.Observe(now.Sub(g.opened).Seconds())
	}
	s.cutStreams(g, o, max(f.InFlight, f.Inbound), now)
	return mesh.Proof{
		Key: o.Key, Generation: o.Generation,
		Required: f.Required, Acked: f.Acked, Reported: f.Reported,
		InFlight: f.InFlight, Inbound: f.Inbound, Quiet: f.Quiet,
		Cut: o.cut, Lapsed: o.lapsed,
	}
}

// target sets who must speak, and of what.
func (s *Server) target(g *openGate, o *installed) {
	callers := s.required(o.Key)
	g.clusters = []string{string(o.Key.Callee), xds.Twin(o.Key.Callee), xds.Breaker(o.Key.Callee)}
	g.addresses = nil
	var callees []string
	for _, instance := range s.drained(o) {
		if instance.Inbound.IsValid() {
			g.addresses = append(g.addresses, instance.Inbound)
		}
		if s.nodes[instance.Proxy] != nil {
			callees = append(callees, instance.Proxy)
		}
	}
	slices.Sort(callees)
	changed := !slices.Equal(callers, g.callers) || !slices.Equal(callees, g.callees)
	g.callers, g.callees = callers, callees
	g.watch.Require(callers, callees)
	g.watch.Since(o.armedAt)
	if changed {
		s.schedule()
	}
}

// drained lists the instances that a drain takes out of service; none for other kinds.
func (s *Server) drained(o *installed) []mesh.Instance {
	state := s.world.Find(o.Key.Callee)
	if o.Drain == nil || state == nil {
		return nil
	}
	var out []mesh.Instance
	for i := range state.Instances {
		if o.Drain.To != "" || slices.Contains(o.Drain.Instances, state.Instances[i].UID) {
			out = append(out, state.Instances[i])
		}
	}
	return out
}

// since returns since when a proxy has had o without a break; zero = it has not.
func (s *Server) since(o *installed, id string) time.Time {
	if at, remote := s.remoteSince(o, id); remote {
		return at
	}
	n := s.nodes[id]
	state, _ := n.state(o.need[id])
	if state != gate.Acked || !o.Armed {
		delete(o.ackedAt, id)
		return time.Time{}
	}
	if at, known := o.ackedAt[id]; known {
		return at
	}
	var at time.Time
	for _, w := range o.need[id] {
		if e := n.book.Entry(string(w.typ)); e.AckedAt.After(at) {
			at = e.AckedAt
		}
	}
	o.ackedAt[id] = at
	return at
}

// lapses reports whether an overlay on key ends by itself at the proxies: all do but the
// drain of a raw TCP service, which is no matter of runtime keys.
func (s *Server) lapses(key mesh.OverlayKey) bool {
	return key.Kind != mesh.OverlayDrain || xds.ProtocolOf(s.world, key.Callee) != mesh.TCP
}

// patience is how long what is open on the target may end by itself: until the policy
// cuts it, or, where it is to ask, until every request that has a deadline must be over and
// only streams are left. The second result is false if they may stay for ever.
func (s *Server) patience(o *installed) (time.Duration, bool) {
	if o.Drain == nil {
		return 0, false
	}
	switch o.Drain.Streams {
	case mesh.StreamsCut:
		return cutAfter, true
	case mesh.StreamsAsk:
		return s.longest(o.Key), true
	}
	return 0, false
}

// longest is the longest deadline that any caller sets for a request to the callee.
func (s *Server) longest(key mesh.OverlayKey) time.Duration {
	out := cutAfter
	for _, id := range s.required(key) {
		for _, o := range xds.FindProxy(s.world, id).Outbound {
			if o.Service == key.Callee {
				out = max(out, o.Timeout)
			}
		}
	}
	return out
}

// cutStreams replaces the inbound listeners of the target when streams are left and the
// policy is to ask or cut them. Envoy then drains the connections of the old listener
// gracefully, and ends what is open over them after its drain time; what is left until then
// is what was cut. Nothing in Envoy asks a single open stream to move.
func (s *Server) cutStreams(g *openGate, o *installed, left int, now time.Time) {
	patience, ends := s.patience(o)
	switch {
	case !ends || g.full.IsZero():
	case !o.cutAt.IsZero():
		if now.Before(o.cutAt.Add(s.drainTime * 9 / 10)) {
			o.cut = left
		}
	case left > 0 && now.Sub(g.full) >= patience:
		o.cutAt, o.cut = now, left
		for _, id := range g.callees {
			s.cuts[id]++
		}
		s.log.Warn("streams are cut", "callee", string(o.Key.Callee), "left", left)
		if err := s.rebuild(); err != nil {
			s.log.Error("resources are faulty, streams stay", "error", err)
		}
	}
}
