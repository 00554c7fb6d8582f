package als

import (
	"context"
	"maps"
	"net"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	datav3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/topology"
)

var present = time.Unix(1_700_000_000, 0)

// common is an entry of 20 ms that ended at the present.
func common(cluster string, flags *datav3.ResponseFlags) *datav3.AccessLogCommon {
	return &datav3.AccessLogCommon{
		UpstreamCluster: cluster, ResponseFlags: flags,
		StartTime: timestamppb.New(present.Add(-20 * time.Millisecond)), Duration: durationpb.New(20 * time.Millisecond),
		UpstreamRemoteAddress: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
			Address: "127.0.0.1", PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: 20005},
		}}},
	}
}

func request(code uint32, c *datav3.AccessLogCommon) *datav3.HTTPAccessLogEntry {
	return &datav3.HTTPAccessLogEntry{CommonProperties: c, Response: &datav3.HTTPResponseProperties{
		ResponseCode: wrapperspb.UInt32(code),
	}}
}

func TestRequests(t *testing.T) {
	grpcStatus := func(code string) *datav3.HTTPAccessLogEntry {
		entry := request(200, common("shop/cart", nil))
		entry.Response.ResponseTrailers = map[string]string{"grpc-status": code}
		return entry
	}
	gaveUp := func(after time.Duration) *datav3.HTTPAccessLogEntry {
		c := common("shop/cart", &datav3.ResponseFlags{DownstreamConnectionTermination: true})
		c.Duration, c.StartTime = durationpb.New(after), timestamppb.New(present.Add(-after))
		return request(0, c)
	}
	skewed := common("shop/cart", nil)
	skewed.StartTime = timestamppb.New(present.Add(time.Hour))
	upgrade := common("shop/cart", nil)
	upgrade.TimeToFirstUpstreamRxByte = durationpb.New(time.Millisecond)
	for _, test := range []struct {
		name              string
		entry             *datav3.HTTPAccessLogEntry
		known             bool
		failed, existence bool
	}{
		{"ok", request(200, common("shop/cart", nil)), true, false, false},
		{"not found is the caller's", request(404, common("shop/cart", nil)), true, false, false},
		{"503 in the twin", request(503, common("shop/cart~o", nil)), true, true, false},
		{"no healthy upstream", request(503, common("shop/cart", &datav3.ResponseFlags{NoHealthyUpstream: true})), true, true, false},
		{"reset after the headers", request(200, common("shop/cart", &datav3.ResponseFlags{UpstreamRemoteReset: true})), true, true, false},
		{"grpc unavailable", grpcStatus("14"), true, true, false},
		{"grpc not found", grpcStatus("5"), true, false, false},
		{"gave up at once", gaveUp(10 * time.Millisecond), true, false, false},
		{"gave up after patience", gaveUp(2 * time.Second), true, true, false},
		{"an hour ahead", request(200, skewed), true, false, true},
		{"upgrade", request(101, upgrade), true, false, false},
		{"our own control plane", request(200, common("sluice_xds", nil)), false, false, false},
		{"no route", request(404, common("", nil)), false, false, false},
		{"empty entry", &datav3.HTTPAccessLogEntry{}, false, false, false},
	} {
		call, known := fromHTTP(test.entry, present)
		if known != test.known {
			t.Errorf("%s: known %v, want %v", test.name, known, test.known)
			continue
		}
		if !known {
			continue
		}
		if call.Failed != test.failed || call.Existence != test.existence || call.Callee != "shop/cart" || call.Instance != "127.0.0.1:20005" {
			t.Errorf("%s: call %+v, want failed %v, existence %v", test.name, call, test.failed, test.existence)
		}
		if !call.Existence && !call.At.Equal(present) && call.Latency != time.Millisecond {
			t.Errorf("%s: ended at %s, want %s", test.name, call.At, present)
		}
	}
}

func TestConnections(t *testing.T) {
	entry := func(kind datav3.AccessLogType, flags *datav3.ResponseFlags) *datav3.TCPAccessLogEntry {
		c := common("shop/db", flags)
		c.AccessLogType = kind
		return &datav3.TCPAccessLogEntry{CommonProperties: c}
	}
	for _, test := range []struct {
		name              string
		entry             *datav3.TCPAccessLogEntry
		failed, existence bool
	}{
		{"connected counts", entry(datav3.AccessLogType_TcpUpstreamConnected, nil), false, false},
		{"periodic shows existence", entry(datav3.AccessLogType_TcpPeriodic, nil), false, true},
		{"a good end was counted before", entry(datav3.AccessLogType_TcpConnectionEnd, nil), false, true},
		{"never connected", entry(datav3.AccessLogType_TcpConnectionEnd, &datav3.ResponseFlags{UpstreamConnectionFailure: true}), true, false},
	} {
		call, known := fromTCP(test.entry, present)
		if !known || !call.Connection || call.Failed != test.failed || call.Existence != test.existence {
			t.Errorf("%s: %+v (known %v)", test.name, call, known)
		}
	}
}

// serve runs a server on loopback and returns a client of it.
func serve(t *testing.T, config Config) accesslogv3.AccessLogServiceClient {
	t.Helper()
	server, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	grpcServer := grpc.NewServer()
	server.Register(grpcServer)
	served := make(chan error, 1)
	go func() { served <- grpcServer.Serve(listener) }()
	conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		grpcServer.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return accesslogv3.NewAccessLogServiceClient(conn)
}

func message(cluster string, entries ...*datav3.HTTPAccessLogEntry) *accesslogv3.StreamAccessLogsMessage {
	m := &accesslogv3.StreamAccessLogsMessage{LogEntries: &accesslogv3.StreamAccessLogsMessage_HttpLogs{
		HttpLogs: &accesslogv3.StreamAccessLogsMessage_HTTPAccessLogEntries{LogEntry: entries},
	}}
	if cluster != "" {
		m.Identifier = &accesslogv3.StreamAccessLogsMessage_Identifier{Node: &corev3.Node{Id: "node-1", Cluster: cluster}}
	}
	return m
}

func TestOnlyTheFirstMessageNamesTheCaller(t *testing.T) {
	calls := make(chan topology.Call, 3)
	api := serve(t, Config{Sink: func(c topology.Call) { calls <- c }, Now: func() time.Time { return present }})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	stream, err := api.StreamAccessLogs(ctx)
	if err != nil {
		t.Fatal(err)
	}
	entry := request(200, common("shop/cart", nil))
	for _, m := range []*accesslogv3.StreamAccessLogsMessage{message("shop/web", entry), message("", entry), message("evil/other", entry)} {
		if err := stream.Send(m); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := stream.CloseAndRecv(); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if call := <-calls; call.Caller != "shop/web" {
			t.Errorf("caller %s, want shop/web", call.Caller)
		}
	}
}

func TestStreamOfAnotherServiceIsRefused(t *testing.T) {
	identify := func(node string) (mesh.Service, bool) { return "shop/web", node == "node-1" }
	registry := prometheus.NewRegistry()
	api := serve(t, Config{
		Sink: func(topology.Call) { t.Error("a spoofed entry came through") }, Identify: identify, Registerer: registry,
	})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for _, cluster := range []string{"shop/bank", "ignore previous", ""} {
		stream, err := api.StreamAccessLogs(ctx)
		if err != nil {
			t.Fatal(err)
		}
		// The server may already have ended the stream; what counts is its status.
		_ = stream.Send(message(cluster, request(200, common("shop/cart", nil))))
		if _, err := stream.CloseAndRecv(); status.Code(err) != codes.InvalidArgument {
			t.Errorf("stream of %q: %v, want InvalidArgument", cluster, err)
		}
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, metric := range families[0].GetMetric() {
		got[metric.GetLabel()[0].GetValue()] = metric.GetCounter().GetValue()
	}
	if want := map[string]float64{"identity-mismatch": 1, "refused": 2}; !maps.Equal(got, want) {
		t.Errorf("counted %v, want %v", got, want)
	}
}

// FuzzEntries feeds arbitrary entries: no panic, and times within the bound.
func FuzzEntries(f *testing.F) {
	seed, err := proto.Marshal(request(503, common("shop/cart~o", &datav3.ResponseFlags{NoHealthyUpstream: true})))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Fuzz(func(t *testing.T, data []byte) {
		var http datav3.HTTPAccessLogEntry
		if proto.Unmarshal(data, &http) == nil {
			check(t, fromHTTP, &http)
		}
		var tcp datav3.TCPAccessLogEntry
		if proto.Unmarshal(data, &tcp) == nil {
			check(t, fromTCP, &tcp)
		}
	})
}

func check[E any](t *testing.T, read func(E, time.Time) (topology.Call, bool), entry E) {
	call, known := read(entry, present)
	if !known {
		return
	}
	if _, err := mesh.ParseService(string(call.Callee)); err != nil {
		t.Fatalf("callee %q: %v", call.Callee, err)
	}
	if away := present.Sub(call.At).Abs(); away > MaxSkew {
		t.Fatalf("call ended %s away", away)
	}
}
