package server

import (
	"context"
	"errors"
	"time"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/xds"
)

// bump wakes whoever waits for a change. The caller holds mu.
func (s *Server) bump() {
	s.turns++
	s.stir()
	wake(&s.stepped)
}

// stir is bump for what says nothing of how far an overlay got: a load report. The caller
// holds mu.
func (s *Server) stir() {
	s.replicas.turn++
	wake(&s.changed)
}

// acked is bump for no more than an ACK: who waits for many proxies is only woken by the
// one that it waits for now. The caller holds mu.
func (s *Server) acked(n *node) {
	s.stir()
	if n.awaited {
		n.awaited = false
		wake(&s.stepped)
	}
}

func wake(c *chan struct{}) {
	if *c != nil {
		close(*c)
		*c = nil
	}
}

// await returns when done says so (nil) or fails, looking again at each change and,
// because time passes too, at least each poll; or when ctx ends (its error). done runs
// with mu held.
func (s *Server) await(ctx context.Context, done func() (bool, error)) error {
	return s.awaitOn(ctx, &s.changed, done)
}

func (s *Server) awaitOn(ctx context.Context, on *chan struct{}, done func() (bool, error)) error {
	const poll = 250 * time.Millisecond
	timer := time.NewTimer(poll)
	defer timer.Stop()
	for {
		s.mu.Lock()
		looked := time.Now()
		ok, err := done()
		took := time.Since(looked)
		if *on == nil {
			*on = make(chan struct{})
		}
		changed := *on
		s.mu.Unlock()
		if ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-s.ctx.Done():
			return errors.New("the xDS server has stopped")
		case <-changed:
			rest(ctx, took)
		case <-timer.C:
			timer.Reset(poll)
		}
	}
}

// rest keeps who waits from looking at thousands of proxies at each change: a look that
// took long is not repeated at once. It adds less than longestRest to any wait.
func rest(ctx context.Context, took time.Duration) {
	const (
		short       = 50 * time.Microsecond
		looksShare  = 10 // one part of the time, at most, is spent looking
		longestRest = 10 * time.Millisecond
	)
	if took < short {
		return
	}
	timer := time.NewTimer(min(looksShare*took, longestRest))
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// awaitEach waits until look says of every proxy that an overlay on key requires that it
// is done, or of one that it failed. Of those that are not done it follows the last one
// alone, as long as there is nothing new but ACKs.
func (s *Server) awaitEach(ctx context.Context, key mesh.OverlayKey, look func(*node) (bool, error)) error {
	var of *callers
	var turn uint64
	at := 0 // all after it were done, and nothing happened since that could change that
	return s.awaitOn(ctx, &s.stepped, func() (bool, error) {
		if of == nil || turn != s.turns || of != s.callersOf(key) {
			of, turn = s.callersOf(key), s.turns
			at = len(of.nodes) - 1
			all, err := each(of.nodes, look)
			if all || err != nil {
				return all, err
			}
		}
		for ; at >= 0; at-- {
			done, err := look(of.nodes[at])
			if err != nil {
				return false, err
			}
			if !done {
				of.nodes[at].awaited = true
				return false, nil
			}
		}
		return true, nil
	})
}

// each reports whether look says done of all, and fails if it does of any.
func each(nodes []*node, look func(*node) (bool, error)) (bool, error) {
	all := true
	for _, n := range nodes {
		done, err := look(n)
		if err != nil {
			return false, err
		}
		all = all && done
	}
	return all, nil
}

// callers is what there is to know of an overlay's key for as long as the world, and what
// gRPC clients are seen to call, stay as they are.
type callers struct {
	ids      []string // of the proxies that it requires, sorted
	nodes    []*node  // the same
	carriers []xds.TypeURL
}

// calling is the callers of a world by key.
type calling struct {
	world *mesh.World
	of    map[mesh.OverlayKey]*callers
}

// keptCallers bounds how many lists are kept.
const keptCallers = 64

// callersOf returns which proxies an overlay requires, and how it comes to them. The caller
// holds mu, and leaves the lists as they are.
func (s *Server) callersOf(key mesh.OverlayKey) *callers {
	if s.world == nil {
		return new(callers)
	}
	if s.calling.world != s.world || s.calling.of == nil {
		s.calling = calling{world: s.world, of: map[mesh.OverlayKey]*callers{}}
	}
	if out, known := s.calling.of[key]; known {
		return out
	}
	if len(s.calling.of) >= keptCallers {
		clear(s.calling.of)
	}
	out := &callers{carriers: s.carriers(key)}
	for i := range s.world.Proxies {
		if p := &s.world.Proxies[i]; xds.Concerns(key, p) && s.called(p, key.Callee) {
			out.ids = append(out.ids, p.Node)
			out.nodes = append(out.nodes, s.nodes[p.Node])
		}
	}
	s.calling.of[key] = out
	return out
}

// required lists the proxies of the world that call the target, sorted. The caller holds
// mu, and leaves the list as it is.
func (s *Server) required(key mesh.OverlayKey) []string {
	return s.callersOf(key).ids
}
