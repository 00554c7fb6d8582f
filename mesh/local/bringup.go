package local

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sluicemesh/sluice/mesh"
)

// sortWorld sorts what is not in order by construction.
func sortWorld(w *mesh.World) {
	slices.SortFunc(w.Proxies, func(a, b mesh.Proxy) int { return cmp.Compare(a.Node, b.Node) })
}

// bringUp starts what does not live yet: sluiced, the Envoys one after the other,
// the applications, callees first, and the agents.
func (s *supervisor) bringUp() error {
	for _, stage := range []func() error{s.startControl, s.startEnvoys, s.startApps, s.startAgents} {
		if err := stage(); err != nil {
			return err
		}
		if s.ctx.Err() != nil {
			return context.Cause(s.ctx)
		}
	}
	return nil
}

// only returns the daemons of a role.
func (s *supervisor) only(role Role) []*daemon {
	return slices.DeleteFunc(slices.Clone(s.daemons), func(d *daemon) bool { return d.role != role })
}

// startControl starts sluiced and waits until it answers.
func (s *supervisor) startControl() error {
	for _, d := range s.only(RoleControl) {
		began := time.Now()
		if err := s.ensure(d); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(s.ctx, controlLimit)
		err := s.answering(ctx, d)
		cancel()
		if s.ctx.Err() != nil {
			return context.Cause(s.ctx)
		}
		if err != nil {
			return err
		}
		s.markReady(d)
		s.tell("%s answers at http://%s (%s)", d.name, s.plan.api, since(began))
	}
	return nil
}

// startEnvoys starts the Envoys one by one: started at once they slow each other
// down to more than the sum. Then it waits until all are live.
func (s *supervisor) startEnvoys() error {
	envoys := s.only(RoleEnvoy)
	if len(envoys) == 0 {
		return nil
	}
	began := time.Now()
	for _, d := range envoys {
		if err := s.ensure(d); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(s.ctx, staggerLimit)
		s.live(ctx, d)
		cancel()
		if s.ctx.Err() != nil {
			return context.Cause(s.ctx)
		}
	}
	ctx, cancel := context.WithTimeout(s.ctx, envoyLimit)
	defer cancel()
	for _, d := range envoys {
		if !s.live(ctx, d) && s.ctx.Err() == nil {
			return failed("see the logs of "+d.name+" and "+controlChild,
				"%s was not live within %s; the last lines of its log:\n%s\n",
				d.name, envoyLimit, s.lastLines(d))
		}
		s.markReady(d)
	}
	s.tell("%d Envoys are live (%s)", len(envoys), since(began))
	return s.listens(ctx)
}

// listens waits until the ingress, whose port the user may have chosen, and the
// inbound listeners are open: Envoy is live even if it could not bind them.
func (s *supervisor) listens(ctx context.Context) error {
	closed := func() string {
		open := listening()
		for _, d := range s.only(RoleEnvoy) {
			door := d.proxy.Inbound
			if !door.IsValid() {
				door = d.proxy.Outbound[0].Listen
			}
			if !open[door.Port()] {
				return fmt.Sprintf("%s does not listen at %s", d.name, door)
			}
		}
		return ""
	}
	fault := closed()
	for ; fault != "" && ctx.Err() == nil; fault = closed() {
		sleep(ctx, startInterval)
	}
	if fault != "" && s.ctx.Err() == nil {
		return failed("see its log and that of "+controlChild, "%s", fault)
	}
	return nil
}

// startApps starts the applications, each service once its upstreams are ready;
// services of a cycle start together.
func (s *supervisor) startApps() error {
	ctx, cancel := context.WithCancelCause(s.ctx)
	defer cancel(nil)
	ready := make(map[mesh.Service]chan struct{})
	for _, a := range s.apps {
		if ready[a.spec.Name] == nil {
			ready[a.spec.Name] = make(chan struct{})
		}
	}
	reach := reachable(s.options.File)
	var wg sync.WaitGroup
	for name, done := range ready {
		wg.Go(func() {
			spec := s.options.File.Find(name)
			for _, up := range spec.Upstreams {
				if !reach[up.Service][name] && !wait(ctx, ready[up.Service]) {
					return
				}
			}
			if err := s.startService(ctx, spec); err != nil {
				cancel(err)
				return
			}
			close(done)
		})
	}
	wg.Wait()
	if s.ctx.Err() != nil {
		return context.Cause(s.ctx)
	}
	return context.Cause(ctx)
}

// wait waits for done; false if ctx ends first.
func wait(ctx context.Context, done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	case <-ctx.Done():
		return false
	}
}

// startService starts the instances of a service side by side and waits until all
// are ready.
func (s *supervisor) startService(ctx context.Context, spec *Spec) error {
	began := time.Now()
	var wg sync.WaitGroup
	var mu sync.Mutex
	var faults []error
	count := 0
	for _, a := range s.apps {
		if a.spec.Name != spec.Name {
			continue
		}
		count++
		wg.Go(func() {
			if err := s.startApp(ctx, a); err != nil {
				mu.Lock()
				faults = append(faults, err)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(faults) > 0 {
		return faults[0]
	}
	s.tell("%s is ready, %d of %d (%s)", spec.Name, count, count, since(began))
	return nil
}

// startApp starts a unless it lives already, and waits until it is ready.
func (s *supervisor) startApp(ctx context.Context, a *app) error {
	s.mu.Lock()
	living := a.proc.alive()
	s.mu.Unlock()
	if !living {
		if err := s.start(a); err != nil {
			return err
		}
	}
	limit := s.readyLimit(a.spec)
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err := s.awaitReady(ctx, a, 1)
	var why *RefusedError
	if errors.As(err, &why) {
		return &Error{Code: exitFailed, Reason: strings.TrimSuffix(why.Reason, "\n") + "\n",
			Remedy: "see command, ready and startup of " + string(a.spec.Name)}
	}
	return err
}

// startAgents starts the agents and sees that they do not end at once.
func (s *supervisor) startAgents() error {
	for _, d := range s.only(RoleAgents) {
		if err := s.ensure(d); err != nil {
			return err
		}
		sleep(s.ctx, agentsCalm)
		if s.ctx.Err() != nil {
			return context.Cause(s.ctx)
		}
		s.markReady(d)
	}
	return nil
}

// reachable returns which services each service reaches over declared upstreams.
func reachable(file *File) map[mesh.Service]map[mesh.Service]bool {
	reach := make(map[mesh.Service]map[mesh.Service]bool)
	for i := range file.Services {
		from := file.Services[i].Name
		reach[from] = make(map[mesh.Service]bool)
		for next := []mesh.Service{from}; len(next) > 0; {
			spec := file.Find(next[0])
			next = next[1:]
			for _, up := range spec.Upstreams {
				if !reach[from][up.Service] {
					reach[from][up.Service] = true
					next = append(next, up.Service)
				}
			}
		}
	}
	return reach
}

// since returns the time since then, to 10 ms.
func since(then time.Time) time.Duration { return time.Since(then).Round(10 * time.Millisecond) }
