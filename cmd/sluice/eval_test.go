package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// evaluate runs the command line and returns its exit code and output.
func evaluate(t *testing.T, args ...string) (int, string, string) {
	t.Helper()
	var out, err bytes.Buffer
	a := &app{
		in: strings.NewReader(""), out: &out, err: &err, getenv: func(string) string { return "" },
		now: time.Now, started: time.Now(), random: func() string { return "x" },
	}
	code := a.run(context.Background(), append([]string{"eval", "simulate"}, args...))
	return code, out.String(), err.String()
}

func TestEvalRefusesWhatItCannotRun(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty.json")
	if err := os.WriteFile(empty, []byte(`{"schema": "sluice.topology/1", "services": [], "edges": []}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"--graphs", "none"}, exitUsage, "no graph"},
		{[]string{"--graphs", "nobody"}, exitUsage, "nobody"},
		{[]string{"--evidence", "some"}, exitUsage, "want all or headline"},
		{[]string{"--changes", "some"}, exitUsage, "want all or none"},
		{[]string{"--graphs", "alibaba-1", "--sample", "-1"}, exitUsage, "sample"},
		{[]string{"--graphs", "alibaba-1", "--recorded", "1s"}, exitUsage, "10m"},
		{[]string{"--graphs", "none", "--topology", empty}, exitUsage, "no edge"},
		{[]string{"more"}, exitUsage, "unknown"},
	} {
		if code, _, said := evaluate(t, test.args...); code != test.code || !strings.Contains(said, test.says) {
			t.Errorf("%v: exit %d, %q; want %d and %q", test.args, code, said, test.code, test.says)
		}
	}
}

func TestEvalOfATopologyFile(t *testing.T) {
	folder := t.TempDir()
	file := filepath.Join(folder, "mesh.json")
	text := `{"schema": "sluice.topology/1", "services": [{"name": "shop/web"}, {"name": "shop/cart"}, {"name": "Store_1"}],
		"edges": [{"caller": "shop/web", "callee": "shop/cart"}, {"caller": "shop/cart", "callee": "Store_1"}]}`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	code, out, said := evaluate(t, "--graphs", "none", "--topology", file, "--evidence", "headline", "--changes", "none",
		"--per-service", "3", "--recorded", "1h", "--out", folder)
	if code != exitDone || !strings.Contains(out, "mesh.json") || !strings.Contains(said, "eval.json") {
		t.Errorf("exit %d\n%s\n%s", code, out, said)
	}
	if _, err := os.Stat(filepath.Join(folder, "eval.html")); err != nil {
		t.Error(err)
	}
}
