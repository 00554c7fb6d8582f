package local

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/sluicemesh/sluice/mesh"
)

// minReadyLimit is the least time that a start may take before it counts as failed.
const minReadyLimit = 60 * time.Second

// app is one application process over all its incarnations. The supervisor's mu
// guards what stands below it.
type app struct {
	*seat
	path string // of the program
	dir  string // it works in

	proc        *process // the last one; nil = never started
	state       mesh.InstanceState
	incarnation uint64
	restarts    int     // since the mesh was brought up
	exit        string  // how the last process ended, "" = it has not
	op          *reboot // restart under way; nil = none
	backoff     backoff // of automatic restarts
}

// makeApps makes the table of applications and finds their programs.
func (s *supervisor) makeApps() error {
	base := filepath.Dir(s.options.File.Path)
	for _, seat := range s.plan.seats {
		a := &app{seat: seat, dir: filepath.Join(base, seat.spec.Dir), state: mesh.Stopped}
		if filepath.IsAbs(seat.spec.Dir) {
			a.dir = seat.spec.Dir
		}
		var err error
		if a.path, err = program(s.plan.values(seat).fill(seat.spec.Command[0]), a.dir); err != nil {
			return missing(err, "build or install it, or correct command", "program of %s", seat.spec.Name)
		}
		a.incarnation = s.identity.get(a.child).Incarnation
		s.apps = append(s.apps, a)
	}
	return nil
}

// program resolves name as a shell in dir would.
func program(name, dir string) (string, error) {
	if !strings.Contains(name, "/") {
		path, err := exec.LookPath(name)
		if err != nil {
			return "", err
		}
		return filepath.Abs(path)
	}
	if !filepath.IsAbs(name) {
		name = filepath.Join(dir, name)
	}
	return exec.LookPath(name)
}

// adoptApp takes over a's living process if it is still what the file wants, and
// removes it from living then.
func (s *supervisor) adoptApp(a *app, living map[string]*process) {
	p := living[a.child]
	o := s.plan.appOrder(a.seat, a.path, a.dir)
	if p == nil || p.Digest != o.digest() || p.Incarnation != a.incarnation {
		return
	}
	delete(living, a.child)
	a.restarts = p.Restarts
	s.begin(a, p)
}

// view returns a as an instance of the world; mu is held.
func (a *app) view() mesh.Instance {
	instance := mesh.Instance{
		Ref:  mesh.Ref{Service: a.spec.Name, UID: a.uid, Incarnation: a.incarnation},
		Name: a.instance, State: a.state, App: a.app, Inbound: a.inbound(),
	}
	if a.proxy != nil {
		instance.Proxy = a.proxy.Node
	}
	return instance
}

// start starts the next incarnation of a, which must have no process.
func (s *supervisor) start(a *app) error {
	if err := bindable(a.app.Port()); err != nil {
		return failed("end what listens there", "%s cannot have its port %d: %v", a.child, a.app.Port(), err)
	}
	incarnation, err := s.identity.next(a.child)
	if err != nil {
		return err
	}
	o := s.plan.appOrder(a.seat, a.path, a.dir)
	o.Incarnation, o.Restarts = incarnation, a.restarts
	p, err := s.nursery.spawn(o)
	if err != nil {
		return &Error{Code: exitFailed, Reason: "start " + a.child, Err: err,
			Remedy: "see command and dir of " + string(a.spec.Name)}
	}
	s.log.Info("application started", "child", a.child, "pid", p.PID, "incarnation", incarnation)
	s.begin(a, p)
	return nil
}

// begin makes p the process of a and looks after it. When all is being taken down
// it is ended at once.
func (s *supervisor) begin(a *app, p *process) {
	s.mu.Lock()
	a.proc, a.incarnation, a.state, a.exit = p, p.Incarnation, mesh.Starting, ""
	stopping := s.phase == phaseStopping
	s.touch()
	s.mu.Unlock()
	if stopping {
		p.signal(syscall.SIGKILL)
	}
	s.wg.Go(func() { s.tend(a, p) })
}

// tend probes one process of a until its end.
func (s *supervisor) tend(a *app, p *process) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	s.wg.Go(func() {
		<-p.done
		cancel()
	})
	if s.options.AutoRestart {
		s.wg.Go(func() { s.watchHealth(ctx, a, p) })
	}
	probe := newProber(a.spec.Ready, a.app)
	failures := 0
	for ctx.Err() == nil {
		err := probe.check(ctx)
		if failures++; err == nil {
			failures = 0
		}
		sleep(ctx, s.note(a, p, failures))
	}
	<-p.done
	s.ended(a, p)
}

// probeFailures is how many probes in a row fail until an instance is unready.
const probeFailures = 3

// startInterval is the time between probes until the first one succeeds.
const startInterval = 50 * time.Millisecond

// note judges a after a probe and returns when to probe again.
func (s *supervisor) note(a *app, p *process, failures int) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a.proc != p || !p.alive() {
		return startInterval
	}
	now := a.state
	switch {
	case failures == 0 && (a.op == nil || a.op.from < a.incarnation):
		now = mesh.Ready
	case failures >= probeFailures && a.state == mesh.Ready:
		now = mesh.Unready
	}
	if now != a.state {
		if a.state == mesh.Starting && p.own != nil {
			s.measure(a, time.Since(p.Started))
		}
		a.state = now
		s.touch()
	}
	if now == mesh.Starting {
		return startInterval
	}
	return a.spec.Ready.Interval
}

// measure remembers how long a start took.
func (s *supervisor) measure(a *app, took time.Duration) {
	if err := s.identity.started(a.spec.Name, took); err != nil {
		s.log.Warn("start-up time is not kept", "service", a.spec.Name, "error", err)
	}
}

// ended notes that p has ended; if nobody meant it to, that may call for a restart.
func (s *supervisor) ended(a *app, p *process) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a.proc != p {
		return
	}
	a.state, a.exit = mesh.Stopped, p.exit
	s.touch()
	s.log.Info("application ended", "child", a.child, "pid", p.PID, "exit", p.exit)
	if s.options.AutoRestart && s.phase == phaseUp && a.op == nil {
		pause := a.backoff.next(time.Since(p.Started))
		s.wg.Go(func() {
			sleep(s.ctx, pause)
			s.force(a, p, a.spec.Grace)
		})
	}
}

// force restarts a unless p is its process no more or a restart is under way.
func (s *supervisor) force(a *app, p *process, grace time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a.proc == p && a.op == nil && s.phase == phaseUp {
		s.reboot(a, grace)
	}
}

// Health checks of AutoRestart, as a kubelet's liveness probe has them by default.
const (
	healthInterval = time.Second
	healthFailures = 3
)

// watchHealth restarts a when p, once ready, fails its health checks.
func (s *supervisor) watchHealth(ctx context.Context, a *app, p *process) {
	ready := func() bool { return a.state == mesh.Ready || a.proc != p }
	if s.await(ctx, ready) != nil {
		return
	}
	probe := newProber(Probe{HTTP: a.spec.Ready.HTTP, Timeout: healthInterval}, a.app)
	for failures := 0; failures < healthFailures; {
		sleep(ctx, healthInterval)
		if ctx.Err() != nil || s.ctx.Err() != nil {
			return
		}
		if failures++; probe.check(ctx) == nil {
			failures = 0
		}
	}
	s.log.Info("application fails its health checks", "child", a.child)
	s.force(a, p, a.spec.Grace)
}

// indent sets text off by two spaces a line.
func indent(text string) string {
	if text == "" {
		return "  (it wrote nothing)"
	}
	return "  " + strings.ReplaceAll(text, "\n", "\n  ")
}

// refused returns a RefusedError.
func refused(status int, format string, args ...any) *RefusedError {
	return &RefusedError{Status: status, Reason: fmt.Sprintf(format, args...)}
}
