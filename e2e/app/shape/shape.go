// Package shape reads topology files: which services an application has, what each
// operation of each service calls, and which faults suit it. It is not for the mesh:
// it knows nothing of proxies, ports or the control plane.
package shape

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// MaxBytes bounds a topology file.
const MaxBytes = 256 << 10

// Kinds of a service.
const (
	Handler = "handler" // HTTP and gRPC
	Store   = "store"   // raw TCP, one line a request
)

// Ways to call.
const (
	HTTP   = "http"
	GRPC   = "grpc"
	Stream = "stream" // gRPC server streaming
	TCP    = "tcp"    // to a store
)

// Topology is one application.
type Topology struct {
	Name      string            `yaml:"name"`
	Entry     string            `yaml:"entry"` // service that takes all load
	Mix       []Share           `yaml:"mix"`   // operations of Entry
	Objective Objective         `yaml:"objective"`
	Pool      Pool              `yaml:"pool"`
	Graceful  bool              `yaml:"graceful"` // SIGTERM lets a process finish its requests; else it ends at once
	Services  []Service         `yaml:"services"`
	Faults    map[string]Target `yaml:"faults"`
}

// Share is one operation's part of the load, 0..1.
type Share struct {
	Operation string  `yaml:"operation"`
	Share     float64 `yaml:"share"`
}

// Objective is what every service that is not a store promises.
type Objective struct {
	P99    time.Duration `yaml:"p99"`
	Errors float64       `yaml:"errors"` // share of requests, 0..1
}

// Pool bounds the connections of a service to each of its stores.
type Pool struct {
	Idle     time.Duration `yaml:"idle"`     // an unused connection is closed after this time
	Lifetime time.Duration `yaml:"lifetime"` // a connection is not used again after this time
}

// Service is one service of the application.
type Service struct {
	Name       string            `yaml:"name"`
	Kind       string            `yaml:"kind"`      // Handler if empty
	Instances  int               `yaml:"instances"` // 1 if 0
	Work       time.Duration     `yaml:"work"`      // of one request, besides its calls
	Startup    time.Duration     `yaml:"startup"`   // from exec to listening
	ReadsOnce  []string          `yaml:"readsOnce"` // stores of which a value is read at start, never again
	Session    string            `yaml:"session"`   // store of which a session is taken at start
	Operations map[string][]Step `yaml:"operations"`
}

// Step is one call, or several at once.
type Step struct {
	Call     `yaml:",inline"`
	Parallel []Call `yaml:"parallel"`
}

// Call is one call of an upstream.
type Call struct {
	To      string        `yaml:"to"`
	Op      string        `yaml:"op"`      // operation of a handler; get or set of a store
	Via     string        `yaml:"via"`     // http if empty, tcp if To is a store
	Chance  float64       `yaml:"chance"`  // share of requests that make the call; 0 = all
	Timeout time.Duration `yaml:"timeout"` // 12 s if 0
}

// Target is where a fault goes.
type Target struct {
	Service string   `yaml:"service"`
	Store   string   `yaml:"store"`   // poison: the store that gives garbage to Service
	Callers []string `yaml:"callers"` // retry-storm: who retries without a budget
}

// DefaultTimeout bounds a call that declares no timeout.
const DefaultTimeout = 12 * time.Second

// Calls returns the calls of s in order.
func (s Step) Calls() []Call {
	if len(s.Parallel) > 0 {
		return s.Parallel
	}
	return []Call{s.Call}
}

// Load reads and checks the topology file at path.
func Load(path string) (Topology, error) {
	file, err := os.Open(path)
	if err != nil {
		return Topology{}, fmt.Errorf("topology file: %w", err)
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, MaxBytes+1))
	if err != nil {
		return Topology{}, fmt.Errorf("topology file %s: %w", path, err)
	}
	topology, err := Parse(text)
	if err != nil {
		return Topology{}, fmt.Errorf("topology file %s: %w", path, err)
	}
	return topology, nil
}

// Parse decodes one topology strictly (unknown fields and trailing documents are
// errors), fills in defaults and checks it. All faults found are joined.
func Parse(text []byte) (Topology, error) {
	if len(text) > MaxBytes {
		return Topology{}, fmt.Errorf("more than %d bytes", MaxBytes)
	}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	var topology Topology
	if err := decoder.Decode(&topology); err != nil {
		return Topology{}, fmt.Errorf("decode: %w", err)
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return Topology{}, errors.New("decode: more than one document")
	}
	topology.fill()
	if err := topology.check(); err != nil {
		return Topology{}, err
	}
	return topology, nil
}

// Find returns the service called name.
func (t *Topology) Find(name string) (*Service, bool) {
	for i := range t.Services {
		if t.Services[i].Name == name {
			return &t.Services[i], true
		}
	}
	return nil, false
}

// EnvName is the environment variable that holds the address of upstream name.
func EnvName(name string) string {
	return "UPSTREAM_" + strings.NewReplacer("/", "_", "-", "_").Replace(name)
}

// fill writes the defaults into t.
func (t *Topology) fill() {
	stores := map[string]bool{}
	for i := range t.Services {
		service := &t.Services[i]
		service.Instances = max(service.Instances, 1)
		if service.Kind == "" {
			service.Kind = Handler
		}
		stores[service.Name] = service.Kind == Store
	}
	for i := range t.Services {
		for _, steps := range t.Services[i].Operations {
			for j := range steps {
				steps[j].fill(stores)
			}
		}
	}
}

// fill writes the defaults into the calls of s.
func (s *Step) fill(stores map[string]bool) {
	if s.To != "" {
		s.Call.fill(stores)
	}
	for i := range s.Parallel {
		s.Parallel[i].fill(stores)
	}
}

func (c *Call) fill(stores map[string]bool) {
	if c.Via == "" {
		c.Via = HTTP
		if stores[c.To] {
			c.Via = TCP
		}
	}
	if c.Timeout == 0 {
		c.Timeout = DefaultTimeout
	}
}
