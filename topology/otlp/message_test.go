package otlp

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/trace"
	collectorv1 "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonv1 "go.opentelemetry.io/proto/otlp/common/v1"
	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/topology"
)

// referenceTrace mixes the id of a trace; what is no id is 0.
func referenceTrace(id []byte) uint64 {
	whole := make([]byte, 16)
	if len(id) == len(whole) {
		copy(whole, id)
	}
	return binary.LittleEndian.Uint64(whole) ^ binary.LittleEndian.Uint64(whole[8:])
}

// message returns the calls that a PRODUCER or CONSUMER span shows, the slow way.
func (r *reference) message(span *tracev1.Span, sender mesh.Service, shown topology.Call) []topology.Call {
	var calls []topology.Call
	edge := func(from, to mesh.Service) {
		if from != to {
			shown.Caller, shown.Callee = from, to
			calls = append(calls, shown)
		}
	}
	if broker := referencePeer(span); valid(broker, r.known) {
		edge(sender, mesh.Service(broker))
	}
	produces := span.GetKind() == tracev1.Span_SPAN_KIND_PRODUCER
	for _, key := range referenceContexts(span) {
		other, found := r.waits[key]
		if found && other.server == produces {
			if produces {
				edge(sender, other.who)
			} else {
				edge(other.who, sender)
			}
		}
		if produces || !found || other.server {
			r.waits[key] = waiting{server: !produces, who: sender}
		}
	}
	for _, other := range r.others(span, sender, produces) {
		if produces {
			edge(sender, other)
		} else {
			edge(other, sender)
		}
	}
	return calls
}

// referenceContexts lists what a message's span is joined by: itself for a producer, its
// parent and links for a consumer.
func referenceContexts(span *tracev1.Span) []spanKey {
	key := func(trace, id []byte) []spanKey {
		if len(id) != 8 || string(id) == string(make([]byte, 8)) {
			return nil
		}
		return []spanKey{{referenceTrace(trace), string(id), true}}
	}
	if span.GetKind() == tracev1.Span_SPAN_KIND_PRODUCER {
		return key(span.GetTraceId(), span.GetSpanId())
	}
	keys := key(span.GetTraceId(), span.GetParentSpanId())
	links := 0
	for _, l := range span.GetLinks() {
		if found := key(l.GetTraceId(), l.GetSpanId()); found != nil && links < maxLinks {
			keys = append(keys, found...)
			links++
		}
	}
	return keys
}

// others lists who is at the other end of a span's destination if sender is new there.
func (r *reference) others(span *tracev1.Span, sender mesh.Service, produces bool) []mesh.Service {
	system, _ := last(span.GetAttributes(), "messaging.system")
	destination, _ := last(span.GetAttributes(), "messaging.destination.name")
	name := [2]string{system.GetStringValue(), destination.GetStringValue()}
	if name[1] == "" || len(name[0])+len(name[1]) > maxQueueName {
		return nil
	}
	q := r.queues[name]
	if q == nil {
		q = &referenceQueue{}
		r.queues[name] = q
	}
	here, there := &q.producers, q.consumers
	if !produces {
		here, there = &q.consumers, q.producers
	}
	if slices.Contains(*here, sender) {
		return nil
	}
	*here = append(*here, sender)
	return there
}

// message is a span of a message about a destination.
func message(kind tracev1.Span_SpanKind, id byte, destination string) *tracev1.Span {
	span := client(text("messaging.system", "kafka"), text("messaging.destination.name", destination))
	span.Kind, span.SpanId = kind, []byte{id, 0, 0, 0, 0, 0, 0, 1}
	return span
}

// messages is a batch with a producer and a consumer that links to it.
func messages() []byte {
	sent := message(tracev1.Span_SPAN_KIND_PRODUCER, 1, "orders")
	taken := message(tracev1.Span_SPAN_KIND_CONSUMER, 2, "orders")
	taken.Links = []*tracev1.Span_Link{{TraceId: sent.GetTraceId(), SpanId: sent.GetSpanId()}}
	return append(batch("hotel/profile", sent), batch("hotel/memcached-profile", taken)...)
}

// TestMessagesShowEdges has producer and consumer in batches of their own, in both orders,
// joined in one of the ways that there are.
func TestMessagesShowEdges(t *testing.T) {
	const producer, consumer = mesh.Service("hotel/profile"), mesh.Service("hotel/memcached-profile")
	for _, test := range []struct {
		name   string
		change func(sent, taken *tracev1.Span)
		calls  int
	}{
		{"parent", func(sent, taken *tracev1.Span) { taken.ParentSpanId = sent.GetSpanId() }, 1},
		{"link", func(sent, taken *tracev1.Span) {
			taken.TraceId = []byte(strings.Repeat("t", 16))
			taken.Links = []*tracev1.Span_Link{
				{TraceId: []byte("x"), SpanId: []byte("y")}, {TraceId: sent.GetTraceId(), SpanId: sent.GetSpanId()},
			}
		}, 1},
		{"destination", func(sent, taken *tracev1.Span) {
			sent.Attributes = []*commonv1.KeyValue{text("messaging.destination.name", "orders")}
			taken.Attributes = sent.GetAttributes()
		}, 1},
		{"another destination", func(sent, taken *tracev1.Span) {
			sent.Attributes = []*commonv1.KeyValue{text("messaging.destination.name", "orders")}
			taken.Attributes = []*commonv1.KeyValue{text("messaging.destination.name", "parcels")}
		}, 0},
		{"another system", func(sent, taken *tracev1.Span) {
			sent.Attributes = []*commonv1.KeyValue{text("messaging.destination.name", "orders"), text("messaging.system", "kafka")}
			taken.Attributes = []*commonv1.KeyValue{text("messaging.destination.name", "orders"), text("messaging.system", "nats")}
		}, 0},
		{"years ago", func(sent, taken *tracev1.Span) {
			taken.ParentSpanId, sent.StartTimeUnixNano, sent.EndTimeUnixNano = sent.GetSpanId(), 1, 2
		}, 0},
	} {
		for _, first := range []string{"producer", "consumer"} {
			t.Run(test.name+", "+first+" first", func(t *testing.T) {
				sent, taken := message(tracev1.Span_SPAN_KIND_PRODUCER, 1, ""), message(tracev1.Span_SPAN_KIND_CONSUMER, 2, "")
				test.change(sent, taken)
				batches := [][]byte{batch(string(producer), sent), batch(string(consumer), taken)}
				if first == "consumer" {
					slices.Reverse(batches)
				}
				server, calls := newServer(t, Config{Known: known})
				for _, data := range batches {
					if _, err := server.Export(data); err != nil {
						t.Fatal(err)
					}
				}
				if len(*calls) != test.calls {
					t.Fatalf("%d calls, want %d: %+v", len(*calls), test.calls, *calls)
				}
				want := topology.Call{
					Caller: producer, Callee: consumer, At: present.Add(-time.Second), Source: topology.Span, Existence: true,
				}
				if test.calls > 0 && !(*calls)[0].At.Equal(want.At) {
					t.Errorf("at %s", (*calls)[0].At)
				}
				want.At = time.Time{}
				for _, c := range *calls {
					if c.At = want.At; c != want {
						t.Errorf("call %+v, want %+v", c, want)
					}
				}
			})
		}
	}
}

// TestOneProducerManyConsumers has a message that several services take.
func TestOneProducerManyConsumers(t *testing.T) {
	everyone := func(mesh.Service) bool { return true }
	server, calls := newServer(t, Config{Known: everyone})
	sent := message(tracev1.Span_SPAN_KIND_PRODUCER, 1, "")
	data := batch("shop/front", sent)
	for i := range 5 {
		taken := message(tracev1.Span_SPAN_KIND_CONSUMER, byte(2+i), "")
		taken.ParentSpanId = sent.GetSpanId()
		data = append(data, batch(fmt.Sprintf("shop/worker%d", i), taken)...)
	}
	if _, err := server.Export(data); err != nil {
		t.Fatal(err)
	}
	if len(*calls) != 5 {
		t.Errorf("%d edges, want 5: %+v", len(*calls), *calls)
	}
}

// TestMessagesAreBounded floods the tables of destinations, of their ends, and of links.
func TestMessagesAreBounded(t *testing.T) {
	server, calls := newServer(t, Config{})
	for i := range maxQueues + 100 {
		name := fmt.Sprintf("reply-%d", i)
		if _, err := server.Export(batch("shop/front", message(tracev1.Span_SPAN_KIND_PRODUCER, 1, name))); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(server.scan.queues); n != maxQueues {
		t.Errorf("%d destinations kept, want %d", n, maxQueues)
	}
	for i := range 2 * maxQueueEnds {
		if _, err := server.Export(batch(fmt.Sprintf("shop/w%d", i), message(tracev1.Span_SPAN_KIND_CONSUMER, 1, "reply-0"))); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(server.scan.queues["kafka\x00reply-0"].consumers); n != maxQueueEnds {
		t.Errorf("%d consumers kept, want %d", n, maxQueueEnds)
	}
	*calls = (*calls)[:0]
	linked := message(tracev1.Span_SPAN_KIND_CONSUMER, 1, "")
	for i := range 10 * maxLinks {
		linked.Links = append(linked.Links, &tracev1.Span_Link{TraceId: make([]byte, 16), SpanId: []byte(fmt.Sprintf("%08d", i))})
	}
	if _, err := server.Export(batch("shop/x", linked)); err != nil {
		t.Fatal(err)
	}
	if len(*calls) != 0 || server.scan.counts.Messages != 1 {
		t.Errorf("%d calls, %d messages", len(*calls), server.scan.counts.Messages)
	}
	request := &collectorv1.ExportTraceServiceRequest{}
	if err := proto.Unmarshal(messages(), request); err != nil {
		t.Fatal(err)
	}
}

// TestRealMessages has two services use the OpenTelemetry SDK: one publishes, the other
// takes in with a link, and names the broker.
func TestRealMessages(t *testing.T) {
	everyone := func(s mesh.Service) bool { return strings.HasPrefix(string(s), "shop/") }
	server, calls := newServer(t, Config{Known: everyone, Now: time.Now})
	address := listen(t, server)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	producer, flush := sdk(t, "shop/front", address, otlptracegrpc.WithInsecure())
	_, sent := producer.Start(ctx, "send", trace.WithSpanKind(trace.SpanKindProducer), trace.WithAttributes(
		attribute.String("messaging.system", "kafka"), attribute.String("messaging.destination.name", "orders"),
		attribute.String("peer.service", "shop/kafka")))
	sent.End()
	if err := flush(ctx); err != nil {
		t.Fatal(err)
	}
	consumer, flush := sdk(t, "shop/billing", address, otlptracegrpc.WithInsecure())
	_, taken := consumer.Start(ctx, "process", trace.WithSpanKind(trace.SpanKindConsumer),
		trace.WithLinks(trace.Link{SpanContext: sent.SpanContext()}))
	taken.End()
	if err := flush(ctx); err != nil {
		t.Fatal(err)
	}
	var edges []string
	for _, c := range *calls {
		edges = append(edges, fmt.Sprintf("%s>%s %v", c.Caller, c.Callee, c.Existence))
	}
	if want := []string{"shop/front>shop/kafka true", "shop/front>shop/billing true"}; !slices.Equal(edges, want) {
		t.Errorf("edges %v, want %v", edges, want)
	}
}
