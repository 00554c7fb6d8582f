package local

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/mesh/envoy"
)

// Limits of the start.
const (
	controlLimit = 20 * time.Second
	envoyLimit   = 40 * time.Second       // to be live; Envoy waits 15 s for what xDS does not bring
	staggerLimit = 2 * time.Second        // for one Envoy, before the next is started
	agentsCalm   = 300 * time.Millisecond // the agents have no readiness: they live so long
)

// daemon is a child that is started again whenever it ends: sluiced, the agents, an
// Envoy. The supervisor's mu guards what stands below proxy.
type daemon struct {
	name  string
	role  Role
	order order
	proxy *mesh.Proxy // of an Envoy

	proc     *process
	ready    bool // has been, since the mesh was brought up
	restarts int
	exit     string
	backoff  backoff
}

// makeDaemons makes the table of daemons, in the order of their start.
func (s *supervisor) makeDaemons() error {
	b := s.options.Binaries
	if b.Sluiced != "" {
		s.daemons = append(s.daemons, s.control(b.Sluiced))
	}
	for _, seat := range s.plan.seats {
		if seat.proxy != nil {
			if err := s.addEnvoy(seat.child+envoySuffix, seat.proxy); err != nil {
				return err
			}
		}
	}
	if s.plan.gateway != nil {
		if err := s.addEnvoy(gatewayChild(s.options.File.Ingress), s.plan.gateway); err != nil {
			return err
		}
	}
	if b.Agents != "" && b.Sluiced != "" {
		s.daemons = append(s.daemons, &daemon{name: agentsChild, role: RoleAgents, order: order{
			Name: agentsChild, Role: RoleAgents, Path: b.Agents, Argv: []string{
				"sluice-agents", "--server", "http://" + s.plan.api.String(),
				"--token-file", filepath.Join(s.dir, "tokens", "proposer"),
			},
		}})
	}
	return nil
}

// control is sluiced.
func (s *supervisor) control(path string) *daemon {
	argv := []string{
		"sluiced", "--state", s.dir, "--supervisor", Socket(s.dir), "--xds", filepath.Join(s.dir, xdsSocket),
		"--api", s.plan.api.String(), "--otlp", s.plan.otlp.String(),
	}
	if s.options.Mode != "" {
		argv = append(argv, "--mode", s.options.Mode)
	}
	for _, limit := range s.options.Limits {
		argv = append(argv, "--limit", limit)
	}
	return &daemon{
		name: controlChild, role: RoleControl, backoff: backoff{eager: true},
		order: order{Name: controlChild, Role: RoleControl, Path: path, Argv: argv},
	}
}

// addEnvoy adds the Envoy of proxy and writes its bootstrap.
func (s *supervisor) addEnvoy(name string, proxy *mesh.Proxy) error {
	bootstrap := envoy.Bootstrap(envoy.Options{
		Node: proxy.Node, Cluster: string(proxy.Service), Admin: proxy.Admin,
		XDSSocket: filepath.Join(s.dir, xdsSocket),
	})
	path := filepath.Join(s.dir, "bootstrap", name+".json")
	if err := os.WriteFile(path, bootstrap, 0o600); err != nil {
		return missing(err, "make the state directory writable", "bootstrap of %s", name)
	}
	s.daemons = append(s.daemons, &daemon{name: name, role: RoleEnvoy, proxy: proxy, order: order{
		Name: name, Role: RoleEnvoy, Path: s.options.Binaries.Envoy, Salt: bootstrap,
		Argv: append([]string{"envoy"}, envoy.Args(path, s.options.Workers)...),
	}})
	return nil
}

// adoptDaemon takes over d's living process if it is still what is wanted.
func (s *supervisor) adoptDaemon(d *daemon, living map[string]*process) {
	p := living[d.name]
	if p == nil || p.Digest != d.order.digest() {
		return
	}
	delete(living, d.name)
	d.restarts = p.Restarts
	s.employ(d, p)
}

// employ makes p the process of d and keeps d from now on.
func (s *supervisor) employ(d *daemon, p *process) {
	s.mu.Lock()
	s.place(d, p)
	s.mu.Unlock()
	s.wg.Go(func() { s.keep(d, p) })
}

// place makes p the process of d; mu is held. When all is being taken down it is
// ended at once: takeDown may have looked already.
func (s *supervisor) place(d *daemon, p *process) {
	d.proc = p
	if s.phase == phaseStopping {
		p.signal(syscall.SIGKILL)
	}
	s.touch()
}

// ensure starts d unless it lives already.
func (s *supervisor) ensure(d *daemon) error {
	s.mu.Lock()
	living := d.proc.alive()
	s.mu.Unlock()
	if living {
		return nil
	}
	p, err := s.nursery.spawn(d.order)
	if err != nil {
		return missing(err, "see that "+d.order.Path+" is a program for this machine", "start %s", d.name)
	}
	s.employ(d, p)
	return nil
}

// keep starts d again whenever its process ends, until the mesh is taken down. One
// that ends before it was ever ready ends the start of the mesh.
func (s *supervisor) keep(d *daemon, p *process) {
	for p != nil {
		<-p.done
		if s.ctx.Err() != nil {
			return
		}
		if err := s.lost(d, p); err != nil {
			s.cancel(err)
			return
		}
		p = s.revive(d, time.Since(p.Started))
	}
}

// lost notes that the process of d has ended; the error says that the mesh cannot
// come up without it.
func (s *supervisor) lost(d *daemon, p *process) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	d.exit = p.exit
	s.touch()
	s.log.Warn("child ended", "child", d.name, "pid", p.PID, "exit", p.exit)
	if d.ready || s.phase != phaseStarting {
		return nil
	}
	lines := tail(p.log, p.from, 10)
	return failed(remedyFor(d, lines), "%s ended at once (%s); the last lines of %s:\n%s\n", d.name, p.exit,
		p.log, indent(lines))
}

// remedyFor guesses from the last lines of a child what can be done.
func remedyFor(d *daemon, lines string) string {
	switch {
	case strings.Contains(strings.ToLower(lines), "address already in use"):
		return "end what listens there, or remove ports.json in the state directory to have other ports chosen"
	case d.role == RoleEnvoy:
		return "see its log; set ENVOY to another Envoy to try that one"
	}
	return "see its log, and that " + d.order.Path + " is the one built with this sluice"
}

// revive starts d again after its back-off, nil when the mesh is taken down.
func (s *supervisor) revive(d *daemon, lived time.Duration) *process {
	for {
		sleep(s.ctx, d.backoff.next(lived))
		if s.ctx.Err() != nil {
			return nil
		}
		s.mu.Lock()
		d.restarts++
		d.order.Restarts = d.restarts
		s.mu.Unlock()
		p, err := s.nursery.spawn(d.order)
		if err == nil {
			s.mu.Lock()
			s.place(d, p)
			s.mu.Unlock()
			s.log.Info("child started again", "child", d.name, "pid", p.PID)
			return p
		}
		s.log.Error("child does not start", "child", d.name, "error", err)
		lived = 0
	}
}

// markReady notes that d has been ready.
func (s *supervisor) markReady(d *daemon) {
	s.mu.Lock()
	d.ready = true
	s.touch()
	s.mu.Unlock()
}

// answering waits until sluiced takes connections at its API and for xDS.
func (s *supervisor) answering(ctx context.Context, d *daemon) error {
	doors := [][2]string{{"tcp", s.plan.api.String()}, {"unix", filepath.Join(s.dir, xdsSocket)}}
	for _, door := range doors {
		for !connects(ctx, door[0], door[1]) {
			if ctx.Err() != nil {
				return failed("see its log", "%s did not open %s within %s; the last lines of its log:\n%s\n",
					d.name, door[1], controlLimit, s.lastLines(d))
			}
			sleep(ctx, startInterval/2)
		}
	}
	return nil
}

// connects reports whether address takes a connection.
func connects(ctx context.Context, network, address string) bool {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, network, address)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

// lastLines returns the end of d's log, indented.
func (s *supervisor) lastLines(d *daemon) string {
	s.mu.Lock()
	p := d.proc
	s.mu.Unlock()
	if p == nil {
		return indent("")
	}
	return indent(tail(p.log, p.from, 10))
}

// live waits until d's Envoy says that it is live, at most until ctx ends.
func (s *supervisor) live(ctx context.Context, d *daemon) bool {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Second}
	for ctx.Err() == nil {
		if get(ctx, client, "http://"+d.proxy.Admin.String()+"/ready") == nil {
			return true
		}
		sleep(ctx, startInterval/2)
	}
	return false
}

// stopDaemons ends the daemons of roles side by side.
func (s *supervisor) stopDaemons(roles ...Role) {
	var wg sync.WaitGroup
	for _, d := range s.daemons {
		if !slices.Contains(roles, d.role) {
			continue
		}
		wg.Go(func() {
			s.mu.Lock()
			p := d.proc
			s.mu.Unlock()
			if p != nil {
				p.stop(DefaultGrace)
			}
		})
	}
	wg.Wait()
}

// checkBinaries finds the programs that o names.
func checkBinaries(o *Options) error {
	for _, path := range []*string{&o.Binaries.Sluiced, &o.Binaries.Agents, &o.Binaries.Envoy} {
		if *path == "" {
			continue
		}
		absolute, err := filepath.Abs(*path)
		if err != nil {
			return missing(err, "name it by an absolute path", "program %s", *path)
		}
		info, err := os.Stat(absolute)
		if err == nil && (info.IsDir() || info.Mode()&0o111 == 0) {
			err = errors.New("is not an executable file")
		}
		if err != nil {
			return missing(err, "build it with: make build", "program %s", *path)
		}
		*path = absolute
	}
	return nil
}
