package lease

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/sluicemesh/sluice/mesh"
)

// DefaultTTL is how long a proxy keeps an overlay that nobody renews.
const DefaultTTL = 5 * time.Second

// beatsPerTTL is how often a heartbeat is sent within one TTL, so that one or two may
// be lost.
const beatsPerTTL = 3

// ErrEnded says that a lease cannot be extended: it was never granted in that
// generation, or it has run out.
var ErrEnded = errors.New("the lease has ended")

// Table holds the leases of one server. It is not safe for concurrent use.
type Table struct {
	ttl     time.Duration
	leases  map[mesh.OverlayKey]grant
	shadows map[string]*shadow
}

type grant struct {
	generation uint64
	until      time.Time
}

// shadow is what one proxy was last known to hold.
type shadow struct {
	until  time.Time // the TTL of the last renewal that it took
	beaten time.Time // when the last renewal was sent
	lapsed bool
}

// NewTable returns an empty table; ttl 0 means DefaultTTL.
func NewTable(ttl time.Duration) *Table {
	if ttl <= 0 {
		ttl = DefaultTTL
	}
	return &Table{ttl: ttl, leases: map[mesh.OverlayKey]grant{}, shadows: map[string]*shadow{}}
}

// TTL returns how long a proxy keeps what is not renewed.
func (t *Table) TTL() time.Duration { return t.ttl }

// Beat returns the time from one heartbeat to the next.
func (t *Table) Beat() time.Duration { return t.ttl / beatsPerTTL }

// Grant lets the overlay stay until now + length, in place of any earlier generation.
func (t *Table) Grant(key mesh.OverlayKey, generation uint64, length time.Duration, now time.Time) {
	t.leases[key] = grant{generation: generation, until: now.Add(length)}
}

// Extend lets it stay until now + length, if it still runs in that generation; else the
// error wraps ErrEnded. A lease is never shortened.
func (t *Table) Extend(key mesh.OverlayKey, generation uint64, length time.Duration, now time.Time) error {
	g, found := t.leases[key]
	switch {
	case !found:
		return fmt.Errorf("overlay on %s: %w", key.Callee, ErrEnded)
	case g.generation != generation:
		return fmt.Errorf("overlay on %s, generation %d, is now %d: %w", key.Callee, generation, g.generation, ErrEnded)
	case !now.Before(g.until):
		return fmt.Errorf("overlay on %s, %s ago: %w", key.Callee, now.Sub(g.until), ErrEnded)
	}
	if until := now.Add(length); until.After(g.until) {
		t.leases[key] = grant{generation: generation, until: until}
	}
	return nil
}

// Until returns the end of a lease; false if there is none.
func (t *Table) Until(key mesh.OverlayKey) (time.Time, bool) {
	g, found := t.leases[key]
	return g.until, found
}

// Revoke ends a lease; its overlay is being withdrawn.
func (t *Table) Revoke(key mesh.OverlayKey) { delete(t.leases, key) }

// Ended returns the overlays whose lease has run out, sorted by key, and ends them.
func (t *Table) Ended(now time.Time) []mesh.OverlayKey {
	var ended []mesh.OverlayKey
	for key, g := range t.leases {
		if !now.Before(g.until) {
			ended = append(ended, key)
		}
	}
	for _, key := range ended {
		delete(t.leases, key)
	}
	slices.SortFunc(ended, CompareKeys)
	return ended
}

// CompareKeys orders overlay keys by kind, callee and caller.
func CompareKeys(a, b mesh.OverlayKey) int {
	return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Callee, b.Callee), cmp.Compare(a.Caller, b.Caller))
}

// Armed notes that a proxy took the overlay layer with its keys, as sent at sent.
func (t *Table) Armed(node string, sent time.Time) {
	t.shadows[node] = &shadow{until: sent.Add(t.ttl), beaten: sent}
}

// Renewed notes that it took a heartbeat sent at sent: so it still had what it was
// armed with. One that is lapsed stays so.
func (t *Table) Renewed(node string, sent time.Time) {
	if s := t.shadows[node]; s != nil && !s.lapsed {
		s.until = sent.Add(t.ttl)
	}
}

// Refused notes that it refused a heartbeat: it no longer has what should be renewed.
func (t *Table) Refused(node string, now time.Time) {
	if s := t.shadows[node]; s != nil && !s.lapsed {
		s.lapsed = true
		if now.Before(s.until) {
			s.until = now
		}
	}
}

// Disarmed notes that a proxy took a layer without keys, or is gone.
func (t *Table) Disarmed(node string) { delete(t.shadows, node) }

// Due returns the proxies that are to be sent a heartbeat now, sorted; it counts as
// sent. One that is lapsed gets none: it would refuse each.
func (t *Table) Due(now time.Time) []string {
	var due []string
	for node, s := range t.shadows {
		if !s.lapsed && now.Sub(s.beaten) >= t.Beat() {
			s.beaten = now
			due = append(due, node)
		}
	}
	slices.Sort(due)
	return due
}

// Lapsed reports whether the overlay has ended at the proxy by itself, as far as is
// known (a heartbeat was refused, or none was taken for a TTL), and when.
func (t *Table) Lapsed(node string, now time.Time) (time.Time, bool) {
	s := t.shadows[node]
	if s == nil || (!s.lapsed && now.Before(s.until)) {
		return time.Time{}, false
	}
	return s.until, true
}

// Shadows returns the proxies that are armed or lapsed, sorted.
func (t *Table) Shadows() []string { return slices.Sorted(maps.Keys(t.shadows)) }
