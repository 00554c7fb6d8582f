package local

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/sluicemesh/sluice/mesh"
)

// reboot is a restart under way; all that ask for the same one wait for it.
type reboot struct {
	from uint64        // incarnation that it replaces
	done chan struct{} // closed at its end
	err  error         // valid once done is closed
}

// reboot begins a restart of a; mu is held and no other restart is under way.
func (s *supervisor) reboot(a *app, grace time.Duration) *reboot {
	op := &reboot{from: a.incarnation, done: make(chan struct{})}
	a.op = op
	a.restarts++
	if a.state == mesh.Ready || a.state == mesh.Starting {
		a.state = mesh.Unready
	}
	s.touch()
	s.wg.Go(func() {
		op.err = s.carryOut(a, op, grace)
		s.mu.Lock()
		a.op = nil
		s.touch()
		s.mu.Unlock()
		close(op.done)
	})
	return op
}

// carryOut stops the process of a, starts the next and waits until it is ready.
func (s *supervisor) carryOut(a *app, op *reboot, grace time.Duration) error {
	s.mu.Lock()
	old := a.proc
	s.mu.Unlock()
	if old != nil {
		old.stop(grace)
	}
	if s.ctx.Err() != nil {
		return refused(http.StatusServiceUnavailable, "the mesh is being taken down")
	}
	if err := s.start(a); err != nil {
		return refused(http.StatusServiceUnavailable, "%v", err)
	}
	ctx, cancel := context.WithTimeout(s.ctx, s.readyLimit(a.spec))
	defer cancel()
	return s.awaitReady(ctx, a, op.from+1)
}

// readyLimit is how long a start may take.
func (s *supervisor) readyLimit(spec *Spec) time.Duration {
	return max(minReadyLimit, 5*cmp.Or(spec.Startup, s.identity.startup(spec.Name)))
}

// awaitReady waits until a is ready in incarnation least or a later one. It fails
// when that process has ended.
func (s *supervisor) awaitReady(ctx context.Context, a *app, least uint64) error {
	var dead bool
	var p *process
	var last mesh.InstanceState
	err := s.await(ctx, func() bool {
		p, last = a.proc, a.state
		dead = a.incarnation >= least && last == mesh.Stopped && (a.op == nil || a.op.from < a.incarnation)
		return dead || a.incarnation >= least && last == mesh.Ready
	})
	switch {
	case err != nil && s.ctx.Err() != nil:
		return refused(http.StatusServiceUnavailable, "the mesh is being taken down")
	case err != nil:
		return refused(http.StatusGatewayTimeout, "%s is %s and not ready in time; its log is %s", a.child, last,
			s.nursery.logPath(a.child))
	case dead && p == nil:
		return refused(http.StatusServiceUnavailable, "%s has no process", a.child)
	case dead:
		return refused(http.StatusServiceUnavailable, "%s ended (%s) before it was ready; the last lines of %s:\n%s\n",
			a.child, p.exit, p.log, indent(tail(p.log, p.from, 10)))
	}
	return nil
}

// restart does what POST /v1/restart asks for: it joins a restart under way of the
// same incarnation, begins one of the present incarnation, or waits for a later one.
func (s *supervisor) restart(ctx context.Context, order restartOrder, grace time.Duration) (mesh.Instance, error) {
	a := s.find(order)
	if a == nil {
		return mesh.Instance{}, refused(http.StatusNotFound, "no instance of %s has uid %s", order.Service,
			quote(string(order.UID)))
	}
	if err := s.await(ctx, func() bool { return s.phase != phaseStarting }); err != nil {
		return mesh.Instance{}, refused(http.StatusServiceUnavailable, "the mesh is not up: %v", err)
	}
	for {
		op, err := s.join(a, order.Incarnation, grace)
		if err != nil {
			return mesh.Instance{}, err
		}
		if op == nil {
			break
		}
		select {
		case <-op.done:
		case <-ctx.Done():
			return mesh.Instance{}, refused(http.StatusGatewayTimeout, "%s is still being restarted", a.child)
		}
		if op.from >= order.Incarnation && op.err != nil {
			return mesh.Instance{}, op.err
		}
	}
	if err := s.awaitReady(ctx, a, order.Incarnation+1); err != nil {
		return mesh.Instance{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return a.view(), nil
}

// join returns the restart to wait for, nil if a is past incarnation and none is
// under way.
func (s *supervisor) join(a *app, incarnation uint64, grace time.Duration) (*reboot, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case incarnation > a.incarnation:
		return nil, refused(http.StatusConflict, "%s is in incarnation %d, not yet in %d", a.child, a.incarnation,
			incarnation)
	case s.phase == phaseStopping:
		return nil, refused(http.StatusServiceUnavailable, "the mesh is being taken down")
	case a.op != nil:
		return a.op, nil
	case incarnation < a.incarnation:
		return nil, nil
	}
	return s.reboot(a, grace), nil
}

// find returns the application that order names, nil if there is none.
func (s *supervisor) find(order restartOrder) *app {
	at := slices.IndexFunc(s.apps, func(a *app) bool { return a.uid == order.UID && a.spec.Name == order.Service })
	if at < 0 {
		return nil
	}
	return s.apps[at]
}

// stopApp ends a for good; the phase is stopping.
func (s *supervisor) stopApp(a *app) {
	s.mu.Lock()
	op := a.op
	s.mu.Unlock()
	if op != nil {
		<-op.done
	}
	s.mu.Lock()
	p := a.proc
	s.mu.Unlock()
	if p != nil {
		p.stop(a.spec.Grace)
	}
}
