package envoy

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluicemesh/sluice/internal/testca"
)

func tlsOptions(dir string) Options {
	o := options()
	o.XDSSocket = ""
	o.TLS = &TLS{Address: "127.0.0.1:15010", Server: "spiffe://mesh.test/sluice/control-plane", Dir: dir}
	return o
}

func TestTLSBootstrap(t *testing.T) {
	o := tlsOptions("/run/sluice/tls")
	got := Bootstrap(o)
	for _, name := range []string{"own.json", "trust.json"} {
		got = append(got, o.TLS.Secrets()[name]...)
	}
	const path = "testdata/tls.json"
	if *update {
		if err := os.WriteFile(path, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs; run with -update and read the diff", path)
	}
	o.TLS.Address = "sluiced.sluice-system:15010"
	if named := string(Bootstrap(o)); !strings.Contains(named, `"STRICT_DNS"`) || strings.Contains(named, "pipe") {
		t.Error("a host name is not resolved by DNS")
	}
}

// A real Envoy takes the bootstrap with its secrets.
func TestEnvoyValidatesTLSBootstrap(t *testing.T) {
	binary, err := Find(t.Context(), "", io.Discard)
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	dir := t.TempDir()
	o := tlsOptions(dir)
	ca := testca.New(t, "mesh.test")
	testca.Write(t, dir, ca.Issue("/ns/shop/svc/cart", time.Now().Add(time.Hour)), ca)
	files := o.TLS.Secrets()
	files["bootstrap.json"] = Bootstrap(o)
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	args := append(Args(filepath.Join(dir, "bootstrap.json"), 2), "--mode", "validate")
	if out, err := exec.CommandContext(ctx, binary.Path, args...).CombinedOutput(); err != nil {
		t.Errorf("envoy %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}
