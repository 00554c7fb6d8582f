// Package meshfile turns a topology of the demo application into a mesh file. It is not
// for reading mesh files and knows nothing of how they are run.
package meshfile

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/sluicemesh/sluice/e2e/app/shape"
	"github.com/sluicemesh/sluice/e2e/fault"
)

// ingressTimeout is longer than every timeout inside, so that the innermost one ends a
// request that hangs, and says where it hung.
const ingressTimeout = 18 * time.Second

// Settings says what to write.
type Settings struct {
	Topology string // name of a topology of this repository, or a path
	App      string // the application's binary
	Faults   string // fault directory, "" = no faults
	Out      string // mesh file to write
}

// file and its parts are a mesh file.
type file struct {
	Services []service `yaml:"services"`
	Ingress  ingress   `yaml:"ingress"`
}

type ingress struct {
	Service string `yaml:"service"`
	Timeout string `yaml:"timeout"`
}

type service struct {
	Name      string            `yaml:"name"`
	Command   []string          `yaml:"command,flow"`
	Instances int               `yaml:"instances,omitempty"`
	Protocol  string            `yaml:"protocol,omitempty"`
	Ready     map[string]any    `yaml:"ready,flow"`
	Upstreams []upstream        `yaml:"upstreams,omitempty"`
	Env       map[string]string `yaml:"env,omitempty"`
	Objective map[string]string `yaml:"objective,flow,omitempty"`
}

type upstream struct {
	Service string `yaml:"service"`
	Timeout string `yaml:"timeout"`
	Sticky  bool   `yaml:"sticky,omitempty"`
}

// Find returns the path of a topology: name itself if it is a path, else that of the
// repository's topology called name, looked for from the working directory.
func Find(name string) (string, error) {
	path := name
	if !strings.ContainsAny(name, "/.") {
		path = filepath.Join("e2e", "topologies", name+".yaml")
	}
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("topology %s: %w (run from the repository's root, or name a topology file)", name, err)
	}
	return filepath.Abs(path)
}

// Write writes the mesh file and returns the topology that it runs.
func Write(s Settings) (shape.Topology, error) {
	path, err := Find(s.Topology)
	if err != nil {
		return shape.Topology{}, err
	}
	topology, err := shape.Load(path)
	if err != nil {
		return shape.Topology{}, err
	}
	app, err := filepath.Abs(s.App)
	if err != nil {
		return shape.Topology{}, fmt.Errorf("application: %w", err)
	}
	text, err := Render(&topology, path, app, s.Faults)
	if err != nil {
		return shape.Topology{}, err
	}
	if err := os.WriteFile(s.Out, text, 0o600); err != nil {
		return shape.Topology{}, fmt.Errorf("mesh file: %w", err)
	}
	return topology, nil
}

// Render is the mesh file of the topology at path, run by the binary app; both are
// absolute, because processes may start elsewhere.
func Render(topology *shape.Topology, path, app, faults string) ([]byte, error) {
	f := file{Ingress: ingress{Service: topology.Entry, Timeout: ingressTimeout.String()}}
	for i := range topology.Services {
		f.Services = append(f.Services, render(topology, &topology.Services[i], path, app, faults))
	}
	text, err := yaml.Marshal(f)
	if err != nil {
		return nil, fmt.Errorf("mesh file: %w", err)
	}
	head := "# Written by e2e/topologies from " + filepath.Base(path) + ".\n"
	return append([]byte(head), text...), nil
}

func render(topology *shape.Topology, s *shape.Service, path, app, faults string) service {
	out := service{Name: s.Name, Instances: s.Instances,
		Command: []string{app, "--topology", path, "--service", s.Name, "--port", "{port}"},
		Ready:   map[string]any{"http": "/ready"}, Env: map[string]string{}}
	if faults != "" {
		out.Env[fault.EnvDir] = faults
	}
	if s.Kind == shape.Store {
		out.Protocol = "tcp"
		out.Ready = map[string]any{"tcp": true}
		return out
	}
	out.Objective = map[string]string{"p99": topology.Objective.P99.String(),
		"errors": strconv.FormatFloat(topology.Objective.Errors*100, 'f', -1, 64) + "%"}
	for _, u := range s.Upstreams() {
		out.Env[shape.EnvName(u.Name)] = "{upstream:" + u.Name + "}"
		out.Upstreams = append(out.Upstreams, upstream{Service: u.Name, Timeout: u.Timeout.String(), Sticky: u.Sticky})
	}
	return out
}
