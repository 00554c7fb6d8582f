package prom_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/topology"
	"github.com/sluicemesh/sluice/topology/prom"
)

// vector is an answer of Prometheus with these rows.
func vector(rows ...string) string {
	return `{"status":"success","data":{"resultType":"vector","result":[` + strings.Join(rows, ",") + `]}}`
}

// graphRow is a row of the service graph.
func graphRow(from, to, kind, value string) string {
	return fmt.Sprintf(`{"metric":{"client":%q,"server":%q,"connection_type":%q},"value":[1700000000,%q]}`, from, to, kind, value)
}

// answers is a server whose answers depend on the query.
type answers func(w http.ResponseWriter, query string)

func (a answers) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	a(w, r.FormValue("query"))
}

// say answers calls with rows and all else with nothing.
func say(rows ...string) answers {
	return func(w http.ResponseWriter, query string) {
		if strings.Contains(query, "request_total") && !strings.Contains(query, " unless ") && strings.Contains(query, "offset") {
			_, _ = io.WriteString(w, vector(rows...))
			return
		}
		_, _ = io.WriteString(w, vector())
	}
}

// source is a source of a server, with a clock that goes on by the interval a poll.
func source(t *testing.T, handler http.Handler, change func(*prom.Config)) (*prom.Source, *[]topology.Call) {
	t.Helper()
	web := httptest.NewServer(handler)
	t.Cleanup(web.Close)
	clock := time.Unix(1_700_000_000, 0)
	calls := &[]topology.Call{}
	config := prom.Config{
		URL: web.URL, Dialects: []prom.Dialect{prom.ServiceGraphAll}, Interval: 10 * time.Second,
		Sink:  func(batch []topology.Call) { *calls = append(*calls, batch...) },
		Known: func(s mesh.Service) bool { return strings.HasPrefix(string(s), "shop/") },
		Now:   func() time.Time { clock = clock.Add(5 * time.Second); return clock },
	}
	if change != nil {
		change(&config)
	}
	s, err := prom.New(config)
	if err != nil {
		t.Fatal(err)
	}
	return s, calls
}

func TestCallsAreSpreadOverThePoll(t *testing.T) {
	s, calls := source(t, say(graphRow("shop/web", "shop/cart", "", "12")), nil)
	for range 2 {
		if err := s.Poll(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	seconds := map[int64]uint64{}
	total := uint64(0)
	for _, c := range *calls {
		seconds[c.At.Unix()] += c.Weight
		total += c.Weight
	}
	if total != 12 || len(seconds) != 5 {
		t.Errorf("%d calls in %d seconds, want 12 in 5: %v", total, len(seconds), seconds)
	}
}

func TestHostileRows(t *testing.T) {
	for _, test := range []struct {
		name, row string
		calls     int
		existence bool
	}{
		{"a call", graphRow("shop/web", "shop/cart", "", "1"), 1, false},
		{"a message", graphRow("shop/web", "shop/cart", "messaging_system", "7"), 1, true},
		{"unregistered", graphRow("shop/web", "evil/cart", "", "1"), 0, false},
		{"no name", graphRow("shop/web", "restart all", "", "1"), 0, false},
		{"NaN", graphRow("shop/web", "shop/cart", "", "NaN"), 0, false},
		{"infinite", graphRow("shop/web", "shop/cart", "", "+Inf"), 0, false},
		{"negative", graphRow("shop/web", "shop/cart", "", "-5"), 0, false},
		{"absurd", graphRow("shop/web", "shop/cart", "", "1e300"), 0, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, calls := source(t, say(test.row), nil)
			for range 2 {
				if err := s.Poll(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if len(*calls) != test.calls {
				t.Fatalf("%d calls, want %d: %+v", len(*calls), test.calls, *calls)
			}
			if test.calls > 0 && (*calls)[0].Existence != test.existence {
				t.Errorf("existence is %v", !test.existence)
			}
		})
	}
}

// TestFailedPollLosesNothing has a server that fails in different ways: each poll is an
// error and sinks nothing, and the next good one asks for the whole time since the last.
func TestFailedPollLosesNothing(t *testing.T) {
	good := say(graphRow("shop/web", "shop/cart", "", "6"))
	for name, bad := range map[string]answers{
		"500":      func(w http.ResponseWriter, _ string) { w.WriteHeader(http.StatusInternalServerError) },
		"not JSON": func(w http.ResponseWriter, _ string) { _, _ = io.WriteString(w, "<html>") },
		"scalar": func(w http.ResponseWriter, _ string) {
			_, _ = io.WriteString(w, strings.Replace(vector(), `"vector","result":[`, `"scalar","result":[1,"1"`, 1))
		},
		"too large": func(w http.ResponseWriter, _ string) { _, _ = w.Write(bytes.Repeat([]byte(" "), prom.MaxResponse+1)) },
		"half": func(w http.ResponseWriter, query string) {
			if strings.Contains(query, "failed_total") {
				w.WriteHeader(http.StatusBadGateway)
				return
			}
			good(w, query)
		},
	} {
		t.Run(name, func(t *testing.T) {
			var broken atomic.Bool
			var windows atomic.Value
			registry := prometheus.NewRegistry()
			s, calls := source(t, answers(func(w http.ResponseWriter, query string) {
				if broken.Load() {
					bad(w, query)
					return
				}
				if strings.HasPrefix(query, "topk(32768, sum by (client,client_service_namespace,connection_type,server") {
					windows.Store(query)
				}
				good(w, query)
			}), func(c *prom.Config) { c.Registerer = registry })
			poll := func(wantErr bool) {
				t.Helper()
				if err := s.Poll(t.Context()); (err != nil) != wantErr {
					t.Fatalf("poll: %v", err)
				}
			}
			poll(false)
			broken.Store(true)
			poll(true)
			poll(true)
			if len(*calls) != 0 {
				t.Fatalf("%d calls of failed polls", len(*calls))
			}
			broken.Store(false)
			poll(false)
			if len(*calls) == 0 || (*calls)[0].At.Before(time.Unix(1_700_000_004, 0)) {
				t.Errorf("calls: %+v", *calls)
			}
			if query, _ := windows.Load().(string); !strings.Contains(query, "offset 15000ms") {
				t.Errorf("the query after two failures is not about 15 s: %s", query)
			}
			if got := count(t, registry, "sluice_prometheus_polls_total", "failed"); got != 2 {
				t.Errorf("%v failed polls counted, want 2", got)
			}
		})
	}
}

// TestSlowServer counts the polls of a server that hangs.
func TestSlowServer(t *testing.T) {
	var asked atomic.Int32
	release := make(chan struct{})
	defer close(release)
	s, _ := source(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		select {
		case <-r.Context().Done():
		case <-release:
		}
	}), func(c *prom.Config) { c.Timeout, c.Interval, c.Now = 20*time.Millisecond, 10*time.Millisecond, nil })
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := s.Run(ctx); err == nil {
		t.Error("no error at the end")
	}
	// 20, 40, 80, ... ms: about six polls fit into a second, where 33 would without back-off.
	if n := asked.Load(); n < 2 || n > 10 {
		t.Errorf("asked %d times in a second", n)
	}
	if !s.Stale() {
		t.Error("not stale, though nothing was ever answered")
	}
}

func TestTokenIsForTheServerOnly(t *testing.T) {
	dir := t.TempDir()
	token := filepath.Join(dir, "token")
	if err := os.WriteFile(token, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var got, leaked atomic.Value
	got.Store("")
	leaked.Store("")
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		leaked.Store(r.Header.Get("Authorization"))
		_, _ = io.WriteString(w, vector())
	}))
	defer elsewhere.Close()
	s, _ := source(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got.Store(r.Header.Get("Authorization"))
		http.Redirect(w, r, elsewhere.URL+r.URL.Path, http.StatusTemporaryRedirect)
	}), func(c *prom.Config) { c.TokenFile = token })
	_ = s.Poll(t.Context())
	if got.Load() != "Bearer secret" || leaked.Load() != "" {
		t.Errorf("the server got %q, another one %q", got.Load(), leaked.Load())
	}
}

func TestBadSettings(t *testing.T) {
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*prom.Config){
		"no URL":           func(c *prom.Config) { c.URL = "" },
		"other scheme":     func(c *prom.Config) { c.URL = "ftp://127.0.0.1" },
		"user in URL":      func(c *prom.Config) { c.URL = "http://a:b@127.0.0.1:9090" },
		"token in clear":   func(c *prom.Config) { c.URL, c.TokenFile = "http://192.0.2.1:9090", empty },
		"empty token":      func(c *prom.Config) { c.TokenFile = empty },
		"no token file":    func(c *prom.Config) { c.TokenFile = filepath.Join(dir, "none") },
		"no certificates":  func(c *prom.Config) { c.CAFile = empty },
		"no dialect":       func(c *prom.Config) { c.Dialects = nil },
		"no sink":          func(c *prom.Config) { c.Sink = nil },
		"no known service": func(c *prom.Config) { c.Known = nil },
	} {
		config := prom.Config{
			URL: "http://127.0.0.1:9090", Dialects: prom.Dialects(),
			Sink: func([]topology.Call) {}, Known: func(mesh.Service) bool { return true },
		}
		change(&config)
		if _, err := prom.New(config); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := prom.ParseDialects("istio,consul"); err == nil || !strings.Contains(err.Error(), "linkerd-route") {
		t.Errorf("error %v, want one that lists what there is", err)
	}
}

// count returns a counter by its only label.
func count(t *testing.T, registry *prometheus.Registry, name, label string) float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			if family.GetName() == name && metric.GetLabel()[0].GetValue() == label {
				return metric.GetCounter().GetValue()
			}
		}
	}
	return 0
}
