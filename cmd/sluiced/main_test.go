package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluicemesh/sluice/microkernel"
)

func TestParseSaysAllThatIsMissing(t *testing.T) {
	var stderr strings.Builder
	if _, err := parse([]string{"--mode", "enforce"}, &stderr); err == nil {
		t.Fatal("no error without --state")
	}
	for _, want := range []string{"--state", "--supervisor", "--xds", `--mode "enforce"`} {
		if !strings.Contains(stderr.String(), want) {
			t.Errorf("stderr lacks %s:\n%s", want, stderr.String())
		}
	}
}

func TestTokensAreMadeOnceAndKept(t *testing.T) {
	dir := t.TempDir()
	first, err := tokens(dir)
	if err != nil {
		t.Fatal(err)
	}
	again, err := tokens(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, role := range []microkernel.Role{microkernel.Viewer, microkernel.Proposer, microkernel.Approver, microkernel.Admin} {
		path := filepath.Join(dir, "tokens", string(role))
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v, %v, want 0600", path, info.Mode(), err)
		}
		secret := strings.TrimSpace(string(text))
		one, ok := first.Authenticate(secret)
		two, still := again.Authenticate(secret)
		if !ok || !still || one != two || one.Role != role {
			t.Errorf("token of %s: got %+v, then %+v", role, one, two)
		}
	}
	if _, ok := first.Authenticate(strings.Repeat("x", 43)); ok {
		t.Error("a made-up token is somebody's")
	}
}

func TestOnlyLoopbackIsServed(t *testing.T) {
	for _, address := range []string{"0.0.0.0:0", "[::]:0", ":0", "localhost:0", "127.0.0.1"} {
		if l, err := listen(address, "--api"); err == nil {
			l.Close()
			t.Errorf("%s: no error", address)
		}
	}
	l, err := listen("127.0.0.1:0", "--api")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
}

func TestExitCodes(t *testing.T) {
	if got := code(&missingError{errors.New("no supervisor")}); got != exitMissing {
		t.Errorf("missing supervisor: exit %d, want %d", got, exitMissing)
	}
	if got := code(errors.New("else")); got != exitFailed {
		t.Errorf("any other error: exit %d, want %d", got, exitFailed)
	}
}
