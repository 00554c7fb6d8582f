// Package scenario tests the whole system from outside: the built programs, real
// Envoys, real processes, real load. It proves wiring; what the parts do is proved
// beside them.
package scenario

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluicemesh/sluice/e2e/load"
)

// bin is the directory of the built programs, made by TestMain.
var bin string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "sluice-scenario-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	bin = dir
	for program, source := range map[string]string{
		"sluice": "./cmd/sluice", "sluiced": "./cmd/sluiced", "sluice-agents": "./cmd/sluice-agents",
		"e2e-app": "./e2e/app", "e2e-topologies": "./e2e/topologies",
	} {
		cmd := exec.Command("go", "build", "-o", filepath.Join(dir, program), source)
		cmd.Dir = filepath.Join("..", "..")
		if out, err := cmd.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build %s: %v\n%s", program, err, out)
			return 1
		}
	}
	return m.Run()
}

// system is one mesh that is up.
type system struct {
	t     *testing.T
	state string
	env   []string
	ps    listing
}

// listing is what sluice local ps -o json prints.
type listing struct {
	API       string `json:"api"`
	Dashboard string `json:"dashboard"`
	Ingress   struct {
		Address string `json:"address"`
	} `json:"ingress"`
	Instances []instance `json:"instances"`
}

type instance struct {
	Service     string            `json:"service"`
	Instance    string            `json:"instance"`
	UID         string            `json:"uid"`
	Incarnation uint64            `json:"incarnation"`
	PID         int               `json:"pid"`
	State       string            `json:"state"`
	Inbound     string            `json:"inbound"`
	Upstreams   map[string]string `json:"upstreams"`
}

// shop writes the mesh file of the shop, edited by pairs of old and new text.
func shop(t *testing.T, edits ...string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "shop-mesh.yaml")
	topology, err := filepath.Abs("testdata/shop.yaml")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(bin, "e2e-topologies"),
		"-topology", topology, "-app", filepath.Join(bin, "e2e-app"), "-out", file)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("mesh file: %v\n%s", err, out)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	edited := strings.NewReplacer(edits...).Replace(string(text))
	if len(edits) > 0 && edited == string(text) {
		t.Fatalf("edits changed nothing in\n%s", text)
	}
	if err := os.WriteFile(file, []byte(edited), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// up starts the mesh of file and takes it down when the test ends.
func up(t *testing.T, file string, args ...string) *system {
	t.Helper()
	s := &system{t: t, state: shortDir(t), env: []string{"XDG_STATE_HOME=" + t.TempDir()}}
	t.Cleanup(func() {
		out, err := s.try("local", "down", "--state", s.state)
		if err != nil {
			t.Errorf("down: %v\n%s", err, out)
		}
		if t.Failed() {
			s.logs()
		}
	})
	command := append([]string{"local", "up", "-f", file, "--state", s.state, "--detach"}, args...)
	if out, err := s.try(command...); err != nil {
		s.logs()
		t.Fatalf("up: %v\n%s", err, out)
	}
	s.refresh()
	return s
}

// shortDir returns a directory whose path leaves room for a Unix socket's name.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sl")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// try runs the command line and returns its output.
func (s *system) try(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "sluice"), args...)
	cmd.Env = append(os.Environ(), s.env...)
	out, err := cmd.Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return string(out), fmt.Errorf("sluice %s: %w\n%s", strings.Join(args, " "), err, exit.Stderr)
	}
	return string(out), err
}

// must runs the command line and decodes its JSON into value.
func (s *system) must(value any, args ...string) {
	s.t.Helper()
	out, err := s.try(append(args, "-o", "json")...)
	if err != nil {
		s.t.Fatalf("%v\n%s", err, out)
	}
	if err := json.Unmarshal([]byte(out), value); err != nil {
		s.t.Fatalf("sluice %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// ask is must for a control plane that may be away.
func (s *system) ask(value any, args ...string) bool {
	s.t.Helper()
	out, err := s.try(append(args, "-o", "json")...)
	return err == nil && json.Unmarshal([]byte(out), value) == nil
}

// refresh reads what runs.
func (s *system) refresh() {
	s.t.Helper()
	s.ps = listing{}
	s.must(&s.ps, "local", "ps", "--state", s.state)
}

// one returns the only instance of service.
func (s *system) one(service string) instance {
	s.t.Helper()
	for _, i := range s.ps.Instances {
		if i.Service == service {
			return i
		}
	}
	s.t.Fatalf("no instance of %s in %+v", service, s.ps.Instances)
	return instance{}
}

// until polls met four times a second until it is true, for at most patience.
func (s *system) until(patience time.Duration, what string, met func() bool) {
	s.t.Helper()
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for !met() {
		select {
		case <-tick.C:
		case <-deadline:
			s.t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// logs prints the end of every log of the system.
func (s *system) logs() {
	paths, _ := filepath.Glob(filepath.Join(s.state, "logs", "*.log"))
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil || len(text) == 0 {
			continue
		}
		s.t.Logf("== %s\n%s", filepath.Base(path), text[max(0, len(text)-4000):])
	}
}

// drive starts load on the ingress and waits until it answers.
func (s *system) drive(rate float64, requests int, length time.Duration) *load.Generator {
	s.t.Helper()
	address := strings.TrimPrefix(s.ps.Ingress.Address, "http://")
	s.until(20*time.Second, "the ingress answers 200", func() bool {
		answer, err := http.Get("http://" + address + "/home")
		if err != nil {
			return false
		}
		answer.Body.Close()
		return answer.StatusCode == http.StatusOK
	})
	generator, err := load.Start(context.Background(), load.Config{
		Address: address, Entry: "shop/web", Mix: []load.Part{{Operation: "home", Share: 1}},
		Rate: rate, Seed: 1, Requests: requests, For: length,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return generator
}
