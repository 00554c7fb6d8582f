package generate

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/sluicemesh/sluice/mesh"
)

// Shape of a batch of Spans.
const (
	SpansOfBatch = 512
	Resources    = 8
	Attributes   = 8   // of a span
	shuffled     = 100 // one span in so many has its fields in another order
	callees      = 4   // of each resource
)

// Batch is one ExportTraceServiceRequest.
type Batch struct {
	Data     []byte
	Services []mesh.Service // that it names
	Calls    int            // edges' calls that it holds: each CLIENT span
	Served   int            // SERVER spans
}

// Spans returns a batch of 512 spans of 8 resources with 8 attributes each, about 390
// bytes a span. Half are CLIENT spans with peer.service, every eighth is a CLIENT span
// that leaves its callee to be found by its child, the rest are SERVER spans, children of
// the former. One span in a hundred has its fields in another order. All end within a
// second before now.
func Spans(seed uint64, now time.Time) Batch {
	rng := random(seed)
	batch := Batch{}
	for i := range Resources {
		batch.Services = append(batch.Services, serviceName(i))
	}
	trace := make([]byte, 16)
	for i := range Resources {
		var spans []byte
		parent := uint64(0)
		for j := range SpansOfBatch / Resources {
			if j%8 == 0 {
				binary.LittleEndian.PutUint64(trace, rng.next())
				binary.LittleEndian.PutUint64(trace[8:], rng.next())
			}
			s := spanFields{rng: &rng, trace: trace, id: rng.next() | 1, end: now.Add(-time.Duration(rng.below(int(time.Second))))}
			switch {
			case j%2 == 0:
				s.peer = batch.Services[(i+1+rng.below(callees))%Resources]
				batch.Calls++
			case j%8 == 1: // its child is the SERVER span two places on
				parent = s.id
				batch.Calls++
			default:
				s.server, s.parent = true, rng.next()|1
				if j%8 == 3 {
					s.parent = parent
				}
				batch.Served++
			}
			spans = appendBytes(spans, 2, s.encode())
		}
		batch.Data = appendBytes(batch.Data, 1, resourceSpans(serviceName(i), i, spans))
	}
	return batch
}

// serviceName returns the name of service i.
func serviceName(i int) mesh.Service {
	return mesh.Service(fmt.Sprintf("production/checkout-%02d", i))
}

// resourceSpans wraps spans in their scope and resource.
func resourceSpans(service mesh.Service, i int, spans []byte) []byte {
	var resource []byte
	for _, a := range [][2]string{
		{"telemetry.sdk.language", "go"}, {"telemetry.sdk.name", "opentelemetry"}, {"telemetry.sdk.version", "1.47.0"},
		{"service.name", string(service)}, {"service.instance.id", fmt.Sprintf("%s-%d", service.Name(), i)},
		{"deployment.environment.name", "production"},
	} {
		resource = appendBytes(resource, 1, text(a[0], a[1]))
	}
	scope := appendBytes(nil, 1, []byte("go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"))
	scopeSpans := append(appendBytes(nil, 1, scope), spans...)
	return appendBytes(appendBytes(nil, 1, resource), 2, scopeSpans)
}

// spanFields is what one span is made of.
type spanFields struct {
	rng        *random
	trace      []byte
	id, parent uint64
	server     bool
	peer       mesh.Service
	end        time.Time
}

// encode returns the span as the Go SDK writes it, or in another order.
func (s *spanFields) encode() []byte {
	rng := s.rng
	kind, status, path := byte(3), 200, fmt.Sprintf("/api/v1/carts/%04d/items", rng.below(10_000))
	if s.server {
		kind = 2
	}
	if rng.below(50) == 0 {
		status = 503
	}
	latency := time.Duration(1+rng.below(50)) * time.Millisecond
	fields := [][]byte{
		appendBytes(nil, 1, s.trace),
		appendBytes(nil, 2, binary.LittleEndian.AppendUint64(nil, s.id)),
	}
	if s.parent != 0 {
		fields = append(fields, appendBytes(nil, 4, binary.LittleEndian.AppendUint64(nil, s.parent)))
	}
	fields = append(fields, appendBytes(nil, 5, []byte("GET /api/v1/carts/{id}/items")), []byte{6 << 3, kind},
		binary.LittleEndian.AppendUint64([]byte{7<<3 | 1}, uint64(s.end.Add(-latency).UnixNano())),
		binary.LittleEndian.AppendUint64([]byte{8<<3 | 1}, uint64(s.end.UnixNano())))
	for _, attribute := range s.attributes(status, path) {
		fields = append(fields, appendBytes(nil, 9, attribute))
	}
	code := []byte{3 << 3, 0}
	if status >= 500 {
		code[1] = 2
	}
	fields = append(fields, appendBytes(nil, 15, code), binary.LittleEndian.AppendUint32([]byte{0x85, 0x01}, 0x101))
	if rng.below(shuffled) == 0 {
		for i := len(fields) - 1; i > 0; i-- {
			j := rng.below(i + 1)
			fields[i], fields[j] = fields[j], fields[i]
		}
	}
	var out []byte
	for _, field := range fields {
		out = append(out, field...)
	}
	return out
}

// attributes returns the eight attributes of the span.
func (s *spanFields) attributes(status int, path string) [][]byte {
	list := [][]byte{
		text("http.request.method", "GET"), integer("http.response.status_code", uint64(status)),
		text("network.protocol.version", "1.1"), text("server.address", "127.0.0.1"), integer("server.port", 20_001),
		text("user_agent.original", "Go-http-client/1.1"),
	}
	switch {
	case s.peer != "":
		list = append(list, text("peer.service", string(s.peer)), text("url.path", path))
	case s.server:
		list = append(list, text("http.route", "/api/v1/carts/{id}/items"), text("url.path", path))
	default:
		list = append(list, text("url.scheme", "http"), text("url.path", path))
	}
	return list
}

// text and integer return a KeyValue.
func text(key, value string) []byte {
	return appendBytes(appendBytes(nil, 1, []byte(key)), 2, appendBytes(nil, 1, []byte(value)))
}

func integer(key string, value uint64) []byte {
	return appendBytes(appendBytes(nil, 1, []byte(key)), 2, binary.AppendUvarint([]byte{3 << 3}, value))
}

// appendBytes appends a length-delimited field.
func appendBytes(to []byte, field byte, value []byte) []byte {
	to = binary.AppendUvarint(append(to, field<<3|2), uint64(len(value)))
	return append(to, value...)
}
