package otlp

import (
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	collectorv1 "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonv1 "go.opentelemetry.io/proto/otlp/common/v1"
	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/topology"
	"github.com/sluicemesh/sluice/topology/generate"
)

// FuzzScan compares the scan with google protobuf: what both take must give the same
// calls, in the same order. The scan is stricter (lengths of ids, wire types), and does
// not look into what it has no use for.
func FuzzScan(f *testing.F) {
	f.Add(batch("hotel/profile", client(text("peer.service", "hotel/memcached-profile")), client(integer("http.status_code", 503))))
	f.Add(batch("hotel/nobody", client()))
	f.Add([]byte{0x0a, 0x02, 0x12, 0x00})
	f.Add(batch("hotel/profile", joined(1, 2)...))
	f.Add(batch("hotel/profile", client(integer("server.port", 1<<40), text("upstream_cluster", "hotel/profile~o"),
		&commonv1.KeyValue{Key: "peer.service", Value: &commonv1.AnyValue{Value: &commonv1.AnyValue_BoolValue{BoolValue: true}}})))
	f.Add(messages())
	f.Add(batch("hotel/profile", client(text(strings.Repeat("k", 200), strings.Repeat("v", 20_000)))))
	f.Fuzz(func(t *testing.T, data []byte) {
		server, calls := newServer(t, Config{Known: known})
		_, err := server.Export(data)
		var reference collectorv1.ExportTraceServiceRequest
		if err != nil || proto.Unmarshal(data, &reference) != nil {
			return
		}
		compare(t, *calls, referenceCalls(&reference, known))
	})
}

// compare fails if got and want are not the same.
func compare(t *testing.T, got, want []topology.Call) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d calls, protobuf says %d", len(got), len(want))
	}
	for i := range got {
		if !got[i].At.Equal(want[i].At) {
			t.Fatalf("call %d at %s, protobuf says %s", i, got[i].At, want[i].At)
		}
		want[i].At = got[i].At
		if got[i] != want[i] {
			t.Fatalf("call %d is %+v, protobuf says %+v", i, got[i], want[i])
		}
	}
}

// waiting is a span of the reference that waits for its other half.
type waiting struct {
	server bool
	who    mesh.Service
	call   topology.Call
}

// spanKey names a span by the ids that a scan tells apart.
type spanKey struct {
	trace   uint64
	span    string
	message bool
}

// referenceQueue is who was seen at the ends of a destination.
type referenceQueue struct{ producers, consumers []mesh.Service }

// reference is what the reference remembers from span to span.
type reference struct {
	waits  map[spanKey]waiting
	queues map[[2]string]*referenceQueue
	known  func(mesh.Service) bool
}

// referenceCalls returns the calls that the spans of m stand for, the slow way.
func referenceCalls(m *collectorv1.ExportTraceServiceRequest, known func(mesh.Service) bool) []topology.Call {
	var calls []topology.Call
	r := reference{map[spanKey]waiting{}, map[[2]string]*referenceQueue{}, known}
	for _, rs := range m.GetResourceSpans() {
		sender, _ := last(rs.GetResource().GetAttributes(), "service.name")
		if !valid(sender.GetStringValue(), known) {
			continue
		}
		for _, ss := range rs.GetScopeSpans() {
			for _, span := range ss.GetSpans() {
				calls = append(calls, r.span(span, mesh.Service(sender.GetStringValue()))...)
			}
		}
	}
	return calls
}

// valid reports whether name is a registered service.
func valid(name string, known func(mesh.Service) bool) bool {
	service, err := mesh.ParseService(name)
	return err == nil && known(service)
}

// span returns the calls that span of sender stands for.
func (r *reference) span(span *tracev1.Span, sender mesh.Service) []topology.Call {
	waits, known := r.waits, r.known
	call, timed := referenceTimes(span)
	if !timed {
		return nil
	}
	key := spanKey{trace: referenceTrace(span.GetTraceId())}
	switch span.GetKind() {
	case tracev1.Span_SPAN_KIND_PRODUCER, tracev1.Span_SPAN_KIND_CONSUMER:
		return r.message(span, sender, topology.Call{Source: topology.Span, At: call.At, Existence: true})
	case tracev1.Span_SPAN_KIND_SERVER:
		call.Callee = sender
		calls := []topology.Call{call}
		if key.span = string(span.GetParentSpanId()); len(key.span) != 8 || key.span == string(make([]byte, 8)) {
			return calls
		}
		if client, found := waits[key]; found && !client.server {
			delete(waits, key)
			client.call.Callee = sender
			return append(calls, client.call)
		}
		waits[key] = waiting{server: true, who: sender}
		return calls
	case tracev1.Span_SPAN_KIND_CLIENT:
		call.Caller = sender
		if peer := referencePeer(span); peer != "" {
			call.Callee = mesh.Service(peer)
			if valid(peer, known) {
				return []topology.Call{call}
			}
			return nil
		}
		if key.span = string(span.GetSpanId()); key.span == "" || key.span == string(make([]byte, 8)) {
			return nil
		}
		if server, found := waits[key]; found && server.server {
			delete(waits, key)
			call.Callee = server.who
			return []topology.Call{call}
		}
		waits[key] = waiting{call: call}
	}
	return nil
}

// referencePeer returns whom the attributes of a CLIENT span name.
func referencePeer(span *tracev1.Span) string {
	peer, _ := last(span.GetAttributes(), "peer.service")
	if peer.GetStringValue() != "" {
		return peer.GetStringValue()
	}
	cluster, _ := last(span.GetAttributes(), "upstream_cluster", "upstream_cluster.name")
	if cluster.GetStringValue() == TwinSuffix {
		return "?" // names nobody, and is no reason to wait
	}
	return strings.TrimSuffix(cluster.GetStringValue(), TwinSuffix)
}

// referenceTimes returns the call of a span without its ends, false if its time is absurd.
func referenceTimes(span *tracev1.Span) (topology.Call, bool) {
	call := topology.Call{Source: topology.Span, Failed: span.GetStatus().GetCode() == tracev1.Status_STATUS_CODE_ERROR}
	if code, found := last(span.GetAttributes(), "http.response.status_code", "http.status_code"); found && code.GetIntValue() != 0 {
		call.Failed = uint64(code.GetIntValue()) >= 500
	}
	start, end := span.GetStartTimeUnixNano(), span.GetEndTimeUnixNano()
	at := time.Unix(0, int64(min(end, 1<<63-1)))
	away := present.Sub(at).Abs()
	switch {
	case start != 0 && end != 0 && end >= start && away > MaxAge:
		return call, false
	case start == 0 || end < start || away > MaxSkew:
		call.At, call.Existence = present, true
	default:
		call.At, call.Latency = at, time.Duration(end-start)
	}
	return call, true
}

// last returns the last attribute with one of keys.
func last(attributes []*commonv1.KeyValue, keys ...string) (value *commonv1.AnyValue, found bool) {
	for _, attribute := range attributes {
		if slices.Contains(keys, attribute.GetKey()) {
			value, found = attribute.GetValue(), true
		}
	}
	return value, found
}

// joined returns a CLIENT span that names no peer and its child.
func joined(parent, child byte) []*tracev1.Span {
	caller, callee := client(), client()
	caller.SpanId = []byte{parent, 0, 0, 0, 0, 0, 0, 0}
	callee.SpanId = []byte{child, 0, 0, 0, 0, 0, 0, 0}
	callee.ParentSpanId, callee.Kind = caller.SpanId, tracev1.Span_SPAN_KIND_SERVER
	return []*tracev1.Span{caller, callee}
}

func TestClientWithoutPeerIsJoinedToItsChild(t *testing.T) {
	spans := joined(1, 2)
	caller, callee := batch("hotel/profile", spans[0]), batch("hotel/memcached-profile", spans[1])
	foreign := joined(1, 2)[1]
	foreign.TraceId[3] = 9
	for _, test := range []struct {
		name    string
		batches [][]byte
		edges   int
	}{
		{"parent first", [][]byte{caller, callee}, 1},
		{"child first", [][]byte{callee, caller}, 1},
		{"child twice counts once", [][]byte{caller, callee, callee}, 1},
		{"same id of another trace", [][]byte{caller, batch("hotel/memcached-profile", foreign)}, 0},
		{"child of a stranger", [][]byte{caller, batch("hotel/nobody", spans[1])}, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			server, calls := newServer(t, Config{Known: known})
			for _, data := range test.batches {
				if _, err := server.Export(data); err != nil {
					t.Fatal(err)
				}
			}
			edges := slices.DeleteFunc(*calls, func(c topology.Call) bool { return c.Caller == "" })
			if len(edges) != test.edges {
				t.Fatalf("%d edges, want %d", len(edges), test.edges)
			}
			for _, c := range edges {
				if c.Caller != "hotel/profile" || c.Callee != "hotel/memcached-profile" || c.Latency != 10*time.Millisecond {
					t.Errorf("call %+v, want hotel/profile -> hotel/memcached-profile", c)
				}
			}
		})
	}
}

func TestRegistryIsAskedOnceABatch(t *testing.T) {
	asked, here := 0, true
	server, calls := newServer(t, Config{Known: func(mesh.Service) bool { asked++; return here }})
	data := batch("hotel/profile", slices.Repeat([]*tracev1.Span{client(text("peer.service", "hotel/memcached-profile"))}, 50)...)
	for range 2 {
		if _, err := server.Export(data); err != nil {
			t.Fatal(err)
		}
	}
	if asked != 4 || len(*calls) != 100 {
		t.Errorf("asked %d times for %d calls, want 4 for 100", asked, len(*calls))
	}
	here = false
	response, err := server.Export(data)
	if err != nil || response.GetPartialSuccess().GetRejectedSpans() != 50 {
		t.Errorf("%d spans of a service that left were rejected, want 50; %v", response.GetPartialSuccess().GetRejectedSpans(), err)
	}
}

// generated returns batches of spans, and a server that feeds a graph which knows their
// services.
func generated(t testing.TB, batches int) ([]generate.Batch, *Server, *topology.Graph) {
	t.Helper()
	list := make([]generate.Batch, batches)
	for i := range list {
		list[i] = generate.Spans(uint64(1+i), present)
	}
	graph := topology.NewGraph()
	graph.RegisterNames(list[0].Services)
	graph.Series().Advance(present)
	registered := map[mesh.Service]bool{}
	for _, service := range list[0].Services {
		registered[service] = true
	}
	server, err := New(Config{
		SinkAll: graph.ObserveAll, Now: func() time.Time { return present },
		Known: func(s mesh.Service) bool { return registered[s] },
	})
	if err != nil {
		t.Fatal(err)
	}
	return list, server, graph
}

func TestGeneratedSpansBecomeTheEdgesThatProtobufSees(t *testing.T) {
	list, server, graph := generated(t, 3)
	total := 0
	for _, b := range list {
		var reference collectorv1.ExportTraceServiceRequest
		if err := proto.Unmarshal(b.Data, &reference); err != nil {
			t.Fatal(err)
		}
		want := referenceCalls(&reference, func(s mesh.Service) bool { return slices.Contains(b.Services, s) })
		if len(want) != b.Calls+b.Served || b.Calls+b.Served != generate.SpansOfBatch {
			t.Errorf("%d calls, %d edges' and %d served generated of %d spans", len(want), b.Calls, b.Served, generate.SpansOfBatch)
		}
		if size := len(b.Data) / generate.SpansOfBatch; size < 370 || size > 410 {
			t.Errorf("%d bytes a span, want about 390", size)
		}
		if _, err := server.Export(b.Data); err != nil {
			t.Fatal(err)
		}
		compare(t, slices.Clone(server.scan.calls), want)
		total += b.Calls
	}
	if got := graph.Snapshot(present).Requests(); got != uint64(total) {
		t.Errorf("%d calls in the graph, want %d", got, total)
	}
	if again := generate.Spans(1, present); !slices.Equal(again.Data, list[0].Data) {
		t.Error("the same seed gave other bytes")
	}
}

func TestSteadyIngestDoesNotAllocate(t *testing.T) {
	list, server, _ := generated(t, 4)
	at := 0
	export := func() {
		if _, err := server.Export(list[at%len(list)].Data); err != nil {
			t.Fatal(err)
		}
		at++
	}
	for range list {
		export()
	}
	if allocs := testing.AllocsPerRun(40, export); allocs != 0 {
		t.Errorf("%v allocations a batch, want 0", allocs)
	}
}

// cpu returns the processor time of the process so far.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// BenchmarkIngest measures bytes to edges of the graph, beside google protobuf, which
// only decodes. Processor time, for both.
func BenchmarkIngest(b *testing.B) {
	measure := func(b *testing.B, ingest func(data []byte) error) {
		list, _, _ := generated(b, 8)
		for _, batch := range list { // warm
			if err := ingest(batch.Data); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportAllocs()
		at, began := 0, cpu(b)
		for b.Loop() {
			if err := ingest(list[at%len(list)].Data); err != nil {
				b.Fatal(err)
			}
			at++
		}
		b.ReportMetric(float64(cpu(b)-began)/float64(b.N)/generate.SpansOfBatch, "cpu-ns/span")
	}
	_, server, _ := generated(b, 1)
	b.Run("sluice", func(b *testing.B) {
		measure(b, func(data []byte) error { _, err := server.Export(data); return err })
	})
	b.Run("scan-only", func(b *testing.B) {
		measure(b, func(data []byte) error { return server.scan.scan(data, present) })
	})
	b.Run("protobuf", func(b *testing.B) {
		measure(b, func(data []byte) error { return proto.Unmarshal(data, &collectorv1.ExportTraceServiceRequest{}) })
	})
}
