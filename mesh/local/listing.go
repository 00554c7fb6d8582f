package local

import "github.com/sluicemesh/sluice/mesh"

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
