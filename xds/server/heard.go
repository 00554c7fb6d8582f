package server

import (
	"maps"
	"slices"
	"time"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/xds/gate"
)

// Clocks maps a follower's stamps to the leader's time: the true time of stamp d is not
// before Early + d and not after Late + d. An ACK counts from the latest moment at which it
// can have been, a load report from the earliest: so what is taken to come after an ACK did.
type Clocks struct{ Early, Late time.Time }

// Heard books a follower's account.
func (s *Server) Heard(name string, a *Account, c Clocks) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leads() != nil {
		return
	}
	former := s.replicas.others[name]
	if former == nil {
		former = &follower{}
	}
	next := &follower{proxies: map[string]map[mesh.OverlayKey]*answered{}, holds: s.holds()}
	for _, p := range a.Proxies {
		rows := map[mesh.OverlayKey]*answered{}
		for _, row := range p.Keys {
			rows[row.Key] = c.place(row, former.proxies[p.Node][row.Key])
			if o := s.overlays[row.Key]; o != nil && o.Generation == row.Generation && row.Lapsed {
				o.lapsed = true
			}
		}
		next.proxies[p.Node] = rows
		delete(s.replicas.gone, p.Node)
		s.relearn(&p)
	}
	for node := range former.proxies {
		if next.proxies[node] == nil {
			s.replicas.gone[node] = next.holds
		}
	}
	s.replicas.others[name] = next
	for _, l := range a.Loads {
		report := loadReport{at: c.Early.Add(l.At), inFlight: l.InFlight}
		for g := range s.gates {
			g.reported(l.Node, &report)
		}
	}
	s.bump()
}

// relearn takes over what a follower learned of a gRPC client. The caller holds mu.
func (s *Server) relearn(p *ProxyAccount) {
	n := s.nodes[p.Node]
	if n == nil || !p.Client {
		return
	}
	if !n.client {
		n.client = true
		s.see(s.world)
	}
	n.calls, s.calling.of = map[mesh.Service]bool{}, nil
	for _, service := range p.Calls {
		n.calls[service] = true
	}
}

// place gives a row the leader's time, which a row that was there before keeps.
func (c Clocks) place(row KeyAccount, former *answered) *answered {
	out := &answered{KeyAccount: row}
	switch {
	case row.Acked == 0:
	case former != nil && former.Acked == row.Acked && former.Generation == row.Generation:
		out.at = former.at
	default:
		out.at = c.Late.Add(row.Acked)
	}
	return out
}

// holds is until when the proxies of a follower that is lost now may have overlays: it goes
// on renewing them while the leases run. The caller holds mu.
func (s *Server) holds() time.Time {
	until := s.now()
	for key := range s.overlays {
		if end, runs := s.leases.Until(key); runs && end.After(until) {
			until = end
		}
	}
	return until.Add(s.leases.TTL())
}

// Lost notes that a follower cannot be reached: what its proxies have is not known.
func (s *Server) Lost(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.replicas.others[name]
	if f == nil {
		return
	}
	delete(s.replicas.others, name)
	until := s.holds()
	if f.holds.After(until) {
		until = f.holds
	}
	for node := range f.proxies {
		s.replicas.gone[node] = until
		for _, o := range s.overlays {
			delete(o.ackedAt, node)
		}
	}
	s.log.Warn("replica cannot be reached: its proxies prove nothing", "replica", name, "proxies", len(f.proxies))
	s.bump()
}

// claims returns how a proxy answered for a key at each follower that it is connected to.
// A nil row is one that has not said anything of the key. The caller holds mu.
func (s *Server) claims(id string, key mesh.OverlayKey) []*answered {
	if len(s.replicas.others) == 0 {
		return nil
	}
	var out []*answered
	for _, name := range slices.Sorted(maps.Keys(s.replicas.others)) {
		if rows, connected := s.replicas.others[name].proxies[id]; connected {
			out = append(out, rows[key])
		}
	}
	return out
}

// progress is how far an overlay got at a proxy, wherever it is connected; a proxy that two
// replicas claim must have answered to both. The caller holds mu.
func (s *Server) progress(o *installed, n *node) (gate.State, *NackError) {
	claims := s.claims(n.id, o.Key)
	if len(claims) == 0 || !n.book.Connected().IsZero() {
		if s.astray(n.id) {
			return gate.Pending, nil
		}
		state, typ := n.state(o.need[n.id])
		if state == gate.Nacked {
			return state, &NackError{Node: n.id, Type: typ.Short(), Text: n.book.Entry(string(typ)).Text}
		}
		if state != gate.Acked {
			return state, nil
		}
	}
	for _, row := range claims {
		if row == nil || row.Generation != o.Generation || row.Armed != o.Armed || row.Back != o.Back {
			return gate.Pending, nil
		}
		if row.State == gate.Nacked {
			return row.State, &NackError{Node: n.id, Type: row.Type, Text: row.Text}
		}
		if row.State != gate.Acked {
			return gate.Pending, nil
		}
	}
	return gate.Acked, nil
}

// astray reports whether a proxy was last seen at a replica that is lost, or that lost it:
// what it once said here is void.
func (s *Server) astray(id string) bool {
	_, gone := s.replicas.gone[id]
	return gone && s.ledger.Connected(id).IsZero()
}

// remoteSince is since when a proxy has o at the followers that it is connected to; false =
// it is connected to none. The caller holds mu.
func (s *Server) remoteSince(o *installed, id string) (time.Time, bool) {
	claims := s.claims(id, o.Key)
	if len(claims) == 0 {
		return time.Time{}, s.astray(id)
	}
	if state, _ := s.progress(o, s.nodes[id]); state != gate.Acked || !o.Armed {
		return time.Time{}, true
	}
	var latest time.Time
	for _, row := range claims {
		if row.at.IsZero() {
			return time.Time{}, true
		}
		if row.at.After(latest) {
			latest = row.at
		}
	}
	return latest, true
}

// remoteClean reports whether a proxy is rid of key; false, false = that is for this
// replica's own ledger to say. The caller holds mu.
func (s *Server) remoteClean(n *node, key mesh.OverlayKey) (clean, decided bool) {
	claims := s.claims(n.id, key)
	if len(claims) == 0 {
		if !s.astray(n.id) {
			return false, false
		}
		return s.now().After(s.replicas.gone[n.id]) && s.lapses(key), true
	}
	o := s.overlays[key]
	for _, row := range claims {
		if row == nil || row.State != gate.Acked || row.Generation != generationOf(o) {
			return false, true
		}
		if o != nil && (row.Armed != o.Armed || row.Back != o.Back) {
			return false, true
		}
	}
	return true, n.book.Connected().IsZero()
}

func generationOf(o *installed) uint64 {
	if o == nil {
		return 0
	}
	return o.Generation
}

// cleaned notes that a withdrawal of key is under way, or no more.
func (s *Server) cleaned(key mesh.OverlayKey, by int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.replicas.cleaning[key] += by; s.replicas.cleaning[key] <= 0 {
		delete(s.replicas.cleaning, key)
	}
	s.bump()
}
