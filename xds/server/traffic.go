package server

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/xds"
	"github.com/sluicemesh/sluice/xds/gate"
	"github.com/sluicemesh/sluice/xds/lease"
)

// Traffic applies overlays to the proxies and proves them: the driver's port. Its
// methods are safe for concurrent use; operations on one key wait for each other.
type Traffic struct{ server *Server }

// DefaultLease is the lease of an overlay that names none.
const DefaultLease = 60 * time.Second

// ErrNoWorld says that nothing is known of the mesh yet.
var ErrNoWorld = errors.New("the registry has not reported yet")

// ErrStale says that a later generation of the overlay is in force, or none is.
var ErrStale = errors.New("the overlay is not in force in that generation")

// NackError says that a proxy refused resources. The change was taken back.
type NackError struct {
	Node string
	Type string // "EDS", ...
	Text string // Envoy's words
}

// Error implements error.
func (e *NackError) Error() string {
	return fmt.Sprintf("proxy %s refused %s: %s", e.Node, e.Type, e.Text)
}

// installed is an overlay that proxies have or are getting.
type installed struct {
	xds.Staged
	need    map[string]need      // by node: the versions that hold it
	ackedAt map[string]time.Time // by node: since when the node has it, without a break
	early   map[string]bool      // nodes that get the keys before the others: see stage
	armedAt time.Time            // when its keys were first offered; zero = not yet
	lapsed  bool
	cutAt   time.Time // when what was left was cut; zero = not
	cut     int
}

// need is the version of each type from which on an overlay is in a node's resources,
// sorted by type. It is not changed, and may be shared. nil = not known.
type need []wanted

type wanted struct {
	typ     xds.TypeURL
	version uint64
}

// Apply pushes an overlay: the endpoints of the twin to all proxies that call its
// target, and when they have ACKed, the runtime keys that turn traffic over to it. It
// returns when all have ACKed those too. A proxy that is not connected is waited for.
//
// The same generation again changes nothing; a later one replaces. An earlier one is
// ErrStale. If a proxy refuses, what was before is put back, and the error is a
// *NackError. If ctx ends first the error is its cause, and the overlay stays as far as
// it came until Withdraw.
func (t *Traffic) Apply(ctx context.Context, o mesh.Overlay) (mesh.Acks, error) {
	s := t.server
	release, err := s.acquire(ctx, o.Key)
	if err != nil {
		return mesh.Acks{}, err
	}
	defer release()
	start := s.now()
	former, err := s.stage(o)
	if err != nil {
		return mesh.Acks{}, err
	}
	if err := s.awaitTaken(ctx, o.Key); err != nil {
		return mesh.Acks{}, s.undo(o.Key, former, err)
	}
	if err := s.arm(o.Key); err != nil {
		return mesh.Acks{}, s.undo(o.Key, former, err)
	}
	if err := s.awaitTaken(ctx, o.Key); err != nil {
		return mesh.Acks{}, s.undo(o.Key, former, err)
	}
	return s.applied(o, start), nil
}

// stage puts the overlay's endpoints into the twin, keys off unless an earlier
// generation has them on. It returns what was there before, nil if nothing.
//
// A proxy that is not connected is to find the keys on when it comes: it may have them
// on already, from a control plane before this one, and must not lose them in between.
func (s *Server) stage(o mesh.Overlay) (*installed, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.leads(); err != nil {
		return nil, err
	}
	if s.world == nil {
		return nil, ErrNoWorld
	}
	if err := xds.Validate(s.world, o); err != nil {
		return nil, err
	}
	former := s.overlays[o.Key]
	if former != nil && former.Generation == o.Generation && reflect.DeepEqual(former.Overlay, o) && former.Back == 0 {
		return former, nil
	}
	if former != nil && former.Generation >= o.Generation {
		return nil, fmt.Errorf("apply generation %d to %s, which is at %d: %w",
			o.Generation, o.Key.Callee, former.Generation, ErrStale)
	}
	next := &installed{Staged: xds.Staged{Overlay: o}, ackedAt: map[string]time.Time{}}
	if former != nil {
		next.Armed, next.armedAt = former.Armed, s.now()
	}
	next.early = map[string]bool{}
	for _, id := range s.required(o.Key) {
		if s.ledger.Connected(id).IsZero() && len(s.claims(id, o.Key)) == 0 {
			next.early[id] = true
		}
	}
	s.overlays[o.Key] = next
	s.leases.Grant(o.Key, o.Generation, leaseOf(o), s.now())
	if err := s.rebuild(); err != nil {
		s.replace(o.Key, former)
		return nil, err
	}
	s.require(next)
	s.bump()
	return former, nil
}

func leaseOf(o mesh.Overlay) time.Duration {
	if o.Lease <= 0 {
		return DefaultLease
	}
	return o.Lease
}

// arm turns the keys of the overlay on.
func (s *Server) arm(key mesh.OverlayKey) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.overlays[key]
	if o == nil {
		return fmt.Errorf("arm %s: %w", key.Callee, ErrStale)
	}
	if o.Armed {
		return nil
	}
	o.Armed, o.armedAt = true, s.now()
	if err := s.rebuild(); err != nil {
		return err
	}
	s.require(o)
	s.bump()
	return nil
}

// require notes the versions that the required proxies must take for o.
func (s *Server) require(o *installed) {
	o.need = make(map[string]need, len(s.required(o.Key)))
	s.needLate(o)
}

// needLate notes them for proxies that joined since.
func (s *Server) needLate(o *installed) {
	if o.need == nil {
		return
	}
	var last need
	of := s.callersOf(o.Key)
	for _, n := range of.nodes {
		if _, known := o.need[n.id]; !known {
			last = n.needs(of.carriers, last)
			o.need[n.id] = last
		}
	}
}

// needs returns the versions from which on a node has what it is to have now of the types
// that carry an overlay; former if that says the same.
func (n *node) needs(carriers []xds.TypeURL, former need) need {
	if n.plain {
		return need{{xds.EndpointType, n.version[kindOf(xds.EndpointType)]}}
	}
	var room [4]wanted
	out := room[:0]
	for _, t := range carriers {
		version := n.version[kindOf(t)]
		// Routes wait for the clusters that they name, and are offered in one go.
		if t == xds.RouteType && !xds.Same(&n.serving, &n.target, t) {
			version++
		}
		out = append(out, wanted{t, version})
	}
	if slices.Equal(out, former) {
		return former
	}
	return slices.Clone(out)
}

// carriers lists the types of resources that carry an overlay, sorted. A proxy may have
// none of the others, and then never ACKs them.
func (s *Server) carriers(key mesh.OverlayKey) []xds.TypeURL {
	tcp := xds.ProtocolOf(s.world, key.Callee) == mesh.TCP
	switch {
	case key.Kind == mesh.OverlayLimit:
		return []xds.TypeURL{xds.RouteType, xds.RuntimeType}
	case key.Kind == mesh.OverlayBreak && tcp:
		return []xds.TypeURL{xds.RuntimeType}
	case key.Kind == mesh.OverlayBreak:
		return []xds.TypeURL{xds.ClusterType, xds.EndpointType, xds.RouteType, xds.RuntimeType}
	case tcp:
		return []xds.TypeURL{xds.EndpointType}
	}
	return []xds.TypeURL{xds.EndpointType, xds.RuntimeType}
}

// awaitTaken waits until all required proxies have what the overlay needs.
func (s *Server) awaitTaken(ctx context.Context, key mesh.OverlayKey) error {
	err := s.awaitEach(ctx, key, func(n *node) (bool, error) {
		o := s.overlays[key]
		if o == nil {
			return false, fmt.Errorf("%s: %w", key.Callee, ErrStale)
		}
		return s.taken(o, n)
	})
	if ctx.Err() == nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return fmt.Errorf("waiting for ACKs of the overlay on %s by %v: %w", key.Callee, s.missing(key), err)
}

// taken reports whether a required proxy has taken o; the error is a *NackError.
func (s *Server) taken(o *installed, n *node) (bool, error) {
	state, nack := s.progress(o, n)
	if nack != nil {
		return false, nack
	}
	return state == gate.Acked, nil
}

// state is how far the least advanced of the needed versions got at a node.
func (n *node) state(versions need) (gate.State, xds.TypeURL) {
	if versions == nil {
		return gate.Pending, ""
	}
	out, of := gate.Acked, xds.TypeURL("")
	for _, w := range versions {
		switch state := n.book.State(string(w.typ), w.version); {
		case state == gate.Nacked:
			return state, w.typ
		case state != gate.Acked:
			out, of = gate.Pending, w.typ
		}
	}
	return out, of
}

// missing lists the required proxies that have not taken the overlay.
func (s *Server) missing(key mesh.OverlayKey) []string {
	var out []string
	if o := s.overlays[key]; o != nil {
		for _, id := range s.required(key) {
			if state, _ := s.progress(o, s.nodes[id]); state != gate.Acked {
				out = append(out, id)
			}
		}
	}
	return out
}

// undo puts back what was before a NACK; after any other error the overlay stays.
func (s *Server) undo(key mesh.OverlayKey, former *installed, cause error) error {
	var nack *NackError
	if !errors.As(cause, &nack) {
		return cause
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.replace(key, former)
	if err := s.rebuild(); err != nil {
		return errors.Join(cause, err)
	}
	if former != nil {
		s.require(former)
	}
	s.bump()
	return cause
}

// replace sets the overlay and its lease to what they were.
func (s *Server) replace(key mesh.OverlayKey, former *installed) {
	if former == nil {
		delete(s.overlays, key)
		s.leases.Revoke(key)
		return
	}
	s.overlays[key] = former
	s.leases.Grant(key, former.Generation, leaseOf(former.Overlay), s.now())
}

// applied starts the lease and sums up.
func (s *Server) applied(o mesh.Overlay, start time.Time) mesh.Acks {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	s.leases.Grant(o.Key, o.Generation, leaseOf(o), now)
	n := len(s.required(o.Key))
	return mesh.Acks{Required: n, Acked: n, Last: now.Sub(start)}
}

// Extend grants the overlay another lease from now. The error wraps ErrStale or
// lease.ErrEnded if it is not in force in that generation, or has lapsed.
func (t *Traffic) Extend(_ context.Context, key mesh.OverlayKey, generation uint64, length time.Duration) error {
	s := t.server
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.leads(); err != nil {
		return err
	}
	o := s.overlays[key]
	if o == nil || o.Generation != generation {
		return fmt.Errorf("extend generation %d on %s: %w", generation, key.Callee, ErrStale)
	}
	if o.lapsed {
		return fmt.Errorf("extend the overlay on %s, which lapsed at a proxy: %w", key.Callee, lease.ErrEnded)
	}
	return s.leases.Extend(key, generation, length, s.now())
}

// Installed returns the overlays in force or on their way, sorted by key. After a start
// there are none: proxies are given resources without any.
func (t *Traffic) Installed() []mesh.Overlay {
	s := t.server
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []mesh.Overlay
	for _, key := range s.keys() {
		out = append(out, s.overlays[key].Overlay)
	}
	return out
}

// Proxies returns the state of every proxy of the world; see Server.Proxies.
func (t *Traffic) Proxies() []ProxyStatus { return t.server.Proxies() }

// keys returns the keys of all overlays, sorted.
func (s *Server) keys() []mesh.OverlayKey {
	return slices.SortedFunc(maps.Keys(s.overlays), lease.CompareKeys)
}

// acquire takes the right to change the overlay of key.
func (s *Server) acquire(ctx context.Context, key mesh.OverlayKey) (release func(), err error) {
	s.mu.Lock()
	turn := s.busy[key]
	if turn == nil {
		turn = make(chan struct{}, 1)
		s.busy[key] = turn
	}
	s.mu.Unlock()
	select {
	case turn <- struct{}{}:
		return func() { <-turn }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("another operation on %s is under way: %w", key.Callee, context.Cause(ctx))
	}
}
