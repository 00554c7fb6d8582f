package otlp

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/sluicemesh/sluice/mesh"
)

// listen serves server over gRPC and returns the address.
func listen(t *testing.T, server *Server, options ...grpc.ServerOption) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	grpcServer := grpc.NewServer(append(Options(), options...)...)
	server.Register(grpcServer)
	served := make(chan error, 1)
	go func() { served <- grpcServer.Serve(listener) }()
	t.Cleanup(func() {
		grpcServer.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return listener.Addr().String()
}

// sdk is a tracer of the OpenTelemetry SDK that exports as service, when it is flushed.
func sdk(t *testing.T, service, address string, options ...otlptracegrpc.Option) (trace.Tracer, func(context.Context) error) {
	t.Helper()
	exporter, err := otlptracegrpc.New(t.Context(), append(options, otlptracegrpc.WithEndpoint(address))...)
	if err != nil {
		t.Fatal(err)
	}
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter, sdktrace.WithBatchTimeout(time.Hour)),
		sdktrace.WithResource(resource.NewSchemaless(attribute.String("service.name", service))))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 5*time.Second)
		defer cancel()
		_ = provider.Shutdown(ctx)
	})
	return provider.Tracer("test"), provider.ForceFlush
}

// TestRealExporterSendsAgain sheds the first export of the SDK: it waits for as long as
// RetryInfo says, far longer than its own back-off, and loses nothing.
func TestRealExporterSendsAgain(t *testing.T) {
	server, calls := newServer(t, Config{Known: known, Now: time.Now})
	var asked atomic.Int32
	first := make(chan time.Time, 1)
	address := listen(t, server, grpc.UnaryInterceptor(func(
		ctx context.Context, request any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler,
	) (any, error) {
		if asked.Add(1) == 1 {
			first <- time.Now()
			server.waiting.Add(MaxWaiting) // as if so many were waiting
			defer server.waiting.Add(-MaxWaiting)
		}
		return handle(ctx, request)
	}))
	tracer, flush := sdk(t, "hotel/profile", address, otlptracegrpc.WithInsecure(), otlptracegrpc.WithCompressor("gzip"),
		otlptracegrpc.WithRetry(otlptracegrpc.RetryConfig{
			Enabled: true, InitialInterval: time.Millisecond, MaxInterval: 2 * time.Millisecond, MaxElapsedTime: 10 * time.Second,
		}))
	_, span := tracer.Start(t.Context(), "get", trace.WithSpanKind(trace.SpanKindClient),
		trace.WithAttributes(attribute.String("peer.service", "hotel/memcached-profile")))
	span.End()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := flush(ctx); err != nil {
		t.Fatal(err)
	}
	if waited := time.Since(<-first); asked.Load() != 2 || waited < retryAfter {
		t.Errorf("%d exports in %s, want a second one after %s", asked.Load(), waited, retryAfter)
	}
	if len(*calls) != 1 {
		t.Errorf("%d calls, want 1", len(*calls))
	}
}

func TestShedSaysWhenToSendAgain(t *testing.T) {
	registry := prometheus.NewRegistry()
	server, _ := newServer(t, Config{Known: known, Registerer: registry})
	server.waiting.Add(MaxWaiting)
	_, err := server.Export(nil)
	checkShed(t, status.Convert(err))

	web := httptest.NewServer(server)
	defer web.Close()
	response, body := post(t, web.URL, nil, nil)
	said := status.New(codes.OK, "").Proto()
	if err := proto.Unmarshal(body, said); err != nil {
		t.Fatal(err)
	}
	checkShed(t, status.FromProto(said))
	if response.StatusCode != http.StatusServiceUnavailable || response.Header.Get("Retry-After") != "1" {
		t.Errorf("HTTP %d, Retry-After %q", response.StatusCode, response.Header.Get("Retry-After"))
	}
	if got := counter(t, registry, "shed"); got != 2 {
		t.Errorf("%v shed, want 2", got)
	}
}

func checkShed(t *testing.T, said *status.Status) {
	t.Helper()
	if said.Code() != codes.Unavailable || len(said.Details()) != 1 {
		t.Fatalf("status %s with %d details", said.Code(), len(said.Details()))
	}
	info, is := said.Details()[0].(*errdetails.RetryInfo)
	if !is || info.GetRetryDelay().AsDuration() != retryAfter {
		t.Errorf("detail %v, want RetryInfo of %s", said.Details()[0], retryAfter)
	}
}

// authority signs certificates for a test.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{certificate: &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IsCA: true, BasicConstraintsValid: true,
		NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}}
	a.certificate, a.key = a.sign(t, a.certificate)
	return a
}

func (a *authority) sign(t *testing.T, template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	parent, signer := a.certificate, a.key
	if signer == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return certificate, key
}

// issue returns a certificate for loopback that names id, a URI.
func (a *authority) issue(t *testing.T, id string) tls.Certificate {
	t.Helper()
	address, err := url.Parse(id)
	if err != nil {
		t.Fatal(err)
	}
	leaf, key := a.sign(t, &x509.Certificate{
		SerialNumber: big.NewInt(2), NotAfter: time.Now().Add(time.Hour), URIs: []*url.URL{address},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	})
	return tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.certificate)
	return pool
}

// TestIdentityOfRealExporters has the SDK export over mTLS, once as itself, once as
// another service, once as a collector that may.
func TestIdentityOfRealExporters(t *testing.T) {
	ca := newAuthority(t)
	for _, test := range []struct {
		name, id string
		calls    int
		mismatch float64
	}{
		{"itself", "spiffe://hotel.test/ns/hotel/svc/profile", 1, 0},
		{"another", "spiffe://hotel.test/ns/hotel/svc/memcached-profile", 0, 1},
		{"a collector", "spiffe://hotel.test/ns/hotel/sa/collector", 1, 0},
		{"another domain is nobody", "spiffe://evil.test/ns/hotel/svc/memcached-profile", 1, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			registry := prometheus.NewRegistry()
			server, calls := newServer(t, Config{
				Known: known, Now: time.Now, Registerer: registry, Identify: BySPIFFE("hotel.test"),
				Collector: func(s mesh.Service) bool { return s == "hotel/collector" },
			})
			address := listen(t, server, grpc.Creds(credentials.NewTLS(&tls.Config{
				Certificates: []tls.Certificate{ca.issue(t, "spiffe://hotel.test/sluiced")}, ClientCAs: ca.pool(),
				ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS13,
			})))
			tracer, flush := sdk(t, "hotel/profile", address, otlptracegrpc.WithTLSCredentials(credentials.NewTLS(&tls.Config{
				Certificates: []tls.Certificate{ca.issue(t, test.id)}, RootCAs: ca.pool(), MinVersion: tls.VersionTLS13,
			})))
			_, span := tracer.Start(t.Context(), "get", trace.WithSpanKind(trace.SpanKindClient),
				trace.WithAttributes(attribute.String("peer.service", "hotel/memcached-profile")))
			span.End()
			_ = flush(t.Context()) // a partial success is an error of the SDK's own
			if len(*calls) != test.calls || counter(t, registry, "identity-mismatch") != test.mismatch {
				t.Errorf("%d calls and %v mismatches, want %d and %v",
					len(*calls), counter(t, registry, "identity-mismatch"), test.calls, test.mismatch)
			}
			if got := refused(t, registry, "hotel/memcached-profile", "identity-mismatch"); got != test.mismatch {
				t.Errorf("%v are blamed on the exporter, want %v", got, test.mismatch)
			}
		})
	}
}

// TestIdentityOverHTTP is the same over HTTP.
func TestIdentityOverHTTP(t *testing.T) {
	ca := newAuthority(t)
	server, calls := newServer(t, Config{Known: known, Identify: BySPIFFE("hotel.test")})
	web := httptest.NewUnstartedServer(server)
	web.TLS = &tls.Config{
		Certificates: []tls.Certificate{ca.issue(t, "spiffe://hotel.test/sluiced")}, ClientCAs: ca.pool(),
		ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS13,
	}
	web.StartTLS()
	defer web.Close()
	for id, want := range map[string]int{"profile": 1, "memcached-profile": 0} {
		*calls = nil
		exporter := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{
			Certificates: []tls.Certificate{ca.issue(t, "spiffe://hotel.test/ns/hotel/svc/"+id)}, RootCAs: ca.pool(),
			MinVersion: tls.VersionTLS13,
		}}}
		body := batch("hotel/profile", client(text("peer.service", "hotel/memcached-profile")))
		response, err := exporter.Post(web.URL+Path, protobuf, bytes.NewReader(body)) //nolint:noctx // a test's own server
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		exporter.CloseIdleConnections()
		if len(*calls) != want {
			t.Errorf("as %s: %d calls, want %d", id, len(*calls), want)
		}
	}
}

// TestExportersAreBounded makes more exporters than have counters.
func TestExportersAreBounded(t *testing.T) {
	registry := prometheus.NewRegistry()
	var name atomic.Value
	server, _ := newServer(t, Config{Known: known, Registerer: registry, Identify: func(context.Context) (mesh.Service, bool) {
		return name.Load().(mesh.Service), true
	}})
	data := batch("hotel/profile", client(text("peer.service", "hotel/memcached-profile")))
	for i := range MaxExporters + 50 {
		name.Store(mesh.Service(fmt.Sprintf("evil/x%d", i)))
		if _, err := server.Export(data); err != nil {
			t.Fatal(err)
		}
	}
	if got := refused(t, registry, "other", "identity-mismatch"); got != 50 {
		t.Errorf("%v by others, want 50", got)
	}
}

// refused returns the quarantined spans of an exporter.
func refused(t *testing.T, registry *prometheus.Registry, exporter, reason string) float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			if label := metric.GetLabel(); len(label) == 2 && label[0].GetValue() == exporter && label[1].GetValue() == reason {
				return metric.GetCounter().GetValue()
			}
		}
	}
	return 0
}
