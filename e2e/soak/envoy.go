package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/sluicemesh/sluice/e2e/rig"
	"github.com/sluicemesh/sluice/mesh/envoy"
)

// tracedConfig is an Envoy that forwards to the cluster of back and traces every request
// with its own OpenTelemetry exporter: listener, name of the service, back, OTLP.
const tracedConfig = `node: {id: soak-traced, cluster: soak/front}
static_resources:
  listeners:
  - address: {socket_address: {address: 127.0.0.1, port_value: %[1]s}}
    filter_chains:
    - filters:
      - name: http
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: in
          tracing:
            random_sampling: {value: 100}
            spawn_upstream_span: true
            provider:
              name: envoy.tracers.opentelemetry
              typed_config:
                "@type": type.googleapis.com/envoy.config.trace.v3.OpenTelemetryConfig
                grpc_service: {envoy_grpc: {cluster_name: otlp}, timeout: 2s}
                service_name: %[2]s
          route_config:
            virtual_hosts:
            - {name: all, domains: ["*"], routes: [{match: {prefix: /}, route: {cluster: %[3]s}}]}
          http_filters:
          - name: router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
  clusters:
  - name: %[3]s
    load_assignment:
      cluster_name: %[3]s
      endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: %[4]s}}}}]}]
  - name: otlp
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {http2_protocol_options: {}}
    load_assignment:
      cluster_name: otlp
      endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: %[5]s}}}}]}]
`

// traced is a real Envoy that exports spans, and the load on it.
type traced struct {
	command *exec.Cmd
	url     string
}

// startTraced starts the Envoy at port, before the application at port back; its spans go
// to the port spans.
func startTraced(ctx context.Context, dir, port, back, spans string) (*traced, error) {
	binary, err := envoy.Find(ctx, "", os.Stderr)
	if err != nil {
		if missing := (*envoy.MissingError)(nil); errors.As(err, &missing) {
			return nil, &rig.Error{Code: rig.ExitMissing, Err: err}
		}
		return nil, fmt.Errorf("envoy: %w", err)
	}
	file := filepath.Join(dir, "traced.yaml")
	text := fmt.Sprintf(tracedConfig, port, frontService, backService, back, spans)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, fmt.Errorf("envoy: %w", err)
	}
	log, err := os.Create(filepath.Join(dir, "traced.log"))
	if err != nil {
		return nil, fmt.Errorf("envoy: %w", err)
	}
	defer log.Close()
	t := &traced{url: "http://127.0.0.1:" + port + "/"}
	t.command = exec.Command(binary.Path, "-c", file, "--use-dynamic-base-id", "--concurrency", "1", "-l", "warning") //nolint:noctx // ended by stop
	t.command.Stdout, t.command.Stderr = log, log
	t.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := t.command.Start(); err != nil {
		return nil, fmt.Errorf("envoy: %w", err)
	}
	return t, nil
}

// stop ends the Envoy.
func (t *traced) stop() error {
	_ = t.command.Process.Signal(syscall.SIGTERM)
	kill := time.AfterFunc(5*time.Second, func() { _ = t.command.Process.Kill() })
	defer kill.Stop()
	var exit *exec.ExitError
	if err := t.command.Wait(); err != nil && !errors.As(err, &exit) {
		return fmt.Errorf("envoy: %w", err)
	}
	return nil
}

// load sends requests at url, one after the other on each connection, at most rate a
// second in all, until ctx ends. It returns how many were answered well.
func loadAt(ctx context.Context, url string, connections int, rate float64) int {
	var running sync.WaitGroup
	good := make([]int, connections)
	for i := range connections {
		running.Go(func() {
			client := &http.Client{Timeout: exportBound, Transport: &http.Transport{MaxIdleConnsPerHost: 1}}
			defer client.CloseIdleConnections()
			tick := time.NewTicker(time.Duration(float64(connections) / rate * float64(time.Second)))
			defer tick.Stop()
			for ctx.Err() == nil {
				if get(ctx, client, url) {
					good[i]++
				}
				select {
				case <-ctx.Done():
				case <-tick.C:
				}
			}
		})
	}
	running.Wait()
	sum := 0
	for _, n := range good {
		sum += n
	}
	return sum
}

// get reports whether one request was answered well.
func get(ctx context.Context, client *http.Client, url string) bool {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return false
	}
	response, err := client.Do(request)
	if err != nil {
		return false
	}
	defer response.Body.Close()
	_, err = io.Copy(io.Discard, response.Body)
	return err == nil && response.StatusCode == http.StatusOK
}
