package main

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

func TestParse(t *testing.T) {
	for _, c := range []struct {
		args []string
		want options
	}{
		{[]string{"status"}, options{namespace: "sluice-system", account: "sluice-admin", rest: []string{"status"}}},
		{[]string{"--context", "prod", "--kubeconfig=/k", "--account=ann", "restart", "shop/cart", "--watch"},
			options{kubectl: []string{"--context=prod", "--kubeconfig=/k"}, namespace: "sluice-system", account: "ann",
				rest: []string{"restart", "shop/cart", "--watch"}}},
		{[]string{"--sluice-namespace", "s", "--help"},
			options{namespace: "s", account: "sluice-admin", rest: []string{"--help"}}},
	} {
		got, err := parse(c.args)
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%v: got %+v, %v, want %+v", c.args, got, err, c.want)
		}
	}
	for _, args := range [][]string{{"--context"}, {"--watch", "status"}} {
		if _, err := parse(args); err == nil {
			t.Errorf("%v: no error", args)
		}
	}
}

// kubectl puts a program called kubectl first in PATH that answers as the real one does, and
// notes what it was asked.
func kubectl(t *testing.T, leaders string) (log string) {
	t.Helper()
	dir := t.TempDir()
	log = filepath.Join(dir, "log")
	script := fmt.Sprintf(`#!/bin/sh
echo "$@" >> %s
case "$*" in
*"get pods"*) echo "%s" ;;
*"create token"*) echo secret-token-of-the-account ;;
*port-forward*) echo "Forwarding from 127.0.0.1:4567 -> 8090"; exec sleep 60 ;;
esac
`, log, leaders)
	sluice := fmt.Sprintf("#!/bin/sh\necho sluice \"$@\" >> %s\nfor file; do :; done\ncat \"$file\" >> %s\nexit 4\n", log, log)
	for name, text := range map[string]string{"kubectl": script, "sluice": sluice} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return log
}

func TestRunsSluiceWithAddressAndToken(t *testing.T) {
	log := kubectl(t, "sluice-operator-1")
	code, err := run(t.Context(), options{
		kubectl: []string{"--context=prod"}, namespace: "s", account: "ann", rest: []string{"restart", "shop/cart"},
	})
	if err != nil || code != 4 {
		t.Fatalf("got %d, %v, want the exit code of sluice", code, err)
	}
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	var token string
	want := "--context=prod --namespace s get pods -l sluicemesh.io/leader=true -o jsonpath={.items[*].metadata.name}\n" +
		"--context=prod --namespace s create token ann --duration=1h\n" +
		"--context=prod --namespace s port-forward pod/sluice-operator-1 :8090\n" +
		"sluice restart shop/cart --server 127.0.0.1:4567 --token-file "
	if got := string(text); len(got) < len(want) || got[:len(want)] != want {
		t.Fatalf("got\n%s\nwant\n%s", got, want)
	}
	if _, err := fmt.Sscan(string(text)[len(want):], &token, new(string)); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(token); err == nil {
		t.Error("the token is still there")
	}
}

func TestWithoutALeader(t *testing.T) {
	for _, leaders := range []string{"", "a b"} {
		kubectl(t, leaders)
		if code, err := run(t.Context(), options{namespace: "s", rest: []string{"status"}}); code != exitMissing || err == nil {
			t.Errorf("%q: got %d, %v", leaders, code, err)
		}
	}
}
