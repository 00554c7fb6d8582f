package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluicemesh/sluice/internal/testca"
	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/mesh/identity"
)

// One sluiced leads another: what serves only is ready once the leader has spoken, lets its
// proxies in, shows its metrics to who holds a token, and has no API.
func TestAReplicaServesByOrder(t *testing.T) {
	dir, err := os.MkdirTemp("", "two")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	ca := testca.New(t, "mesh.test")
	testca.Write(t, dir, ca.Issue(identity.ControlPlane, time.Now().Add(time.Hour)), ca)
	registry := worldServer(t, filepath.Join(dir, "s.sock"))
	follow, api := address(t), address(t)
	daemon := func(name string, more ...string) {
		state := filepath.Join(dir, name)
		args := append([]string{
			"--state", state, "--supervisor", registry, "--xds", filepath.Join(dir, name+".sock"), "--trust-domain", "mesh.test",
			"--xds-cert", filepath.Join(dir, "cert.pem"), "--xds-key", filepath.Join(dir, "key.pem"), "--xds-ca", filepath.Join(dir, "ca.pem"),
		}, more...)
		background(t, args)
	}
	daemon("b", "--follow", follow, "--api", api)
	if code := status(t, "http://"+api+"/readyz", ""); code != http.StatusServiceUnavailable {
		t.Errorf("before a leader has spoken /readyz says %d", code)
	}
	daemon("a", "--replica", "b="+follow)
	eventually(t, "the replica is ready", func() bool { return status(t, "http://"+api+"/readyz", "") == http.StatusOK })
	eventually(t, "its proxies may come", func() bool {
		conn, err := net.Dial("unix", filepath.Join(dir, "b.sock"))
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
	token, err := os.ReadFile(filepath.Join(dir, "b", "tokens", "viewer"))
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]int{"/metrics": http.StatusOK, "/": http.StatusNotFound, "/v1/status": http.StatusNotFound} {
		if code := status(t, "http://"+api+path, strings.TrimSpace(string(token))); code != want {
			t.Errorf("%s says %d, want %d", path, code, want)
		}
	}
	if code := status(t, "http://"+api+"/metrics", ""); code != http.StatusUnauthorized {
		t.Errorf("/metrics without a token says %d", code)
	}
}

// background runs a sluiced until the test ends.
func background(t *testing.T, args []string) {
	t.Helper()
	opts, err := parse(args, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, opts, slog.New(slog.DiscardHandler)) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	if opts.replicas.follow != "" {
		eventually(t, "it listens", func() bool {
			conn, err := net.Dial("tcp", opts.api)
			if err == nil {
				_ = conn.Close()
			}
			return err == nil
		})
	}
}

// worldServer answers as the supervisor does that has one service.
func worldServer(t *testing.T, socket string) string {
	t.Helper()
	world := mesh.World{Version: 1, Services: []mesh.ServiceState{{Name: "shop/cart", Protocol: mesh.HTTP}}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/world", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("after") != "" { // nothing changes
			select {
			case <-r.Context().Done():
			case <-t.Context().Done():
			}
			w.WriteHeader(http.StatusNoContent)
			return
		}
		_ = json.NewEncoder(w).Encode(&world)
	})
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: mux, ReadHeaderTimeout: time.Second}
	go func() { _ = s.Serve(listener) }()
	t.Cleanup(func() { _ = s.Close() })
	return socket
}

// address is a port of the loopback that is free now.
func address(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

func status(t *testing.T, url, token string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.StatusCode
}

func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !condition(); {
		if time.Now().After(deadline) {
			t.Fatalf("not within 20 s: %s", what)
		}
		select {
		case <-t.Context().Done():
		case <-time.After(10 * time.Millisecond):
		}
	}
}
