package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/sluicemesh/sluice/mesh"
)

// Options is what a supervisor runs, and how.
type Options struct {
	File        *File
	StateDir    string // created if absent; its path is at most about 90 bytes long
	Binaries    Binaries
	Mode        string         // of sluiced: "Enforce", "Observe" ...; "" = its own default
	Limits      []string       // of sluiced's policy, each NAME=N
	Workers     int            // threads of each Envoy, 0 = 1
	AutoRestart bool           // restart failed applications without asking: a control arm
	Log         *slog.Logger   // nil = none
	Out         io.Writer      // progress, one line each; nil = none
	Up          func(*Listing) // called once, when everything is ready; may be nil
}

// Binaries are the programs that a supervisor starts besides the services. Without
// Envoy there are no proxies and no ingress: instances are reached directly.
type Binaries struct {
	Sluiced string // "" = no control plane
	Agents  string // "" = none
	Envoy   string // "" = no proxies
}

// phase is where a supervisor is in its life.
type phase string

const (
	phaseStarting phase = "starting"
	phaseUp       phase = "up"
	phaseStopping phase = "stopping"
)

// errDown is the cause of an end that was asked for.
var errDown = errors.New("taken down on request")

// supervisor runs one mesh. mu guards what changes; everything else is set before
// the first goroutine starts.
type supervisor struct {
	options  Options
	dir      string
	log      *slog.Logger
	identity *identity
	nursery  *nursery
	plan     *layout
	started  time.Time

	ctx    context.Context // ends when the mesh is to be taken down; its cause says why
	cancel context.CancelCauseFunc
	gone   chan struct{} // closed when no child is left
	wg     sync.WaitGroup

	mu      sync.Mutex
	phase   phase
	version uint64
	changed chan struct{} // closed and replaced with every change
	apps    []*app        // as plan.seats
	daemons []*daemon     // in the order of start
}

// Run brings up the mesh of o, adopting what an earlier supervisor of the same
// state directory left alive, keeps it, and takes all of it down when ctx ends or
// the control interface asks for it. Nothing is left running when it returns. A
// mesh that does not come up is an error (*Error) with its cause and remedy; an end
// that was asked for after it was up is none.
func Run(ctx context.Context, o Options) error {
	if !supported {
		return missing(nil, "run it on Linux", "sluice local supervises processes on Linux only")
	}
	s, release, err := prepare(ctx, o)
	if err != nil {
		return err
	}
	defer release()
	defer s.wg.Wait()
	api, err := s.serve()
	if err != nil {
		s.cancel(err)
		s.takeDown()
		return err
	}
	s.wg.Go(func() { turnLogs(s.ctx, filepath.Join(s.dir, "logs"), s.log) })
	if err := s.bringUp(); err != nil {
		s.cancel(err)
	} else {
		s.up()
	}
	<-s.ctx.Done()
	up := s.takeDown()
	close(s.gone)
	api.close()
	return verdict(context.Cause(s.ctx), up)
}

// prepare locks the state directory, adopts its children and lays out the mesh.
func prepare(ctx context.Context, o Options) (s *supervisor, release func(), err error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Out == nil {
		o.Out = io.Discard
	}
	dir, err := filepath.Abs(o.StateDir)
	if err != nil {
		return nil, nil, fmt.Errorf("state directory: %w", err)
	}
	if err := checkBinaries(&o); err != nil {
		return nil, nil, err
	}
	if err := openDir(dir); err != nil {
		return nil, nil, err
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, nil, err
	}
	s = &supervisor{
		options: o, dir: dir, log: o.Log, nursery: newNursery(dir, o.Log), started: time.Now(),
		gone: make(chan struct{}), phase: phaseStarting, changed: make(chan struct{}),
	}
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	release = func() {
		s.cancel(errDown)
		lock.Close()
	}
	if err := s.settle(); err != nil {
		release()
		return nil, nil, err
	}
	return s, release, nil
}

// settle gives everything its place. What lives already and still fits is taken
// over; the rest is ended, so that a failure here leaves nothing running either.
func (s *supervisor) settle() error {
	living, err := s.nursery.adopt()
	if err != nil {
		return err
	}
	if err := s.lay(living); err != nil {
		stopAll(living, time.Second)
		return err
	}
	for _, a := range s.apps {
		s.adoptApp(a, living)
	}
	for _, d := range s.daemons {
		s.adoptDaemon(d, living)
	}
	stopAll(living, DefaultGrace)
	return nil
}

// lay reads identities and ports and makes the tables of children.
func (s *supervisor) lay(living map[string]*process) error {
	var err error
	if s.identity, err = openIdentity(s.dir); err != nil {
		return err
	}
	s.version = s.identity.Boots << 32 // grows over restarts of the supervisor, too
	ports, err := openPorts(s.dir)
	if err != nil {
		return err
	}
	planner := &planner{
		file: s.options.File, identity: s.identity, ports: ports, proxies: s.options.Binaries.Envoy != "",
		held: func(child string) bool { return living[child] != nil },
	}
	if s.plan, err = planner.lay(); err != nil {
		return err
	}
	if err := s.makeApps(); err != nil {
		return err
	}
	return s.makeDaemons()
}

// stopAll ends processes side by side.
func stopAll(living map[string]*process, grace time.Duration) {
	var wg sync.WaitGroup
	for _, p := range living {
		wg.Go(func() { p.stop(grace) })
	}
	wg.Wait()
}

// up notes that everything is ready and tells it.
func (s *supervisor) up() {
	s.mu.Lock()
	if s.phase == phaseStarting {
		s.phase = phaseUp
	}
	s.touch()
	s.mu.Unlock()
	s.log.Info("mesh is up", "seconds", time.Since(s.started).Seconds())
	if s.options.Up != nil && s.ctx.Err() == nil {
		s.options.Up(s.listing())
	}
}

// takeDown ends all children, those that act first, and reports whether the mesh
// had been up.
func (s *supervisor) takeDown() (up bool) {
	s.mu.Lock()
	up = s.phase == phaseUp
	s.phase = phaseStopping
	s.touch()
	s.mu.Unlock()
	s.stopDaemons(RoleAgents, RoleControl)
	var wg sync.WaitGroup
	for _, a := range s.apps {
		wg.Go(func() { s.stopApp(a) })
	}
	wg.Wait()
	s.stopDaemons(RoleEnvoy)
	return up
}

// verdict turns the cause of the end into Run's error.
func verdict(cause error, up bool) error {
	var own *Error
	switch {
	case errors.As(cause, &own):
		return own
	case up || errors.Is(cause, errDown):
		return nil
	case errors.Is(cause, context.Canceled), errors.Is(cause, context.DeadlineExceeded):
		return &Error{Code: exitInterrupted, Reason: "interrupted while the mesh came up; nothing is left running"}
	}
	return cause
}

// touch notes a change of the world; mu is held.
func (s *supervisor) touch() {
	s.version++
	close(s.changed)
	s.changed = make(chan struct{})
}

// await returns nil once done, called with mu held after every change, reports
// true; else the cause of the end of ctx or of the supervisor.
func (s *supervisor) await(ctx context.Context, done func() bool) error {
	for {
		s.mu.Lock()
		ok, changed := done(), s.changed
		s.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-s.ctx.Done():
			return context.Cause(s.ctx)
		}
	}
}

// tell writes a line of progress.
func (s *supervisor) tell(format string, args ...any) {
	fmt.Fprintf(s.options.Out, format+"\n", args...)
}

// world returns a snapshot of the mesh.
func (s *supervisor) world() *mesh.World {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := &mesh.World{Version: s.version}
	for _, a := range s.apps {
		last := len(w.Services) - 1
		if last < 0 || w.Services[last].Name != a.spec.Name {
			w.Services = append(w.Services, s.service(a.spec))
			last++
		}
		w.Services[last].Instances = append(w.Services[last].Instances, a.view())
		if a.proxy != nil {
			w.Proxies = append(w.Proxies, *a.proxy)
		}
	}
	if gateway := s.plan.gateway; gateway != nil {
		w.Gateways = []mesh.Gateway{{
			Name: gateway.Service, Service: gateway.Outbound[0].Service, Proxy: gateway.Node,
		}}
		w.Proxies = append(w.Proxies, *gateway)
	}
	sortWorld(w)
	return w
}

// service returns a service without its instances.
func (s *supervisor) service(spec *Spec) mesh.ServiceState {
	startup := spec.Startup
	if startup == 0 {
		startup = s.identity.startup(spec.Name)
	}
	return mesh.ServiceState{
		Name: spec.Name, Protocol: spec.Protocol, Replicas: spec.Instances, MinAvailable: spec.MinAvailable,
		Upstreams: spec.Upstreams, Objective: spec.Objective, Startup: startup, Quorum: spec.Quorum,
		Protected: spec.Protected,
	}
}
