package server

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"time"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/xds"
	"github.com/sluicemesh/sluice/xds/gate"
	"github.com/sluicemesh/sluice/xds/lease"
)

// Several replicas may serve the proxies of one world. One leads: its Traffic decides which
// overlays are in force. The others follow: they serve what the leader's Orders say, renew
// the overlays at their own proxies while the leases granted in the orders run, and tell by
// Accounts how their proxies answered. Package replica carries both.

// ErrFollower says that another replica leads.
var ErrFollower = errors.New("this replica does not lead")

// ErrEpoch says that an order is of a leader that was replaced.
var ErrEpoch = errors.New("a later leader has spoken")

// maxOutbox bounds the load reports that wait for the leader. When it is full the account
// is broken off, since a report that is left out could have said that something runs.
const maxOutbox = 4096

// accountEvery is how often a follower speaks at least, so that silence means something.
const accountEvery = 500 * time.Millisecond

// Order is what a leader has in force: the whole, not a change.
type Order struct {
	Epoch    uint64 // of the leader; grows with every election
	Seq      uint64 // grows with every order of the epoch, from 1
	Overlays []OrderedOverlay
	Cuts     map[string]uint64 // by node: how often its inbound listener was replaced
	Watch    []string          // proxies that a gate waits for: their loads matter now
	Clean    []mesh.OverlayKey // that are being withdrawn
}

// OrderedOverlay is one overlay and how long it may still stay without another order.
type OrderedOverlay struct {
	xds.Staged
	Left  time.Duration
	until time.Time // the same by the leader's clock, which is not sent
}

// Account is what a follower's proxies said. Stamps are of the follower's own clock, since
// its start; the leader only compares them with each other.
type Account struct {
	Seq     uint64        // of the last order that it follows
	Stamp   time.Duration // now
	Proxies []ProxyAccount
	Loads   []LoadAccount // since the last account
	turn    uint64        // of the server's changes, which is not sent
}

// ProxyAccount is one proxy that is connected to a follower.
type ProxyAccount struct {
	Node   string
	Client bool           // a gRPC client, which calls only Calls
	Calls  []mesh.Service // sorted
	Keys   []KeyAccount
}

// KeyAccount is how a proxy answered to what it was offered for a key.
type KeyAccount struct {
	Key        mesh.OverlayKey
	Generation uint64 // 0 = the overlay's absence
	Armed      bool
	Back       int
	State      gate.State
	Acked      time.Duration // stamp since when it has it; 0 = it has not
	Type, Text string        // of a NACK
	Lapsed     bool
}

// LoadAccount is one load report.
type LoadAccount struct {
	Node     string
	At       time.Duration
	InFlight map[string]map[netip.AddrPort]int // by cluster and endpoint
}

// follower is what a leader knows of one other replica.
type follower struct {
	proxies map[string]map[mesh.OverlayKey]*answered
	holds   time.Time // until when its proxies may have overlays should it be lost
}

// answered is a KeyAccount with the leader's own time.
type answered struct {
	KeyAccount
	at time.Time // of Acked, not before it was; zero = not
}

// replicas is the part of a Server that concerns other replicas.
type replicas struct {
	epoch     uint64
	following bool
	seq       uint64                   // follower: of the last order
	issued    uint64                   // leader: the same
	turn      uint64                   // counts changes of the server
	others    map[string]*follower     // leader: that can be reached, by name
	gone      map[string]time.Time     // leader: proxies of lost ones, until when they may have overlays
	cleaning  map[mesh.OverlayKey]int  // leader: being withdrawn
	clean     map[mesh.OverlayKey]bool // follower: the same, as ordered
	watched   map[string]bool          // follower: as ordered
	outbox    []LoadAccount            // follower
	overflow  bool                     // of outbox
	lost      map[mesh.OverlayKey]bool // follower: ordered, but not to be had here
}

func newReplicas() replicas {
	return replicas{
		others: map[string]*follower{}, gone: map[string]time.Time{}, cleaning: map[mesh.OverlayKey]int{},
		clean: map[mesh.OverlayKey]bool{}, watched: map[string]bool{}, lost: map[mesh.OverlayKey]bool{},
	}
}

// Lead makes this replica the leader of an epoch. The error wraps ErrEpoch if a later one
// has begun. Overlays that it had as a follower stay; their leases run on.
func (s *Server) Lead(epoch uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if epoch < s.replicas.epoch || epoch == s.replicas.epoch && s.replicas.following {
		return fmt.Errorf("lead epoch %d, %d has begun: %w", epoch, s.replicas.epoch, ErrEpoch)
	}
	s.replicas.epoch, s.replicas.following = epoch, false
	clear(s.replicas.watched)
	clear(s.replicas.clean)
	s.replicas.outbox, s.replicas.overflow = nil, false
	s.bump()
	return nil
}

// leads returns ErrFollower if another replica leads. The caller holds mu.
func (s *Server) leads() error {
	if s.replicas.following {
		return fmt.Errorf("epoch %d: %w", s.replicas.epoch, ErrFollower)
	}
	return nil
}

// Follow does what an order says. The error wraps ErrEpoch if it is of a former leader; one
// that is older than another of the same leader is refused, too. Then nothing has changed. A leader that is ordered by a later one follows it.
func (s *Server) Follow(o Order) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := &s.replicas
	if o.Epoch < r.epoch || o.Epoch == r.epoch && !r.following {
		return fmt.Errorf("order of epoch %d, %d has begun: %w", o.Epoch, r.epoch, ErrEpoch)
	}
	if o.Epoch == r.epoch && o.Seq <= r.seq {
		return fmt.Errorf("order %d comes after order %d, which is newer", o.Seq, r.seq)
	}
	if s.world == nil {
		return ErrNoWorld
	}
	r.epoch, r.following, r.seq = o.Epoch, true, o.Seq
	clear(r.others)
	clear(r.watched)
	clear(r.clean)
	for _, node := range o.Watch {
		r.watched[node] = true
	}
	for _, key := range o.Clean {
		r.clean[key] = true
	}
	if err := s.install(o); err != nil {
		return err
	}
	s.schedule()
	s.bump()
	return nil
}

// AwaitOrder returns when this replica leads or has its first order, or else after patience
// or ctx's end. One that is started beside others serves its proxies only then: without the
// overlays in force it would take them away from those that come to it. Patience need not be
// longer than the TTL, after which they are over where nobody renews them.
func (s *Server) AwaitOrder(ctx context.Context, patience time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	_ = s.await(ctx, func() (bool, error) { return s.replicas.epoch > 0, nil })
}

// install makes the ordered overlays the ones in force. The caller holds mu.
func (s *Server) install(o Order) error {
	now := s.now()
	ordered, changed := map[mesh.OverlayKey]bool{}, false
	var fresh []*installed
	clear(s.replicas.lost)
	for _, next := range o.Overlays {
		if err := xds.Validate(s.world, next.Overlay); err != nil {
			s.replicas.lost[next.Key] = true
			s.log.Warn("an ordered overlay does not fit the world here", "callee", string(next.Key.Callee), "error", err)
			continue
		}
		ordered[next.Key] = true
		s.leases.Grant(next.Key, next.Generation, next.Left, now)
		if former := s.overlays[next.Key]; former == nil || !reflect.DeepEqual(former.Staged, next.Staged) {
			fresh = append(fresh, s.successor(former, next.Staged, now))
		}
	}
	for _, key := range s.keys() {
		if !ordered[key] {
			delete(s.overlays, key)
			s.leases.Revoke(key)
			changed = true
		}
	}
	for node, cuts := range o.Cuts {
		if s.nodes[node] != nil && cuts > s.cuts[node] {
			s.cuts[node] = cuts
			changed = true
		}
	}
	for _, f := range fresh {
		s.overlays[f.Key] = f
	}
	if !changed && len(fresh) == 0 {
		return nil
	}
	if err := s.rebuild(); err != nil {
		return err
	}
	for _, f := range fresh {
		s.require(f)
	}
	return nil
}

// successor is an overlay as it is installed in place of a former one, nil if there is none.
func (s *Server) successor(former *installed, next xds.Staged, now time.Time) *installed {
	out := &installed{Staged: next, ackedAt: map[string]time.Time{}, early: map[string]bool{}}
	if next.Armed {
		out.armedAt = now
	}
	if former != nil && former.Generation == next.Generation && former.Armed {
		out.armedAt, out.lapsed = former.armedAt, former.lapsed
	}
	return out
}

// NextOrder returns the order of this leader once it differs from the last one that was
// sent to a follower, or after every; nil = none was. The error wraps ErrFollower if it
// leads no more, or is ctx's cause.
func (s *Server) NextOrder(ctx context.Context, last *Order, every time.Duration) (*Order, error) {
	deadline := time.Now().Add(every)
	var out *Order
	err := s.await(ctx, func() (bool, error) {
		if err := s.leads(); err != nil {
			return false, err
		}
		out = s.order()
		if last != nil && out.same(last) && time.Now().Before(deadline) {
			return false, nil
		}
		s.replicas.issued++
		out.Seq = s.replicas.issued
		return true, nil
	})
	return out, err
}

// order is what is in force. The caller holds mu.
func (s *Server) order() *Order {
	out := &Order{Epoch: s.replicas.epoch, Cuts: maps.Clone(s.cuts)}
	now := s.now()
	for _, key := range s.keys() {
		until, _ := s.leases.Until(key)
		out.Overlays = append(out.Overlays, OrderedOverlay{
			Staged: s.overlays[key].Staged, Left: max(0, until.Sub(now)), until: until,
		})
	}
	watch := map[string]bool{}
	for g := range s.gates {
		for _, node := range slices.Concat(g.callers, g.callees) {
			watch[node] = true
		}
	}
	out.Watch = slices.Sorted(maps.Keys(watch))
	out.Clean = slices.SortedFunc(maps.Keys(s.replicas.cleaning), lease.CompareKeys)
	return out
}

// leaseStep is by how much a lease must grow to be ordered anew at once.
const leaseStep = time.Second

// same reports whether o says what last said.
func (o *Order) same(last *Order) bool {
	if o.Epoch != last.Epoch || !slices.Equal(o.Watch, last.Watch) || !slices.Equal(o.Clean, last.Clean) ||
		!maps.Equal(o.Cuts, last.Cuts) || len(o.Overlays) != len(last.Overlays) {
		return false
	}
	for i := range o.Overlays {
		a, b := &o.Overlays[i], &last.Overlays[i]
		if !reflect.DeepEqual(a.Staged, b.Staged) || a.until.Sub(b.until) > leaseStep {
			return false
		}
	}
	return true
}
