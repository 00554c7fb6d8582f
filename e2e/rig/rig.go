// Package rig brings a mesh up for one arm of an experiment, reads what its control
// plane says, restarts services the naive way, and takes it down again. It is not for
// load, faults or judgement.
package rig

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/sluicemesh/sluice/api/client"
	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/mesh/local"
)

// Exit codes of the programs that use a rig.
const (
	ExitDone        = 0
	ExitNotAchieved = 1
	ExitUsage       = 2
	ExitMissing     = 3
	ExitInterrupted = 130
)

// upWithin bounds the start of a mesh, downWithin its end.
const (
	upWithin   = 3 * time.Minute
	downWithin = time.Minute
)

// Error is an error with the exit code that it asks for.
type Error struct {
	Code int
	Err  error
}

// Error implements error.
func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns what went wrong.
func (e *Error) Unwrap() error { return e.Err }

// Code is the exit code for err.
func Code(err error) int {
	var coded *Error
	switch {
	case err == nil:
		return ExitDone
	case errors.As(err, &coded):
		return coded.Code
	case errors.Is(err, context.Canceled):
		return ExitInterrupted
	}
	return ExitNotAchieved
}

// Bin is the directory of the programs: that of this one if sluice lies beside it,
// else bin/. It fails with ExitMissing and the remedy if one of names is not there.
func Bin(names ...string) (string, error) {
	dir := "bin"
	if self, err := os.Executable(); err == nil {
		if _, err := os.Stat(filepath.Join(filepath.Dir(self), "sluice")); err == nil {
			dir = filepath.Dir(self)
		}
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("programs: %w", err)
	}
	for _, name := range names {
		if _, err := exec.LookPath(filepath.Join(dir, name)); err != nil {
			return "", &Error{ExitMissing, fmt.Errorf("program %s: %w: build it with: make build bin/e2e-app", name, err)}
		}
	}
	return dir, nil
}

// Settings says what to bring up.
type Settings struct {
	Bin      string   // directory of the programs
	MeshFile string   // absolute
	State    string   // state directory
	Flags    []string // more flags of `sluice local up`
	Progress io.Writer
}

// Rig is a mesh that is up.
type Rig struct {
	settings   Settings
	supervisor *local.Client
	api        client.Client
	apiServer  string
	once       sync.Once
	Listing    *local.Listing // as it was when the mesh had come up
}

// Up brings a mesh up and returns when everything is ready.
func Up(ctx context.Context, s Settings) (*Rig, error) {
	bounded, cancel := context.WithTimeout(ctx, upWithin)
	defer cancel()
	args := append([]string{"local", "up", "-f", s.MeshFile, "--state", s.State, "--detach"}, s.Flags...)
	var said bytes.Buffer
	command := exec.CommandContext(bounded, filepath.Join(s.Bin, "sluice"), args...)
	command.Stdout, command.Stderr = io.Discard, io.MultiWriter(&said, s.Progress)
	command.Cancel = func() error { return command.Process.Signal(os.Interrupt) }
	command.WaitDelay = 30 * time.Second
	if err := command.Run(); err != nil {
		return nil, startError(ctx, err, said.String())
	}
	r := &Rig{settings: s, supervisor: local.Dial(filepath.Join(s.State, "supervisor.sock"))}
	listing, err := r.supervisor.Ps(ctx)
	if err == nil && listing.Ingress == nil {
		err = errors.New("the mesh file has no ingress: load has nowhere to enter")
	}
	if err != nil {
		return nil, errors.Join(err, r.Down())
	}
	r.Listing = listing
	return r, nil
}

// startError says why a mesh did not come up, with the exit code of who said so.
func startError(ctx context.Context, err error, said string) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	lines := strings.Split(strings.TrimSpace(said), "\n")
	reason := strings.Join(lines[max(0, len(lines)-8):], "\n")
	code := ExitNotAchieved
	var exit *exec.ExitError
	if errors.As(err, &exit) && (exit.ExitCode() == ExitMissing || exit.ExitCode() == ExitUsage) {
		code = exit.ExitCode()
	}
	return &Error{code, fmt.Errorf("bring the mesh up: %w\n%s", err, reason)}
}

// Down takes the mesh down and returns when nothing of it runs any more. It may be
// called more than once.
func (r *Rig) Down() error {
	var err error
	r.once.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), downWithin)
		defer cancel()
		err = r.supervisor.Down(ctx)
	})
	return err
}

// Ingress is the host:port that takes all load.
func (r *Rig) Ingress() string { return r.Listing.Ingress.Address }

// Envoys counts the proxies that run.
func (r *Rig) Envoys() int {
	count := 0
	for _, p := range r.Listing.Processes {
		if p.Role == local.RoleEnvoy && p.PID != nil {
			count++
		}
	}
	return count
}

// Ps lists what runs now.
func (r *Rig) Ps(ctx context.Context) (*local.Listing, error) { return r.supervisor.Ps(ctx) }

// Kill sends a signal to a child of the supervisor.
func (r *Rig) Kill(ctx context.Context, name, signal string) error {
	return r.supervisor.Kill(ctx, name, signal)
}

// Incarnations returns how often the processes of each service were started, summed
// over its instances.
func (r *Rig) Incarnations(ctx context.Context) (map[string]uint64, error) {
	listing, err := r.supervisor.Ps(ctx)
	if err != nil {
		return nil, err
	}
	count := map[string]uint64{}
	for _, instance := range listing.Instances {
		count[string(instance.Service)] += instance.Incarnation
	}
	return count, nil
}

// Restart restarts every instance of a service, one after the other, as a script
// would: SIGTERM, the grace of the mesh file, SIGKILL, start, wait until ready. No
// traffic is moved.
func (r *Rig) Restart(ctx context.Context, service string) error {
	listing, err := r.supervisor.Ps(ctx)
	if err != nil {
		return err
	}
	found := false
	for _, i := range listing.Instances {
		if string(i.Service) != service {
			continue
		}
		found = true
		ref := mesh.Ref{Service: i.Service, UID: i.UID, Incarnation: i.Incarnation}
		if _, err := r.supervisor.Restart(ctx, ref, "in-place"); err != nil {
			return fmt.Errorf("restart %s: %w", i.Instance, err)
		}
	}
	if !found {
		return fmt.Errorf("restart %s: no such service", service)
	}
	return nil
}

// API returns a client of the control plane with a viewer's token.
func (r *Rig) API(ctx context.Context) (client.Client, error) {
	if r.api != nil {
		return r.api, nil
	}
	listing, err := r.supervisor.Ps(ctx)
	if err != nil {
		return nil, err
	}
	if listing.API == "" {
		return nil, errors.New("the mesh runs no control plane")
	}
	token, err := os.ReadFile(filepath.Join(r.settings.State, "tokens", "viewer"))
	if err != nil {
		return nil, fmt.Errorf("viewer's token: %w", err)
	}
	api, err := client.New(listing.API, strings.TrimSpace(string(token)))
	if err != nil {
		return nil, err
	}
	r.api, r.apiServer = api, listing.API
	return api, nil
}

// Sluice runs the command line against this mesh, as its admin, and returns what it
// printed; an exit code that is not 0 is an *exec.ExitError.
func (r *Rig) Sluice(ctx context.Context, args ...string) ([]byte, error) {
	args = append([]string{"--server", r.Listing.API, "--token-file", filepath.Join(r.settings.State, "tokens", "admin")}, args...)
	command := exec.CommandContext(ctx, filepath.Join(r.settings.Bin, "sluice"), args...)
	var said bytes.Buffer
	command.Stderr = &said
	out, err := command.Output()
	if err != nil {
		lines := strings.Split(strings.TrimSpace(said.String()), "\n")
		err = fmt.Errorf("sluice %s: %w: %s", args[4], err, lines[len(lines)-1])
	}
	return out, err
}
