package local

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sluicemesh/sluice/mesh"
)

// helperVar makes the test binary play another program.
const helperVar = "LOCAL_TEST_HELPER"

func TestMain(m *testing.M) {
	switch os.Getenv(helperVar) {
	case "":
		os.Exit(m.Run())
	case "app":
		os.Exit(playApp(os.Args[1:]))
	case "supervisor":
		os.Exit(playSupervisor(os.Args[1], os.Args[2]))
	}
	os.Exit(99)
}

// playApp serves HTTP at the port that is its first argument. Further arguments:
// die (at once), slow (150 ms until ready), stubborn (ignores SIGTERM), once:FILE
// (dies unless FILE can be created), sick:FILE (not ready while FILE is there),
// child (leaves a process behind).
func playApp(args []string) int {
	has := func(word string) bool { return strings.Contains(" "+strings.Join(args[1:], " ")+" ", " "+word+" ") }
	sick := ""
	for _, arg := range args[1:] {
		if path, ok := strings.CutPrefix(arg, "sick:"); ok {
			sick = path
		}
		if path, ok := strings.CutPrefix(arg, "once:"); ok {
			if _, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL, 0o600); err != nil {
				fmt.Println("not a second time")
				return 8
			}
		}
	}
	if has("die") {
		fmt.Fprintln(os.Stderr, "cannot go on: no database")
		return 7
	}
	if has("stubborn") {
		signal.Ignore(syscall.SIGTERM)
	}
	if has("child") {
		attr := &os.ProcAttr{Env: os.Environ()}
		if _, err := os.StartProcess("/bin/sleep", []string{"sleep", "60"}, attr); err != nil {
			return 9
		}
	}
	if has("slow") {
		time.AfterFunc(150*time.Millisecond, func() { serveApp(args[0], sick) })
		select {}
	}
	return serveApp(args[0], sick)
}

func serveApp(port, sick string) int {
	handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if _, err := os.Stat(sick); sick != "" && err == nil {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		fmt.Fprintf(w, "%d %s %s %s", os.Getpid(), os.Getenv("SLUICE_INSTANCE"), os.Getenv("OTEL_SERVICE_NAME"),
			os.Getenv("PEER"))
	})
	fmt.Println(http.ListenAndServe("127.0.0.1:"+port, handler))
	return 6
}

// playSupervisor runs a mesh until it is killed.
func playSupervisor(file, state string) int {
	mesh, err := ReadFile(file)
	if err == nil {
		err = Run(context.Background(), Options{File: mesh, StateDir: state,
			Log: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// world is one mesh under test.
type meshUnderTest struct {
	t      *testing.T
	file   string
	state  string
	client *Client
	cancel context.CancelFunc
	done   chan error
	up     chan *Listing
}

// newMesh writes a mesh file. $APP stands for the helper's program.
func newMesh(t *testing.T, yaml string) *meshUnderTest {
	t.Helper()
	t.Parallel()
	// A short path: t.TempDir is too long for a socket when the test's name is.
	state, err := os.MkdirTemp("", "sl")
	if err != nil {
		t.Fatal(err)
	}
	m := &meshUnderTest{t: t, file: filepath.Join(t.TempDir(), "mesh.yaml"), state: state, client: Dial(Socket(state))}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	m.write(strings.ReplaceAll(yaml, "$APP", self))
	t.Cleanup(func() {
		m.stop()
		m.nothingLeft()
		os.RemoveAll(state)
	})
	return m
}

func (m *meshUnderTest) write(yaml string) {
	m.t.Helper()
	yaml = strings.ReplaceAll(yaml, "env: {", "env: {"+helperVar+": app, ")
	if err := os.WriteFile(m.file, []byte(yaml), 0o600); err != nil {
		m.t.Fatal(err)
	}
}

// run starts a supervisor in this process.
func (m *meshUnderTest) run(change func(*Options)) {
	m.t.Helper()
	file, err := ReadFile(m.file)
	if err != nil {
		m.t.Fatal(err)
	}
	var ctx context.Context
	ctx, m.cancel = context.WithCancel(context.Background())
	m.done, m.up = make(chan error, 1), make(chan *Listing, 1)
	o := Options{File: file, StateDir: m.state, Up: func(l *Listing) { m.up <- l }}
	if change != nil {
		change(&o)
	}
	go func() { m.done <- Run(ctx, o) }()
}

// mustUp waits until the mesh is up.
func (m *meshUnderTest) mustUp() *Listing {
	m.t.Helper()
	select {
	case l := <-m.up:
		return l
	case err := <-m.done:
		m.done <- err
		m.t.Fatalf("did not come up: %v", err)
	case <-time.After(30 * time.Second):
		m.t.Fatal("did not come up in 30 s")
	}
	return nil
}

// stop takes the mesh down, if one runs.
func (m *meshUnderTest) stop() error {
	if m.cancel == nil {
		return nil
	}
	m.cancel()
	err := <-m.done
	m.done <- err
	return err
}

// nothingLeft fails if a marked process still lives.
func (m *meshUnderTest) nothingLeft() {
	m.t.Helper()
	for pid, name := range marked(newNursery(m.state, slog.New(slog.DiscardHandler)).marker) {
		m.t.Errorf("%s, pid %d, is left running", name, pid)
		signalGroup(pid, syscall.SIGKILL)
	}
}

// instance returns the one instance of service.
func (m *meshUnderTest) instance(service mesh.Service) mesh.Instance {
	m.t.Helper()
	world, err := m.client.World(m.t.Context())
	if err != nil {
		m.t.Fatal(err)
	}
	state := world.Find(service)
	if state == nil || len(state.Instances) == 0 {
		m.t.Fatalf("no %s in the world", service)
	}
	return state.Instances[0]
}

// ask returns what the instance answers.
func ask(t *testing.T, instance mesh.Instance) string {
	t.Helper()
	answer, err := http.Get("http://" + instance.App.String() + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body := make([]byte, 1024)
	n, _ := answer.Body.Read(body)
	return string(body[:n])
}

// eventually polls until ok.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}

// exitOf returns the exit code that err carries.
func exitOf(err error) int {
	var coded interface{ ExitCode() int }
	if errors.As(err, &coded) {
		return coded.ExitCode()
	}
	return -1
}
