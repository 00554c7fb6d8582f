package server

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	collectorv1 "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/mesh/envoy"
	"github.com/sluicemesh/sluice/xds"
)

// spanStore takes spans in.
type spanStore struct {
	collectorv1.UnimplementedTraceServiceServer
	mu    sync.Mutex
	spans []*tracev1.ResourceSpans
}

// Export implements collectorv1.TraceServiceServer.
func (s *spanStore) Export(
	_ context.Context, r *collectorv1.ExportTraceServiceRequest,
) (*collectorv1.ExportTraceServiceResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.spans = append(s.spans, r.GetResourceSpans()...)
	return &collectorv1.ExportTraceServiceResponse{}, nil
}

// count counts the spans of calls of a path that are as topology/otlp wants them.
func (s *spanStore) count(path string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, rs := range s.spans {
		sender := strings.Contains(fmt.Sprint(rs.GetResource().GetAttributes()), "outside/web")
		for _, ss := range rs.GetScopeSpans() {
			for _, span := range ss.GetSpans() {
				attributes := fmt.Sprint(span.GetAttributes())
				if sender && span.GetKind() == tracev1.Span_SPAN_KIND_CLIENT &&
					strings.Contains(attributes, "shop/cart") && strings.Contains(attributes, path) {
					n++
				}
			}
		}
	}
	return n
}

// TestBoost turns the sampling of a real Envoy up and down again: none of the requests
// before and after begins a trace, all in between do.
func TestBoost(t *testing.T) {
	binary, err := envoy.Find(t.Context(), "", io.Discard)
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	r := &rig{t: t, root: t, dir: shortDir(t), apps: map[mesh.UID]*app{}, api: deltaAPI, world: soleIngress(t)}
	for _, state := range r.world.Services {
		for _, instance := range state.Instances {
			r.apps[instance.UID] = newApp(t, instance.App, instance.Name, state.Protocol)
		}
	}
	store := &spanStore{}
	if r.server, err = New(Config{Socket: filepath.Join(r.dir, "x.sock"), World: r.world, TTL: rigTTL}); err != nil {
		t.Fatal(err)
	}
	collectorv1.RegisterTraceServiceServer(r.server.GRPC(), store)
	r.server.Trace(xds.Tracing{Cluster: envoy.Cluster})
	ctx, cancel := context.WithCancel(context.Background())
	stopped := make(chan error, 1)
	go func() { stopped <- r.server.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-stopped
	})
	r.start(binary, &r.world.Proxies[0])
	eventually(t, 20*time.Second, "the proxy has taken everything", r.settled)

	const calls = 30
	r.call("/before", calls)
	r.boost("outside/web")
	r.call("/boosted", calls)
	eventually(t, 20*time.Second, "all calls are seen", func() bool { return store.count("/boosted") == calls })
	// Longer than the TTL of the layer: it is renewed.
	pause(t, rigTTL+time.Second)
	r.call("/renewed", calls)
	r.boost()
	r.call("/after", calls)
	r.boost("outside/web")
	r.call("/again", calls)
	eventually(t, 20*time.Second, "all calls are seen again", func() bool { return store.count("/again") == calls })
	for path, want := range map[string]int{"/before": 0, "/renewed": calls, "/after": 0} {
		if got := store.count(path); got != want {
			t.Errorf("%s: %d spans, want %d", path, got, want)
		}
	}
}

// boost boosts and waits until the proxy knows.
func (r *rig) boost(services ...mesh.Service) {
	r.t.Helper()
	r.server.Boost(services)
	eventually(r.t, 10*time.Second, "the proxy has taken the boost", r.settled)
}

// call sends requests to shop/cart through the ingress.
func (r *rig) call(path string, n int) {
	r.t.Helper()
	for range n {
		response, err := http.Get("http://" + r.front("shop/cart") + path) //nolint:noctx // a test's own server
		if err != nil {
			r.t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, response.Body)
		_ = response.Body.Close()
	}
}

// soleIngress is the rig's world without sidecars.
func soleIngress(t *testing.T) *mesh.World {
	w := rigWorld(t)
	for i := range w.Services {
		for j := range w.Services[i].Instances {
			instance := &w.Services[i].Instances[j]
			instance.Inbound, instance.Proxy = instance.App, ""
		}
	}
	for _, p := range w.Proxies {
		if p.Node == "ingress" {
			w.Proxies = []mesh.Proxy{p}
		}
	}
	return w
}
