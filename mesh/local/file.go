package local

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/sluicemesh/sluice/mesh"
)

// Limits and defaults of a mesh file (docs/mesh-file.md).
const (
	MaxFileBytes     = 1 << 20
	MaxInstances     = 32  // of one service
	MaxAllInstances  = 256 // of all services
	DefaultGrace     = 5 * time.Second
	DefaultGateway   = "ingress"
	DefaultInterval  = 250 * time.Millisecond
	DefaultTimeout   = time.Second // of one readiness probe
	maxGrace         = 5 * time.Minute
	maxStartup       = 10 * time.Minute
	maxUpstreamWait  = time.Hour
	maxObjective     = time.Hour
	maxProbe         = time.Minute
	minProbeInterval = 10 * time.Millisecond
)

// File is a mesh file: the services of a mesh on one machine, and its ingress.
type File struct {
	Path     string // as given to ParseFile
	Services []Spec // in the order of the file
	Ingress  *Ingress
}

// Spec declares one service.
type Spec struct {
	Name         mesh.Service
	Command      []string // argv with placeholders; at least one
	Dir          string   // working directory, relative to the mesh file; "" = beside it
	Env          []Var    // in the order of the file
	Instances    int
	Protocol     mesh.Protocol
	Ready        Probe
	Upstreams    []mesh.Upstream // sorted by Service
	Objective    mesh.Objective
	Startup      time.Duration // declared P99 of a restart, 0 = measured
	Grace        time.Duration // between SIGTERM and SIGKILL
	MinAvailable int
	Quorum       int
	Protected    bool
}

// Var is one variable of a process's environment; Value may hold placeholders.
type Var struct{ Name, Value string }

// Probe says how an instance shows that it is ready.
type Probe struct {
	HTTP     string        // path to GET at the application's port; "" = TCP connect
	Timeout  time.Duration // of one probe
	Interval time.Duration // between probes, once it has been ready
}

// Ingress is the Envoy by which all load from outside enters.
type Ingress struct {
	Name    string // DNS-1123 label; callers are outside/Name
	Service mesh.Service
	Port    int           // 0 = chosen
	Timeout time.Duration // of one request, 0 = unbounded
}

// Find returns the service called name, nil if there is none.
func (f *File) Find(name mesh.Service) *Spec {
	for i := range f.Services {
		if f.Services[i].Name == name {
			return &f.Services[i]
		}
	}
	return nil
}

// ReadFile reads and parses the mesh file at path. The error is a *FileError with
// all faults at once, or an *Error if the file cannot be read.
func ReadFile(path string) (*File, error) {
	handle, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, &Error{Code: exitMalformed, Reason: "mesh file", Err: err, Remedy: "name an existing file with -f"}
	}
	if err != nil {
		return nil, missing(err, "make it readable", "mesh file")
	}
	defer handle.Close()
	data, err := io.ReadAll(io.LimitReader(handle, MaxFileBytes+1))
	if err != nil {
		return nil, &Error{Code: exitMalformed, Reason: "read mesh file", Err: err, Remedy: "name a regular file with -f"}
	}
	file, err := ParseFile(path, data)
	if err != nil {
		return nil, err
	}
	absolute, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("path of mesh file: %w", err)
	}
	file.Path = absolute
	return file, nil
}
