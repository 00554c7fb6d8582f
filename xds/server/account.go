package server

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/sluicemesh/sluice/xds"
	"github.com/sluicemesh/sluice/xds/gate"
	"github.com/sluicemesh/sluice/xds/lease"
)

// NextAccount returns what this follower's proxies say now, once anything has changed or
// after a while. The error wraps ErrEpoch if it does not follow that epoch, or is ctx's.
func (s *Server) NextAccount(ctx context.Context, epoch uint64, last *Account) (*Account, error) {
	wait, cancel := context.WithTimeout(ctx, accountEvery)
	defer cancel()
	err := s.await(wait, func() (bool, error) {
		if s.replicas.epoch != epoch || !s.replicas.following {
			return false, fmt.Errorf("account for epoch %d, %d has begun: %w", epoch, s.replicas.epoch, ErrEpoch)
		}
		if s.replicas.overflow {
			return false, errors.New("the leader does not take load reports as fast as they come")
		}
		return last == nil || s.replicas.turn != last.turn, nil
	})
	if err != nil && (ctx.Err() != nil || wait.Err() == nil) {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	out := &Account{
		Seq: s.replicas.seq, Stamp: s.stamp(s.now()), Loads: s.replicas.outbox, turn: s.replicas.turn,
	}
	s.replicas.outbox = nil
	for i := range s.world.Proxies {
		if id := s.world.Proxies[i].Node; !s.ledger.Connected(id).IsZero() {
			out.Proxies = append(out.Proxies, s.account(id))
		}
	}
	return out, nil
}

// stamp is a time as a follower tells it.
func (s *Server) stamp(t time.Time) time.Duration { return t.Sub(s.started) }

// account says how a proxy answered. The caller holds mu.
func (s *Server) account(id string) ProxyAccount {
	n, p := s.nodes[id], xds.FindProxy(s.world, id)
	out := ProxyAccount{Node: id, Client: n.client}
	if n.client {
		out.Calls = slices.Sorted(maps.Keys(n.calls))
	}
	for _, key := range s.keys() {
		o := s.overlays[key]
		if !xds.Concerns(key, p) || !s.called(p, key.Callee) {
			continue
		}
		state, typ := n.state(o.need[id])
		row := KeyAccount{
			Key: key, Generation: o.Generation, Armed: o.Armed, Back: o.Back, State: state, Lapsed: o.lapsed,
		}
		switch state {
		case gate.Acked:
			if at := s.since(o, id); !at.IsZero() {
				row.Acked = s.stamp(at)
			}
		case gate.Nacked:
			row.Type, row.Text = typ.Short(), s.ledger.Entry(id, string(typ)).Text
		}
		out.Keys = append(out.Keys, row)
	}
	for _, key := range slices.SortedFunc(maps.Keys(s.replicas.clean), lease.CompareKeys) {
		if s.overlays[key] == nil && !s.replicas.lost[key] && xds.Concerns(key, p) {
			state, _ := n.state(n.needs(s.carriers(key), nil))
			out.Keys = append(out.Keys, KeyAccount{Key: key, State: state})
		}
	}
	return out
}

// tell puts a load report into the outbox if the leader waits for it. The caller holds mu.
func (s *Server) tell(id string, r *loadReport) {
	if !s.replicas.following || !s.replicas.watched[id] {
		return
	}
	if len(s.replicas.outbox) == maxOutbox {
		s.replicas.overflow = true
		return
	}
	s.replicas.outbox = append(s.replicas.outbox, LoadAccount{Node: id, At: s.stamp(r.at), InFlight: r.inFlight})
}
