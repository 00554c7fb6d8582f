package local

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sluicemesh/sluice/mesh"
)

const twoServices = `
services:
- {name: shop/db, command: [$APP, "{port}"], ready: {http: /}, env: {A: b}}
- {name: shop/cart, command: [$APP, "{port}"], ready: {tcp: true}, instances: 2, upstreams: [shop/db],
   env: {PEER: "{upstream:shop/db}"}, startup: 2s}
`

func TestUpAndDown(t *testing.T) {
	m := newMesh(t, twoServices)
	m.run(nil)
	listing := m.mustUp()
	if len(listing.Instances) != 3 || listing.State != "up" {
		t.Fatalf("listing %+v", listing)
	}
	world, err := m.client.World(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	db, cart := world.Find("shop/db"), world.Find("shop/cart")
	if db.ReadyCount() != 1 || cart.ReadyCount() != 2 || cart.Startup != 2*time.Second || db.Startup == 0 {
		t.Fatalf("world %+v", world)
	}
	got := strings.SplitN(ask(t, cart.Instances[1]), " ", 2)[1]
	if want := "cart-1 shop/cart " + db.Instances[0].App.String(); got != want {
		t.Errorf("environment: got %q, want %q", got, want)
	}
	first := *listing
	if err := m.client.Down(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := m.stop(); err != nil {
		t.Errorf("an end on request: %v", err)
	}
	m.nothingLeft()

	m.run(nil)
	again := m.mustUp()
	for i, now := range again.Instances {
		before := first.Instances[i]
		if now.UID != before.UID || now.Address != before.Address || now.Incarnation != before.Incarnation+1 {
			t.Errorf("after down and up: %+v, before %+v", now, before)
		}
	}
}

func TestRestartKeepsUIDAndNextIncarnation(t *testing.T) {
	m := newMesh(t, `services: [{name: a/b, command: [$APP, "{port}", slow], ready: {http: /}, env: {A: b}}]`)
	m.run(nil)
	m.mustUp()
	before := m.instance("a/b")
	after, err := m.client.Restart(t.Context(), before.Ref, "in-place")
	if err != nil {
		t.Fatal(err)
	}
	if after.UID != before.UID || after.Incarnation != before.Incarnation+1 || after.State != mesh.Ready {
		t.Errorf("got %+v after %+v", after, before)
	}
	ask(t, after) // it is ready: it answers

	again, err := m.client.Restart(t.Context(), before.Ref, "")
	if err != nil || again.Incarnation != after.Incarnation {
		t.Errorf("a repeated order: got %+v, %v; want incarnation %d", again, err, after.Incarnation)
	}
	ahead := before.Ref
	ahead.Incarnation += 7
	for _, test := range []struct {
		ref    mesh.Ref
		mode   string
		status int
	}{
		{ahead, "", http.StatusConflict},
		{after.Ref, "replace", http.StatusBadRequest},
		{mesh.Ref{Service: "a/b", UID: "none", Incarnation: 1}, "", http.StatusNotFound},
	} {
		var refused *RefusedError
		_, err := m.client.Restart(t.Context(), test.ref, test.mode)
		if !errors.As(err, &refused) || refused.Status != test.status {
			t.Errorf("restart %+v %q: %v, want status %d", test.ref, test.mode, err, test.status)
		}
	}
}

func TestConcurrentRestartsJoin(t *testing.T) {
	m := newMesh(t, `services: [{name: a/b, command: [$APP, "{port}", slow], ready: {http: /}, env: {A: b}}]`)
	m.run(nil)
	m.mustUp()
	ref := m.instance("a/b").Ref
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			after, err := m.client.Restart(t.Context(), ref, "")
			if err != nil || after.Incarnation != ref.Incarnation+1 {
				t.Errorf("got %+v, %v", after, err)
			}
		})
	}
	wg.Wait()
	if now := m.instance("a/b"); now.Incarnation != ref.Incarnation+1 {
		t.Errorf("incarnation %d after one restart of %d", now.Incarnation, ref.Incarnation)
	}
}

func TestRestartKillsTheStubborn(t *testing.T) {
	m := newMesh(t,
		`services: [{name: a/b, command: [$APP, "{port}", stubborn], ready: {http: /}, grace: 100ms, env: {A: b}}]`)
	m.run(nil)
	m.mustUp()
	began := time.Now()
	if _, err := m.client.Restart(t.Context(), m.instance("a/b").Ref, ""); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took < 100*time.Millisecond {
		t.Errorf("took %s: no grace", took)
	}
}

func TestRestartThatFails(t *testing.T) {
	once := filepath.Join(t.TempDir(), "once")
	m := newMesh(t, `services: [{name: a/b, command: [$APP, "{port}", "once:`+once+`"], env: {A: b}}]`)
	m.run(nil)
	m.mustUp()
	ref := m.instance("a/b").Ref
	_, err := m.client.Restart(t.Context(), ref, "")
	if text := fmt.Sprint(err); !strings.Contains(text, "exit status 8") || !strings.Contains(text, "not a second time") {
		t.Errorf("a restart whose process dies: %v", err)
	}
	if now := m.instance("a/b"); now.State != mesh.Stopped || now.Incarnation != ref.Incarnation+1 {
		t.Errorf("after it: %+v", now)
	}
	if _, err = m.client.Restart(t.Context(), ref, ""); err == nil {
		t.Error("the same order again: no error, though nothing runs")
	}
	m.nothingLeft()
}

func TestCrashedApplicationStaysDown(t *testing.T) {
	m := newMesh(t, `services: [{name: a/b, command: [$APP, "{port}", child], env: {A: b}}]`)
	m.run(nil)
	m.mustUp()
	if err := m.client.Kill(t.Context(), "b-0", "KILL"); err != nil {
		t.Fatal(err)
	}
	var versions []uint64
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	err := m.client.Watch(ctx, func(w *mesh.World) {
		versions = append(versions, w.Version)
		if w.Services[0].Instances[0].State == mesh.Stopped {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	for i := 1; i < len(versions); i++ {
		if versions[i] <= versions[i-1] {
			t.Errorf("versions %v do not grow", versions)
		}
	}
	m.nothingLeft()
	if _, err := m.client.Restart(t.Context(), m.instance("a/b").Ref, ""); err != nil {
		t.Errorf("restart of a crashed one: %v", err)
	}
}

func TestAutoRestart(t *testing.T) {
	sick := filepath.Join(t.TempDir(), "sick")
	m := newMesh(t, `services: [{name: a/b, command: [$APP, "{port}", "sick:`+sick+`"], ready: {http: /}, env: {A: b}}]`)
	m.run(func(o *Options) { o.AutoRestart = true })
	m.mustUp()
	reaches := func(incarnation uint64) func() bool {
		return func() bool {
			now := m.instance("a/b")
			return now.Incarnation == incarnation && now.State == mesh.Ready
		}
	}
	if err := m.client.Kill(t.Context(), "a/b-0", "KILL"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "restarted after its end", reaches(2))
	if err := os.WriteFile(sick, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "restarted after failing health checks", func() bool { return m.instance("a/b").Incarnation == 3 })
	if err := os.Remove(sick); err != nil {
		t.Fatal(err)
	}
	eventually(t, "ready again", reaches(3))
}

func TestAdoptionAfterKill9(t *testing.T) {
	m := newMesh(t, twoServices)
	first := m.spawnSupervisor()
	before, err := m.client.Ps(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = first.Wait() // killed
	second := m.spawnSupervisor()
	after, err := m.client.Ps(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i, now := range after.Instances {
		was := before.Instances[i]
		if *now.PID != *was.PID || now.UID != was.UID || now.Incarnation != was.Incarnation {
			t.Errorf("not adopted: %+v, before %+v", now, was)
		}
	}
	// An adopted child is watched and can be restarted like any other.
	if err := m.client.Kill(t.Context(), "db-0", "KILL"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "end of an adopted child noticed", func() bool { return m.instance("shop/db").State == mesh.Stopped })
	if _, err := m.client.Restart(t.Context(), m.instance("shop/cart").Ref, ""); err != nil {
		t.Error(err)
	}
	if err := m.client.Down(t.Context()); err != nil {
		t.Error(err)
	}
	_ = second.Wait() // it ends with code 1: playSupervisor's own
	m.nothingLeft()
}

// spawnSupervisor runs a supervisor in a process of its own and waits until it is up.
func (m *meshUnderTest) spawnSupervisor() *exec.Cmd {
	m.t.Helper()
	self, err := os.Executable()
	if err != nil {
		m.t.Fatal(err)
	}
	cmd := exec.Command(self, m.file, m.state)
	cmd.Env = append(os.Environ(), helperVar+"=supervisor")
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { _ = cmd.Process.Signal(syscall.SIGKILL) })
	eventually(m.t, "supervisor is up", func() bool {
		l, err := m.client.Ps(m.t.Context())
		return err == nil && l.State == "up"
	})
	return cmd
}

func TestChangedServiceIsNotAdopted(t *testing.T) {
	m := newMesh(t, twoServices)
	first := m.spawnSupervisor()
	before, err := m.client.Ps(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_ = first.Process.Kill() // it lives: spawnSupervisor has asked it
	_ = first.Wait()
	self, _ := os.Executable()
	const changed = `services: [{name: shop/db, command: [$APP, "{port}", slow], ready: {http: /}, env: {A: c}}]`
	m.write(strings.ReplaceAll(changed, "$APP", self))
	m.run(nil)
	after := m.mustUp()
	if len(after.Instances) != 1 || *after.Instances[0].PID == *before.Instances[0].PID ||
		after.Instances[0].Incarnation != 2 {
		t.Errorf("got %+v", after.Instances)
	}
	for _, old := range before.Instances {
		if _, err := startTime(*old.PID); err == nil {
			t.Errorf("%s of the former file still runs", old.Instance)
		}
	}
}

func TestStartFailuresLeaveNothing(t *testing.T) {
	busy, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { busy.Close() }) // after the subtests, which run side by side
	port := strconv.Itoa(busy.Addr().(*net.TCPAddr).Port)
	noEnvoy := filepath.Join(t.TempDir(), "envoy")
	if err := os.WriteFile(noEnvoy, []byte("#!/bin/sh\necho unknown flag --bad >&2\nexit 2\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	good := `{name: a/good, command: [$APP, "{port}"], ready: {http: /}, env: {A: b}}`
	tests := []struct {
		name, yaml string
		change     func(*Options)
		code       int
		want       []string
	}{
		{"an application that dies at start",
			`services: [` + good + `, {name: a/bad, command: [$APP, "{port}", die], env: {A: b}, upstreams: [a/good]}]`, nil, 1,
			[]string{"a.bad-0", "exit status 7", "cannot go on: no database", "see command"}},
		{"a program that is not there",
			`services: [` + good + `, {name: a/bad, command: [./none, "{port}"], env: {A: b}}]`, nil, 3,
			[]string{"a/bad", "/none", "build or install it"}},
		{"an Envoy that dies at start", `services: [` + good + `]`,
			func(o *Options) { o.Binaries.Envoy = noEnvoy }, 1,
			[]string{"a.good-0.envoy ended at once", "exit status 2", "unknown flag --bad", "ENVOY"}},
		{"an Envoy that is not there", `services: [` + good + `]`,
			func(o *Options) { o.Binaries.Envoy = noEnvoy + "-not" }, 3, []string{"envoy-not", "make build"}},
		{"an ingress port in use", "services: [" + good + "]\ningress: {service: a/good, port: " + port + "}\n",
			func(o *Options) { o.Binaries.Envoy = noEnvoy }, 1, []string{"port " + port, "address already in use", "port: 0"}},
		{"a sluiced that dies at start", `services: [` + good + `]`,
			func(o *Options) { o.Binaries.Sluiced = noEnvoy }, 1, []string{"sluiced ended at once", "exit status 2"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			m := newMesh(t, test.yaml)
			m.run(test.change)
			select {
			case err := <-m.done:
				m.done <- err
				if exitOf(err) != test.code {
					t.Errorf("exit %d, want %d: %v", exitOf(err), test.code, err)
				}
				for _, want := range test.want {
					if err == nil || !strings.Contains(err.Error(), want) {
						t.Errorf("message lacks %q: %v", want, err)
					}
				}
			case <-time.After(20 * time.Second):
				t.Fatal("no failure in 20 s")
			}
			m.nothingLeft()
		})
	}
}

func TestSecondSupervisorIsRefused(t *testing.T) {
	m := newMesh(t, `services: [{name: a/b, command: [$APP, "{port}"], env: {A: b}}]`)
	m.run(nil)
	m.mustUp()
	file, err := ReadFile(m.file)
	if err != nil {
		t.Fatal(err)
	}
	err = Run(t.Context(), Options{File: file, StateDir: m.state})
	if exitOf(err) != 1 || !strings.Contains(err.Error(), "another supervisor (pid "+strconv.Itoa(os.Getpid())) {
		t.Errorf("got %v", err)
	}
	ask(t, m.instance("a/b")) // the first goes on
}

func TestInterruptedStart(t *testing.T) {
	m := newMesh(t, `services: [{name: a/b, command: [sleep, "60"], env: {A: "{port}"}}]`)
	m.run(nil)
	eventually(t, "process is there", func() bool {
		l, err := m.client.Ps(t.Context())
		return err == nil && l.Instances[0].PID != nil
	})
	if err := m.stop(); exitOf(err) != 130 {
		t.Errorf("exit %d, want 130: %v", exitOf(err), err)
	}
	m.nothingLeft()
}

func TestLongStateDirectory(t *testing.T) {
	err := Run(t.Context(), Options{File: &File{}, StateDir: filepath.Join(t.TempDir(), strings.Repeat("x", 100))})
	if exitOf(err) != 2 || !strings.Contains(err.Error(), "--state") {
		t.Errorf("got %v", err)
	}
}
