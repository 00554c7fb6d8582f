package local

import (
	"cmp"
	"runtime/debug"
	"slices"
	"time"

	"github.com/sluicemesh/sluice/mesh"
)

// Listing is what runs: the answer of GET /v1/ps and of `sluice local ps -o json`.
type Listing struct {
	Schema    string         `json:"schema"` // "sluice.ps/1"
	Version   string         `json:"version"`
	Commit    string         `json:"commit"`
	Started   string         `json:"started"` // of the supervisor, RFC 3339
	Seconds   float64        `json:"seconds"` // since then
	API       string         `json:"api"`     // "http://127.0.0.1:20001", "" = no control plane
	Dashboard string         `json:"dashboard"`
	State     string         `json:"state"` // "starting", "up", "stopping"
	Dir       string         `json:"dir"`   // state directory
	Ingress   *ListedIngress `json:"ingress"`
	Instances []Listed       `json:"instances"` // sorted by service, then number
	Processes []Process      `json:"processes"` // all children, sorted by name
}

// Listed is one instance of a service.
type Listed struct {
	Service     mesh.Service            `json:"service"`
	Instance    string                  `json:"instance"`
	UID         mesh.UID                `json:"uid"`
	Incarnation uint64                  `json:"incarnation"`
	PID         *int                    `json:"pid"` // null = no process
	State       mesh.InstanceState      `json:"state"`
	Address     string                  `json:"address"` // of the application itself
	Admin       string                  `json:"admin"`   // of its Envoy, "" = none
	Inbound     string                  `json:"inbound"` // where callers reach it
	Upstreams   map[mesh.Service]string `json:"upstreams"`
	Restarts    int                     `json:"restarts"` // since the mesh was brought up
}

// ListedIngress is where load enters.
type ListedIngress struct {
	Name    mesh.Service `json:"name"`
	Service mesh.Service `json:"service"`
	Address string       `json:"address"`
	Admin   string       `json:"admin"`
}

// Process is one child of the supervisor.
type Process struct {
	Name     string `json:"name"`
	Role     Role   `json:"role"`
	PID      *int   `json:"pid"` // null = does not run
	Restarts int    `json:"restarts"`
	Log      string `json:"log"`
	Exit     string `json:"exit"` // how it last ended, "" = never
}

// Role is what a child is for.
type Role string

// Roles.
const (
	RoleControl Role = "control" // sluiced
	RoleAgents  Role = "agents"
	RoleEnvoy   Role = "envoy"
	RoleApp     Role = "app"
)

// listing returns what runs.
func (s *supervisor) listing() *Listing {
	version, commit := build()
	l := &Listing{
		Schema: "sluice.ps/1", Version: version, Commit: commit, Dir: s.dir,
		Started: s.started.UTC().Format(time.RFC3339), Seconds: time.Since(s.started).Seconds(),
		Instances: []Listed{}, Processes: []Process{},
	}
	if s.options.Binaries.Sluiced != "" {
		l.API = "http://" + s.plan.api.String()
		l.Dashboard = l.API + "/"
	}
	if g := s.plan.gateway; g != nil {
		l.Ingress = &ListedIngress{
			Name: g.Service, Service: g.Outbound[0].Service,
			Address: g.Outbound[0].Listen.String(), Admin: g.Admin.String(),
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	l.State = string(s.phase)
	for _, a := range s.apps {
		l.Instances = append(l.Instances, s.listed(a))
		l.Processes = append(l.Processes, s.process(a.child, RoleApp, a.proc, a.restarts, a.exit))
	}
	for _, d := range s.daemons {
		l.Processes = append(l.Processes, s.process(d.name, d.role, d.proc, d.restarts, d.exit))
	}
	slices.SortFunc(l.Processes, func(a, b Process) int { return cmp.Compare(a.Name, b.Name) })
	return l
}

// listed returns one instance; mu is held.
func (s *supervisor) listed(a *app) Listed {
	l := Listed{
		Service: a.spec.Name, Instance: a.instance, UID: a.uid, Incarnation: a.incarnation, PID: pid(a.proc),
		State: a.state, Address: a.app.String(), Inbound: a.inbound().String(), Restarts: a.restarts,
		Upstreams: make(map[mesh.Service]string),
	}
	if a.proxy != nil {
		l.Admin = a.proxy.Admin.String()
	}
	for _, up := range a.spec.Upstreams {
		l.Upstreams[up.Service] = s.plan.upstream(a.seat, up.Service).String()
	}
	return l
}

// process returns one child; mu is held.
func (s *supervisor) process(name string, role Role, p *process, restarts int, exit string) Process {
	return Process{
		Name: name, Role: role, PID: pid(p), Restarts: restarts, Exit: exit, Log: s.nursery.logPath(name),
	}
}

// pid returns the process's id, nil if it does not live.
func pid(p *process) *int {
	if !p.alive() {
		return nil
	}
	id := p.PID
	return &id
}

// build returns version and commit of this program, "unknown" where it does not say.
func build() (version, commit string) {
	version, commit = "unknown", "unknown"
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return version, commit
	}
	if info.Main.Version != "" {
		version = info.Main.Version
	}
	for _, setting := range info.Settings {
		if setting.Key == "vcs.revision" {
			commit = setting.Value
		}
	}
	return version, commit
}
