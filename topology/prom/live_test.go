package prom_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/topology"
	"github.com/sluicemesh/sluice/topology/prom"
)

// exporter serves counters in the text format, as the proxies of three meshes and a
// collector would. A reset sets them to nothing, as a restart does.
type exporter struct {
	mu     sync.Mutex
	values map[string]float64
}

func (x *exporter) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for series, value := range x.values {
		fmt.Fprintln(w, series, value)
	}
}

func (x *exporter) add(series string, n int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.values[series] += float64(n)
}

func (x *exporter) reset() {
	x.mu.Lock()
	defer x.mu.Unlock()
	for series := range x.values {
		if !strings.HasPrefix(series, "scrapes") {
			x.values[series] = 0
		}
	}
}

// dialect says how a mesh counts n calls from one service to another, of which some
// failed, all of a latency in milliseconds.
type dialect func(x *exporter, from, to string, ok, failed, latency int)

func istio(x *exporter, from, to string, ok, failed, latency int) {
	for _, reporter := range []string{"source", "destination"} {
		for code, n := range map[string]int{"200": ok, "503": failed} {
			labels := fmt.Sprintf(`reporter="%s",source_workload="%s-v1",source_canonical_service="%s",`+
				`source_workload_namespace="shop",destination_workload="%s-v1",destination_workload_namespace="shop",`+
				`destination_service_name="%s",destination_service_namespace="shop",response_code="%s"`,
				reporter, from, from, to, to, code)
			x.add("istio_requests_total{"+labels+"}", n)
			histogram(x, "istio_request_duration_milliseconds_bucket", labels, n, float64(latency), 1)
		}
	}
}

func linkerd(x *exporter, from, to string, ok, failed, latency int) {
	for class, n := range map[string]int{"success": ok, "failure": failed} {
		labels := fmt.Sprintf(`direction="outbound",namespace="shop",deployment="%s",dst_namespace="shop",dst_service="%s",`+
			`dst_deployment="%s-v1",classification="%s"`, from, to, to, class)
		x.add("response_total{"+labels+"}", n)
		histogram(x, "response_latency_ms_bucket", labels, n, float64(latency), 1)
	}
}

func linkerdRoute(x *exporter, from, to string, ok, failed, latency int) {
	labels := fmt.Sprintf(`namespace="shop",statefulset="%s",parent_kind="Service",parent_namespace="shop",`+
		`parent_name="%s",route_kind="default"`, from, to)
	x.add("outbound_http_route_request_statuses_total{"+labels+`,http_status="200",error=""}`, ok)
	x.add("outbound_http_route_request_statuses_total{"+labels+`,http_status="",error="FAIL_FAST"}`, failed)
	histogram(x, "outbound_http_route_request_duration_seconds_bucket", labels, ok+failed, float64(latency), 1000)
}

func serviceGraph(x *exporter, from, to string, ok, failed, latency int) {
	labels := fmt.Sprintf(`client="shop/%s",server="shop/%s",connection_type=""`, from, to)
	x.add("traces_service_graph_request_total{"+labels+"}", ok+failed)
	x.add("traces_service_graph_request_failed_total{"+labels+"}", failed)
	histogram(x, "traces_service_graph_request_server_seconds_bucket", labels, ok+failed, float64(latency), 1000)
}

// histogram counts n calls of a latency in cumulative buckets.
func histogram(x *exporter, name, labels string, n int, latency, divide float64) {
	for _, bound := range []float64{1, 10, 100, 1000} {
		within := 0
		if latency <= bound {
			within = n
		}
		x.add(fmt.Sprintf(`%s{%s,le="%g"}`, name, labels, bound/divide), within)
	}
	x.add(fmt.Sprintf(`%s{%s,le="+Inf"}`, name, labels), n)
}

// bomb adds series that no registered service could have.
func bomb(x *exporter) {
	const evil = `\"} or vector(1) or istio_requests_total{a!=\"`
	x.add(`istio_requests_total{reporter="source",source_workload="`+evil+`",source_workload_namespace="shop",`+
		`destination_service_name="cart",destination_service_namespace="shop",response_code="200"}`, 1)
	for i := range 500 {
		x.add(fmt.Sprintf(`istio_requests_total{reporter="source",source_workload="w%d",source_workload_namespace="shop",`+
			`destination_service_name="cart",destination_service_namespace="shop",response_code="200"}`, i), 1)
	}
}

// truth is what was called on an edge.
type truth struct{ calls, failed uint64 }

// TestRealPrometheus lets a Prometheus scrape an exporter of each dialect whose counters
// are reset on the way: the calls found are exactly those made since the first poll.
func TestRealPrometheus(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a real Prometheus")
	}
	x := &exporter{values: map[string]float64{"scrapes_wanted": 0}}
	web := httptest.NewServer(x)
	defer web.Close()
	server := start(t, web.URL)
	for _, test := range []struct {
		name   prom.Dialect
		count  dialect
		source topology.Source
	}{
		{prom.Istio, istio, topology.MeshMetric},
		{prom.Linkerd, linkerd, topology.MeshMetric},
		{prom.LinkerdRoute, linkerdRoute, topology.MeshMetric},
		{prom.ServiceGraph, serviceGraph, topology.Span},
	} {
		t.Run(string(test.name), func(t *testing.T) {
			var calls []topology.Call
			source, err := prom.New(prom.Config{
				URL: server, Dialects: []prom.Dialect{test.name}, Lag: time.Millisecond,
				Sink:  func(batch []topology.Call) { calls = append(calls, batch...) },
				Known: func(s mesh.Service) bool { return s == "shop/web" || s == "shop/cart" || s == "shop/store" },
			})
			if err != nil {
				t.Fatal(err)
			}
			poll := func() {
				t.Helper()
				scraped(t, x, server)
				if err := source.Poll(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			// What a long life has counted is no call of today.
			test.count(x, "web", "cart", 1_000_000, 1000, 5)
			test.count(x, "cart", "store", 1_000_000, 0, 5)
			poll()
			if len(calls) != 2 || !calls[0].Existence || !calls[1].Existence {
				t.Fatalf("first poll: %d calls, want the existence of 2 edges: %+v", len(calls), calls)
			}
			want := map[string]truth{}
			call := func(from, to string, ok, failed int) {
				test.count(x, from, to, ok, failed, 50)
				key := "shop/" + from + " shop/" + to
				want[key] = truth{want[key].calls + uint64(ok+failed), want[key].failed + uint64(failed)}
			}
			if test.name == prom.Istio {
				bomb(x)
			}
			call("web", "cart", 30, 3)
			call("cart", "store", 1, 0)
			poll()
			call("web", "cart", 10, 0) // counted by Prometheus, not polled in between
			scraped(t, x, server)
			x.reset()
			call("web", "cart", 7, 1)
			poll()
			call("web", "cart", 500, 0)
			call("web", "store", 0, 0) // a new edge: what it first shows may be old
			test.count(x, "web", "store", 4, 0, 50)
			poll()
			call("web", "store", 20, 20)
			poll()
			// Of the window of the reset only what came after it can be known.
			want["shop/web shop/cart"] = truth{want["shop/web shop/cart"].calls - 10, want["shop/web shop/cart"].failed}
			compare(t, calls, want, test.source)
			if source.Stale() {
				t.Error("stale, though just scraped")
			}
		})
	}
}

// compare sums calls by edge.
func compare(t *testing.T, calls []topology.Call, want map[string]truth, source topology.Source) {
	t.Helper()
	got := map[string]truth{}
	for _, c := range calls {
		key := string(c.Caller + " " + c.Callee)
		if c.Source != source {
			t.Fatalf("source of %s is %v", key, c.Source.Names())
		}
		sum := got[key]
		if !c.Existence {
			sum.calls += c.Weight
			if c.Failed {
				sum.failed += c.Weight
			}
			if c.Latency != 55*time.Millisecond {
				t.Errorf("%s: latency %s, want the middle of 10 to 100 ms", key, c.Latency)
			}
		}
		got[key] = sum
	}
	if len(got) != len(want) {
		t.Errorf("%d edges, want %d: %v", len(got), len(want), got)
	}
	for key, sum := range want {
		if got[key] != sum {
			t.Errorf("%s: %+v, want %+v", key, got[key], sum)
		}
	}
}

// scraped waits until Prometheus has seen what the exporter shows now, twice, so that
// nothing is half seen.
func scraped(t *testing.T, x *exporter, server string) {
	t.Helper()
	x.mu.Lock()
	x.values["scrapes_wanted"]++
	want := x.values["scrapes_wanted"]
	x.mu.Unlock()
	eventually(t, func() bool {
		return strings.Contains(get(server+"/api/v1/query?query=scrapes_wanted"), `"`+strconv.Itoa(int(want))+`"`)
	})
}

func get(address string) string {
	response, err := http.Get(address) //nolint:noctx // a test's own server
	if err != nil {
		return ""
	}
	defer func() { _ = response.Body.Close() }()
	body, _ := io.ReadAll(response.Body)
	return string(body)
}

// eventually polls until done or the time is up.
func eventually(t *testing.T, done func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for !done() {
		select {
		case <-ctx.Done():
			t.Fatal("not in time")
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// start runs a Prometheus that scrapes address, and returns its URL.
func start(t *testing.T, address string) string {
	t.Helper()
	target, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	config := filepath.Join(dir, "prometheus.yml")
	text := "global: {scrape_interval: 200ms, scrape_timeout: 200ms}\nscrape_configs:\n" +
		"- {job_name: test, honor_labels: true, static_configs: [{targets: ['" + target.Host + "']}]}\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listen := listener.Addr().String()
	_ = listener.Close()
	cmd := exec.Command(find(t), "--config.file="+config, "--web.listen-address="+listen, //nolint:gosec // found above
		"--storage.tsdb.path="+filepath.Join(dir, "data"), "--log.level=error")
	cmd.Stderr = t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGKILL)
		_ = cmd.Wait()
	})
	eventually(t, func() bool { return strings.Contains(get("http://"+listen+"/-/ready"), "Ready") })
	return "http://" + listen
}

// find returns a Prometheus: $PROMETHEUS, then PATH, then where make prometheus puts it.
func find(t *testing.T) string {
	t.Helper()
	if path := os.Getenv("PROMETHEUS"); path != "" {
		return path
	}
	if path, err := exec.LookPath("prometheus"); err == nil {
		return path
	}
	cache := os.Getenv("SLUICE_CACHE")
	if home, err := os.UserHomeDir(); cache == "" && err == nil {
		cache = filepath.Join(home, ".cache", "sluice")
	}
	path := filepath.Join(cache, "prometheus", "usr", "bin", "prometheus")
	if _, err := os.Stat(path); err != nil {
		t.Skip("no Prometheus; run: make prometheus")
	}
	return path
}
