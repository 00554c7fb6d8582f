package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// serveCommand makes this program a service of the mesh: soak serve PORT [UPSTREAM].
const serveCommand = "serve"

// The services of the mesh: each calls the next.
const (
	frontService = "soak/front"
	backService  = "soak/back"
	storeService = "soak/store"
)

// serveApp answers every request with two letters, after a request to its upstream if it
// has one. It returns the exit code.
func serveApp(args []string) int {
	if len(args) < 1 || len(args) > 2 {
		fmt.Fprintln(os.Stderr, "usage: soak serve PORT [UPSTREAM]")
		return 2
	}
	handler := func(w http.ResponseWriter, r *http.Request) {
		if len(args) == 2 && r.URL.Path != "/ready" {
			request, err := http.NewRequestWithContext(r.Context(), http.MethodGet, "http://"+args[1]+"/", http.NoBody)
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			response, err := http.DefaultClient.Do(request)
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadGateway)
				return
			}
			_, _ = io.Copy(io.Discard, response.Body)
			response.Body.Close()
			w.WriteHeader(response.StatusCode)
		}
		_, _ = io.WriteString(w, "ok")
	}
	server := &http.Server{
		Addr: net.JoinHostPort("127.0.0.1", args[0]), Handler: http.HandlerFunc(handler), ReadHeaderTimeout: 10 * time.Second,
	}
	fmt.Fprintln(os.Stderr, server.ListenAndServe())
	return 1
}

// writeMesh writes the mesh file, which runs this program, and the programs of the mesh
// into dir/bin, sluiced such that it also takes spans over HTTP at address.
func writeMesh(dir, programs, address string) (file, bin string, err error) {
	self, err := os.Executable()
	if err != nil {
		return "", "", fmt.Errorf("own program: %w", err)
	}
	bin = filepath.Join(dir, "bin")
	if err := os.Mkdir(bin, 0o700); err != nil {
		return "", "", fmt.Errorf("programs: %w", err)
	}
	for _, name := range []string{"sluice", "sluice-agents"} {
		if err := copyProgram(filepath.Join(programs, name), filepath.Join(bin, name)); err != nil {
			return "", "", err
		}
	}
	wrapper := fmt.Sprintf("#!/bin/sh\nexec %q \"$@\" --otlp-http %s\n", filepath.Join(programs, "sluiced"), address)
	if err := os.WriteFile(filepath.Join(bin, "sluiced"), []byte(wrapper), 0o700); err != nil { //nolint:gosec // it is run
		return "", "", fmt.Errorf("programs: %w", err)
	}
	text := fmt.Sprintf(`services:
- {name: %[2]s, command: [%[1]q, serve, "{port}", "{upstream:%[3]s}"], ready: {http: /ready}, upstreams: [%[3]s]}
- {name: %[3]s, command: [%[1]q, serve, "{port}", "{upstream:%[4]s}"], ready: {http: /ready}, upstreams: [%[4]s]}
- {name: %[4]s, command: [%[1]q, serve, "{port}"], ready: {http: /ready}}
ingress: {service: %[2]s}
`, self, frontService, backService, storeService)
	file = filepath.Join(dir, "mesh.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return "", "", fmt.Errorf("mesh file: %w", err)
	}
	return file, bin, nil
}

// copyProgram copies a program: it looks for others beside itself.
func copyProgram(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return fmt.Errorf("programs: %w", err)
	}
	if err := os.WriteFile(to, data, 0o700); err != nil { //nolint:gosec // it is run
		return fmt.Errorf("programs: %w", err)
	}
	return nil
}
