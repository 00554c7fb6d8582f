package main

import (
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluicemesh/sluice/internal/testca"
	"github.com/sluicemesh/sluice/mesh/identity"
)

func TestRemoteFlags(t *testing.T) {
	base := []string{"--state", "s", "--supervisor", "u", "--xds", "x"}
	files := []string{"--xds-cert", "c", "--xds-key", "k", "--xds-ca", "a"}
	for _, test := range []struct {
		args []string
		want string // in what is said; "" = accepted
	}{
		{nil, ""},
		{append([]string{"--xds-listen", ":15010", "--trust-domain", "mesh.test"}, files...), ""},
		{[]string{"--xds-listen", ":15010", "--trust-domain", "mesh.test", "--workload-api", "unix:///a.sock"}, ""},
		{[]string{"--xds-listen", ":15010", "--trust-domain", "mesh.test"}, "--xds-cert"},
		{append([]string{"--xds-listen", ":15010"}, files...), "--trust-domain"},
		{append([]string{"--xds-listen", ":15010", "--trust-domain", "Not A Domain"}, files...), "--trust-domain"},
		{append([]string{"--xds-listen", ":15010", "--trust-domain", "m", "--workload-api", "unix:///a"}, files...), "instead of"},
		{files, "--xds-listen"},
		{append([]string{"--follow", ":15011", "--trust-domain", "mesh.test"}, files...), ""},
		{append([]string{"--replica", "b=10.0.0.2:15011", "--replica", "c=10.0.0.3:15011", "--trust-domain", "m"}, files...), ""},
		{[]string{"--follow", ":15011"}, "--xds-cert"},
		{append([]string{"--follow", ":1", "--replica", "b=h:1", "--trust-domain", "m"}, files...), "leads no other"},
		{append([]string{"--replica", "b", "--trust-domain", "m"}, files...), "NAME=HOST:PORT"},
		{append([]string{"--replica", "b=h:1", "--replica", "b=h:2", "--trust-domain", "m"}, files...), "twice"},
	} {
		var stderr strings.Builder
		_, err := parse(append(append([]string{}, base...), test.args...), &stderr)
		if (err == nil) != (test.want == "") || !strings.Contains(stderr.String(), test.want) {
			t.Errorf("%v: %v, said %q, want %q", test.args, err, stderr.String(), test.want)
		}
	}
}

func TestRemoteOpens(t *testing.T) {
	dir, ca := t.TempDir(), testca.New(t, "mesh.test")
	o := remoteOptions{listen: "127.0.0.1:0", domain: "mesh.test", paths: identity.Paths{
		Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem"), CA: filepath.Join(dir, "ca.pem"),
	}}
	if _, err := o.open(t.Context(), slog.New(slog.DiscardHandler)); !errors.As(err, new(*missingError)) {
		t.Errorf("no files: %v, want that something is missing", err)
	}
	testca.Write(t, dir, ca.Issue(identity.ControlPlane, time.Now().Add(time.Hour)), ca)
	own, err := o.open(t.Context(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if remote := o.remote(own); remote == nil || remote.TLS == nil || remote.Allow == nil {
		t.Errorf("got %+v", remote)
	}
	own.done()
}
