package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/spf13/cobra"

	"github.com/sluicemesh/sluice/internal/fakeplane"
	"github.com/sluicemesh/sluice/microkernel"
)

// bench is a command line in front of a fake control plane, in a folder of its own.
type bench struct {
	plane *fakeplane.Plane
	url   string
	token string
	env   map[string]string
	runs  int
}

func newBench(t *testing.T) *bench {
	t.Helper()
	t.Chdir(t.TempDir())
	b := &bench{plane: fakeplane.New(), token: fakeplane.ProposerToken, env: map[string]string{"HOME": t.TempDir()}}
	b.plane.Auto = true
	handler, err := b.plane.Handler(nil)
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(handler)
	t.Cleanup(web.Close)
	b.url = web.URL
	b.env["SLUICE_SERVER"] = b.url
	return b
}

// run carries out one command; the result is what a person would see, and the code.
func (b *bench) run(ctx context.Context, stdin string, args ...string) (stdout, stderr string, code int) {
	var out, err bytes.Buffer
	b.runs++
	if b.token != "" {
		if failed := os.WriteFile("token", []byte(b.token+"\n"), 0o600); failed != nil {
			return "", failed.Error(), -1
		}
		args = append(args, "--token-file", "token")
	}
	a := &app{
		in: strings.NewReader(stdin), out: &out, err: &err, getenv: func(name string) string { return b.env[name] },
		now: func() time.Time { return b.plane.Start }, started: b.plane.Start,
		random: func() string { return fmt.Sprintf("%04d", b.runs) },
	}
	code = a.run(ctx, args)
	clean := strings.NewReplacer(b.url, "SERVER")
	return clean.Replace(out.String()), clean.Replace(err.String()), code
}

// TestScripts runs the commands of testdata/*.txt. Commands of a script:
//
//	file NAME            the input becomes a file
//	as ROLE              use that role's token from now on
//	advance ID           move the fake kernel's plan by one change
//	manual               plans no longer run by themselves
//	save NAME            the output of the command line in the input becomes a file
//	offline              no control plane is known from now on
//	sluice [code=N]      the input is the command line, without "sluice"
func TestScripts(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		if filepath.Ext(path) != ".txt" {
			return
		}
		absolute, err := filepath.Abs(path)
		if err != nil {
			t.Fatal(err)
		}
		b := newBench(t)
		datadriven.RunTest(t, absolute, func(t *testing.T, d *datadriven.TestData) string { return b.step(t, d) })
	})
}

func (b *bench) step(t *testing.T, d *datadriven.TestData) string {
	t.Helper()
	switch d.Cmd {
	case "file":
		if err := os.WriteFile(d.CmdArgs[0].Key, []byte(d.Input+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		return ""
	case "as":
		b.token = map[string]string{
			"viewer": fakeplane.ViewerToken, "proposer": fakeplane.ProposerToken,
			"approver": fakeplane.ApproverToken, "admin": fakeplane.AdminToken, "nobody": "", "stranger": "somebody-elses-token",
		}[d.CmdArgs[0].Key]
		return ""
	case "tampered":
		b.plane.Tampered = true
		return ""
	case "save":
		stdout, stderr, code := b.run(t.Context(), "", strings.Fields(d.Input)...)
		if code != 0 {
			t.Fatal(stderr)
		}
		if err := os.WriteFile(d.CmdArgs[0].Key, []byte(stdout), 0o600); err != nil {
			t.Fatal(err)
		}
		return ""
	case "offline":
		delete(b.env, "SLUICE_SERVER")
		b.token = ""
		return ""
	case "manual":
		b.plane.Auto = false
		return ""
	case "advance":
		return fmt.Sprintln(b.plane.Advance(microkernel.PlanID(d.CmdArgs[0].Key)))
	case "sluice":
		stdout, stderr, code := b.run(t.Context(), "", strings.Fields(d.Input)...)
		result := stdout
		if stderr != "" {
			result += "stderr:\n" + stderr
		}
		if code != 0 {
			result += fmt.Sprintf("exit %d\n", code)
		}
		return result
	}
	t.Fatalf("%s: unknown command %s", d.Pos, d.Cmd)
	return ""
}

// Every command has a help text with an example, and every flag an explanation.
func TestEveryCommandExplainsItself(t *testing.T) {
	a := &app{in: strings.NewReader(""), out: &bytes.Buffer{}, err: &bytes.Buffer{}, getenv: func(string) string { return "" }}
	var visit func(c *cobra.Command)
	visit = func(c *cobra.Command) {
		local := strings.HasPrefix(c.CommandPath(), "sluice local")
		if c.Short == "" || c.Example == "" && !local || strings.HasSuffix(c.Short, ".") {
			t.Errorf("%s: short %q, example %q", c.CommandPath(), c.Short, c.Example)
		}
		for _, child := range c.Commands() {
			visit(child)
		}
	}
	visit(a.root())
}

func TestInterruptedIs130AndThePlanGoesOn(t *testing.T) {
	b := newBench(t)
	b.plane.Auto = false
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan string, 1)
	go func() {
		_, stderr, code := b.run(ctx, "", "restart", "hotel/profile")
		done <- fmt.Sprintf("%d %s", code, stderr)
	}()
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for len(b.plane.Records()) == 0 {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("no plan was handed in")
		}
	}
	cancel()
	got := <-done
	if !strings.HasPrefix(got, "130 ") || !strings.Contains(got, "plan abort restart-profile-0001") {
		t.Errorf("got %s", got)
	}
	if phase := b.plane.Records()[0].Phase; phase != microkernel.Running {
		t.Errorf("the plan is %s", phase)
	}
}

func TestWaitingEndsWithTheTimeLimit(t *testing.T) {
	b := newBench(t)
	b.plane.Auto = false
	_, stderr, code := b.run(t.Context(), "", "restart", "hotel/profile", "--timeout", "300ms")
	if code != exitNotAchieved || !strings.Contains(stderr, "has not ended in time") {
		t.Errorf("got %d %s", code, stderr)
	}
}

func TestDiscoveryFollowsServerThenEnvironmentThenCurrent(t *testing.T) {
	b := newBench(t)
	b.token = ""
	home := filepath.Join(b.env["HOME"], ".local", "state", "sluice")
	authority := strings.TrimPrefix(b.url, "http://")
	endpoints := filepath.Join(home, "endpoints")
	if err := os.MkdirAll(endpoints, 0o700); err != nil {
		t.Fatal(err)
	}
	token := filepath.Join(home, "token")
	if err := os.WriteFile(token, []byte(fakeplane.ViewerToken), 0o600); err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(endpoint{Server: b.url, TokenFile: token, State: home})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(endpoints, strings.ReplaceAll(authority, ":", "_")+".json")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, stderr, code := b.run(t.Context(), "", "status"); code != 0 {
		t.Errorf("by $SLUICE_SERVER with the token of its endpoint: %d %s", code, stderr)
	}
	delete(b.env, "SLUICE_SERVER")
	if _, _, code := b.run(t.Context(), "", "status"); code != exitMissing {
		t.Errorf("nothing is up: %d", code)
	}
	if _, stderr, code := b.run(t.Context(), "", "status", "--server", authority); code != 0 {
		t.Errorf("by --server without a scheme: %d %s", code, stderr)
	}
	if err := os.Symlink(file, filepath.Join(home, "current")); err != nil {
		t.Fatal(err)
	}
	if _, stderr, code := b.run(t.Context(), "", "status"); code != 0 {
		t.Errorf("by current: %d %s", code, stderr)
	}
	if _, stderr, code := b.run(t.Context(), "", "status", "--server", "127.0.0.1:1"); code != exitMissing || !strings.Contains(stderr, "refused") {
		t.Errorf("nobody listens: %d %s", code, stderr)
	}
	if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, stderr, code := b.run(t.Context(), "", "status"); code != exitMissing || !strings.Contains(stderr, "damaged") {
		t.Errorf("damaged: %d %s", code, stderr)
	}
}

func TestFmtRewritesAFileInPlaceAndRoundTrips(t *testing.T) {
	b := newBench(t)
	b.token = ""
	const text = "plan x   deadline 60s\n\nr1 = restart   shop/cart rolling\nverify shop/cart for 30s\n"
	if err := os.WriteFile("a.plan", []byte(text), 0o640); err != nil {
		t.Fatal(err)
	}
	if _, stderr, code := b.run(t.Context(), "", "plan", "fmt", "-w", "a.plan"); code != 0 {
		t.Fatal(stderr)
	}
	canonical, err := os.ReadFile("a.plan")
	if err != nil {
		t.Fatal(err)
	}
	stat, _ := os.Stat("a.plan")
	if string(canonical) == text || stat.Mode().Perm() != 0o640 {
		t.Errorf("%s %v", canonical, stat.Mode())
	}
	for _, format := range []string{"json", "yaml", "pb"} {
		other, stderr, code := b.run(t.Context(), "", "plan", "fmt", "--to", format, "a.plan")
		if code != 0 {
			t.Fatalf("%s: %s", format, stderr)
		}
		if err := os.WriteFile("b."+format, []byte(other), 0o600); err != nil {
			t.Fatal(err)
		}
		back, stderr, code := b.run(t.Context(), "", "plan", "fmt", "--to", "text", "b."+format)
		if code != 0 || back != string(canonical) {
			t.Errorf("%s: %d %s\n%s", format, code, stderr, back)
		}
	}
}
