package local

import (
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluicemesh/sluice/mesh/envoy"
)

// TestForeignProcesses runs python's file servers behind real Envoys that a real
// sluiced configures, and kills what may die without harm: sluiced and an Envoy.
func TestForeignProcesses(t *testing.T) {
	if testing.Short() {
		t.Skip("starts real Envoys")
	}
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skipf("needs python3: %v", err)
	}
	binary, err := envoy.Find(t.Context(), "", t.Output())
	if err != nil {
		t.Skipf("needs Envoy: %v", err)
	}
	t.Log(python, binary.Version)
	sluiced := filepath.Join(t.TempDir(), "sluiced")
	build := exec.Command("go", "build", "-o", sluiced, "github.com/sluicemesh/sluice/cmd/sluiced")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build sluiced: %v\n%s", err, out)
	}
	m := newMesh(t, "")
	m.file = filepath.Join("testdata", "foreign", "mesh.yaml")
	m.run(func(o *Options) { o.Binaries = Binaries{Sluiced: sluiced, Envoy: binary.Path} })
	up := m.mustUp()
	url := "http://" + up.Ingress.Address + "/"
	eventually(t, "served through the ingress", func() bool { return serves(url) == nil })

	m.mustKill("sluiced")
	for i := range 50 {
		if err := serves(url); err != nil {
			t.Fatalf("request %d after sluiced was killed: %v", i, err)
		}
	}
	eventually(t, "sluiced is started again", func() bool { return m.revived("sluiced") })
	m.mustKill("a-0.envoy")
	eventually(t, "the Envoy is started again", func() bool { return m.revived("shop.a-0.envoy") })
	eventually(t, "served again", func() bool { return serves(url) == nil })
}

// serves returns nil if the front end answers with a page of each upstream.
func serves(url string) error {
	answer, err := http.Get(url)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK || strings.Count(string(body), "DOCTYPE") != 3 {
		return fmt.Errorf("%s: %s", answer.Status, body)
	}
	return nil
}

// mustKill kills a child.
func (m *meshUnderTest) mustKill(name string) {
	m.t.Helper()
	if err := m.client.Kill(m.t.Context(), name, "KILL"); err != nil {
		m.t.Fatal(err)
	}
}

// revived reports whether a child runs and has been started again.
func (m *meshUnderTest) revived(name string) bool {
	listing, err := m.client.Ps(m.t.Context())
	if err != nil {
		return false
	}
	for _, p := range listing.Processes {
		if p.Name == name {
			return p.PID != nil && p.Restarts > 0
		}
	}
	return false
}
