package otlp

import (
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	collectorv1 "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/topology"
)

// packed returns data in gzip.
func packed(t testing.TB, data []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	writer := gzip.NewWriter(&out)
	if _, err := writer.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// post sends body to server over HTTP.
func post(t testing.TB, url string, header map[string]string, body []byte) (*http.Response, []byte) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+Path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", protobuf)
	for key, value := range header {
		request.Header.Set(key, value)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, answer
}

func TestOverHTTP(t *testing.T) {
	gzipped := map[string]string{"Content-Encoding": "gzip"}
	good := batch("hotel/profile", client(text("peer.service", "hotel/memcached-profile")))
	bomb := packed(t, make([]byte, 2*MaxBatch))
	for _, test := range []struct {
		name     string
		header   map[string]string
		body     []byte
		code     int
		calls    int
		rejected int64
	}{
		{"plain", nil, good, 200, 1, 0},
		{"gzip", gzipped, packed(t, good), 200, 1, 0},
		{"charset is no matter", map[string]string{"Content-Type": protobuf + "; charset=utf-8"}, good, 200, 1, 0},
		{"unknown service", nil, batch("hotel/nobody", client()), 200, 0, 1},
		{"empty", nil, nil, 200, 0, 0},
		{"JSON", map[string]string{"Content-Type": "application/json"}, []byte("{}"), 415, 0, 0},
		{"zstd", map[string]string{"Content-Encoding": "zstd"}, good, 415, 0, 0},
		{"not gzip", gzipped, good, 400, 0, 0},
		{"gzip cut off", gzipped, packed(t, good)[:20], 400, 0, 0},
		{"cut off", nil, good[:len(good)-1], 400, 0, 0},
		{"too large", nil, make([]byte, MaxBatch+1), 413, 0, 0},
		{"bomb", gzipped, bomb, 413, 0, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			server, calls := newServer(t, Config{Known: known})
			web := httptest.NewServer(server)
			defer web.Close()
			response, answer := post(t, web.URL, test.header, test.body)
			if response.StatusCode != test.code || len(*calls) != test.calls {
				t.Fatalf("status %d and %d calls, want %d and %d: %q", response.StatusCode, len(*calls), test.code, test.calls, answer)
			}
			if response.Header.Get("Content-Type") != protobuf {
				t.Errorf("answered as %q", response.Header.Get("Content-Type"))
			}
			if test.code != 200 {
				fault := status.New(codes.OK, "").Proto()
				if err := proto.Unmarshal(answer, fault); err != nil || fault.GetMessage() == "" {
					t.Errorf("no google.rpc.Status with a reason: %v", err)
				}
				return
			}
			var said collectorv1.ExportTraceServiceResponse
			if err := proto.Unmarshal(answer, &said); err != nil || said.GetPartialSuccess().GetRejectedSpans() != test.rejected {
				t.Errorf("%d spans rejected, want %d; %v", said.GetPartialSuccess().GetRejectedSpans(), test.rejected, err)
			}
		})
	}
}

func TestOnlyPOST(t *testing.T) {
	server, _ := newServer(t, Config{Known: known})
	recorder := httptest.NewRecorder()
	server.ServeHTTP(recorder, httptest.NewRequestWithContext(t.Context(), http.MethodGet, Path, http.NoBody))
	if recorder.Code != http.StatusMethodNotAllowed || recorder.Header().Get("Allow") != "POST" {
		t.Errorf("GET: status %d, Allow %q", recorder.Code, recorder.Header().Get("Allow"))
	}
}

// TestOverload holds the sink and sends more exports than may wait: the rest are told to
// come again, and all that were taken are done once the sink goes on.
func TestOverload(t *testing.T) {
	const extra = 5
	release := make(chan struct{})
	registry := prometheus.NewRegistry()
	server, err := New(Config{
		Registerer: registry,
		Known:      known, Now: func() time.Time { return present },
		SinkAll: func([]topology.Call) { <-release },
	})
	if err != nil {
		t.Fatal(err)
	}
	data := batch("hotel/profile", client(text("peer.service", "hotel/memcached-profile")))
	answers := make(chan error, MaxWaiting)
	for range MaxWaiting {
		go func() { _, err := server.Export(data); answers <- err }()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for server.waiting.Load() < MaxWaiting && ctx.Err() == nil {
		<-time.After(time.Millisecond)
	}
	for range extra {
		if _, err := server.Export(data); status.Code(err) != codes.Unavailable {
			t.Fatalf("one export too many: %v, want Unavailable", err)
		}
	}
	web := httptest.NewServer(server)
	defer web.Close()
	response, _ := post(t, web.URL, nil, data)
	if response.StatusCode != http.StatusServiceUnavailable || response.Header.Get("Retry-After") != "1" {
		t.Errorf("over HTTP: status %d, Retry-After %q", response.StatusCode, response.Header.Get("Retry-After"))
	}
	close(release)
	for range MaxWaiting {
		if err := <-answers; err != nil {
			t.Errorf("an export that waited: %v", err)
		}
	}
	if got := counter(t, registry, "shed"); got != extra+1 {
		t.Errorf("%v exports shed, want %d", got, extra+1)
	}
	if _, err := server.Export(data); err != nil {
		t.Errorf("after the overload: %v", err)
	}
}

// counter returns how many spans had result.
func counter(t *testing.T, registry *prometheus.Registry, result string) float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			if metric.GetLabel()[0].GetValue() == result {
				return metric.GetCounter().GetValue()
			}
		}
	}
	return 0
}

func TestMemoryOfTheScanIsBounded(t *testing.T) {
	server, _ := newServer(t, Config{}) // every valid name is known
	for i := range 3 {
		spans := make([]*tracev1.Span, 0, 1000)
		for j := range cap(spans) {
			name := strings.Repeat("x", 1+i) + strings.Repeat("y", 1+j%60)
			spans = append(spans, client(text("peer.service", "a/"+name)))
		}
		if _, err := server.Export(batch("hotel/profile", spans...)); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(server.scan.names); n != 3*60+1 || n > MaxNames {
		t.Errorf("%d names kept, want 181", n)
	}
	if !slices.Equal([]mesh.Service{server.scan.names["hotel/profile"].service}, []mesh.Service{"hotel/profile"}) {
		t.Error("the sender is not kept")
	}
}
