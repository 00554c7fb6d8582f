package otlp

import (
	"encoding/binary"
	"time"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/topology"
)

// Bounds on what a batch may say.
const (
	MaxBatch = 4 << 20        // bytes
	MaxSkew  = time.Minute    // a span that ends farther from our clock shows existence only
	MaxAge   = 24 * time.Hour // beyond, it is refused
	MaxNames = 1 << 17        // distinct valid names that are kept
)

// Kinds of span and the status that the scan reads (opentelemetry-proto, trace.proto).
const (
	kindServer   = 2
	kindClient   = 3
	kindProducer = 4
	kindConsumer = 5
	statusError  = 2
)

// span is what is read of one span; byte slices alias the batch.
type span struct {
	traceID, id, parent      uint64 // halves of the first mixed; 0 = none
	kind, status, httpStatus uint64
	start, end               uint64 // Unix nanoseconds
	peer, cluster, host      []byte
	port                     uint64
	system, destination      []byte // of messages
	links                    []link
}

// scanner reads batches; its buffers are reused from batch to batch.
type scanner struct {
	config *Config
	names  map[string]*name // valid names seen; bounded by MaxNames
	list   []*name          // of names, by number; the first is nobody
	latest [latestNames]*name
	calls  []topology.Call
	waits  waits
	queues map[string]*queue // by system and destination; at most maxQueues
	key    []byte            // of queues, to look up
	now    time.Time
	nano   int64 // now in Unix nanoseconds
	batch  uint64
	only   mesh.Service // that the exporter may speak for, "" = any
	counts Counts
}

// Counts says what became of the spans of one batch.
type Counts struct {
	Calls       int64 // CLIENT spans that became an edge's evidence
	Served      int64 // SERVER spans
	Existence   int64 // of both, with times that cannot be used
	Joined      int64 // of Calls: the callee was found as the child of the span, or its parent
	Messages    int64 // PRODUCER and CONSUMER spans, which only show that edges exist
	Ignored     int64 // internal spans, and clients that name no peer and have no child yet
	BadName     int64 // service.name or peer is no namespace/name
	Unknown     int64 // service.name or peer is not registered
	OutOfBounds int64 // more than MaxAge away
	Mismatch    int64 // service.name is not the exporter's
}

// rejected returns how many spans the exporter is told were refused.
func (c Counts) rejected() int64 { return c.BadName + c.Unknown + c.OutOfBounds + c.Mismatch }

// scan reads an ExportTraceServiceRequest. On an error nothing of it is used.
func (s *scanner) scan(batch []byte, now time.Time) error {
	s.calls, s.counts, s.now = s.calls[:0], Counts{}, now
	s.batch++
	s.nano = now.UnixNano()
	r := reader{data: batch}
	for r.next() {
		if !r.is(1, wireBytes) {
			continue
		}
		if err := s.resourceSpans(r.bytes); err != nil {
			return err
		}
	}
	return r.fault
}

// resourceSpans reads the spans of one resource. Fields come in any order, so the
// resource is looked for first.
func (s *scanner) resourceSpans(data []byte) error {
	var name []byte
	for r := (reader{data: data}); ; {
		if !r.next() {
			if r.fault != nil {
				return r.fault
			}
			break
		}
		if r.is(1, wireBytes) {
			if err := serviceName(r.bytes, &name); err != nil {
				return err
			}
		}
	}
	sender, counter := s.service(name)
	if counter == nil && s.only != "" && sender.service != s.only {
		counter = &s.counts.Mismatch
	}
	r := reader{data: data}
	for r.next() {
		if !r.is(2, wireBytes) {
			continue
		}
		if err := s.scopeSpans(sender, counter, r.bytes); err != nil {
			return err
		}
	}
	return r.fault
}

// serviceName looks for service.name in a resource; the last one wins.
func serviceName(resource []byte, name *[]byte) error {
	r := reader{data: resource}
	for r.next() {
		if !r.is(1, wireBytes) {
			continue
		}
		key, value, err := keyValue(r.bytes)
		if err != nil {
			return err
		}
		if string(key) == "service.name" {
			*name = value.text
		}
	}
	return r.fault
}

// scopeSpans reads the spans of one scope. If the service was refused, counter counts
// its spans, which are checked all the same.
func (s *scanner) scopeSpans(sender *name, counter *int64, data []byte) error {
	r := reader{data: data}
	var read span
	for {
		bytes, usual := r.usual(tagSpan)
		if !usual {
			if !r.next() {
				return r.fault
			}
			if !r.is(2, wireBytes) {
				continue
			}
			bytes = r.bytes
		}
		read = span{links: read.links[:0]}
		if err := read.read(bytes); err != nil {
			return err
		}
		if counter != nil {
			*counter++
			continue
		}
		s.take(sender, &read)
	}
}

// field reads the present field of a span: the way of every field, which read takes for
// those of an unusual form.
func (sp *span) field(r *reader) error {
	switch r.number {
	case 1: // trace_id
		if r.wire == wireBytes && len(r.bytes) != traceIDBytes {
			r.fail(r.at, "trace id has the wrong length")
		} else if r.is(1, wireBytes) {
			sp.trace(r.bytes)
		}
	case 2: // span_id
		if r.wire == wireBytes && len(r.bytes) != spanIDBytes {
			r.fail(r.at, "span id has the wrong length")
		} else if r.is(2, wireBytes) {
			sp.id = binary.LittleEndian.Uint64(r.bytes)
		}
	case 4: // parent_span_id
		if r.is(4, wireBytes) {
			sp.parent = 0
			if len(r.bytes) == spanIDBytes {
				sp.parent = binary.LittleEndian.Uint64(r.bytes)
			}
		}
	case 6:
		sp.kind = r.scalar(wireVarint)
	case 7:
		sp.start = r.scalar(wireFixed64)
	case 8:
		sp.end = r.scalar(wireFixed64)
	case 9, 13, 15:
		return sp.inner(r)
	}
	return r.fault
}

// inner reads the present field if it is a message of its own.
func (sp *span) inner(r *reader) error {
	switch {
	case r.is(9, wireBytes):
		return sp.attribute(r.bytes)
	case r.is(13, wireBytes):
		return sp.readLink(r.bytes)
	case r.is(15, wireBytes):
		return sp.readStatus(r.bytes)
	}
	return r.fault
}

// scalar returns the value of the present field, which must have this wire type.
func (r *reader) scalar(wire uint64) uint64 {
	if r.wire != wire {
		r.fail(r.at, "field has the wrong wire type")
		return 0
	}
	return r.value
}

// keep keeps the value of an attribute that matters; the last one wins.
func (sp *span) keep(key []byte, value anyValue) {
	switch string(key) {
	case "peer.service":
		sp.peer = value.text
	case "upstream_cluster.name", "upstream_cluster":
		sp.cluster = value.text
	case "server.address", "net.peer.name":
		sp.host = value.text
	case "server.port", "net.peer.port":
		sp.port = value.number
	case "http.response.status_code", "http.status_code":
		sp.httpStatus = value.number
	case "messaging.system":
		sp.system = value.text
	case "messaging.destination.name":
		sp.destination = value.text
	}
}

// readStatus reads the code of a Status.
func (sp *span) readStatus(data []byte) error {
	r := reader{data: data}
	for r.next() {
		if r.number == 3 {
			sp.status = r.scalar(wireVarint)
		}
	}
	return r.fault
}

// anyValue is a string or an integer; other kinds read as neither.
type anyValue struct {
	text   []byte
	number uint64
}

// keyValue reads one attribute.
func keyValue(data []byte) (key []byte, value anyValue, err error) {
	r := reader{data: data}
	for r.next() {
		switch {
		case r.is(1, wireBytes):
			key = r.bytes
		case r.is(2, wireBytes):
			if err = value.read(r.bytes); err != nil {
				return nil, anyValue{}, err
			}
		}
	}
	return key, value, r.fault
}

// read reads the alternatives that are used; the last one set wins.
func (v *anyValue) read(data []byte) error {
	wires := [...]uint64{ // of string, bool, int, double, array, map, bytes, string index
		1: wireBytes, wireVarint, wireVarint, wireFixed64, wireBytes, wireBytes, wireBytes, wireVarint,
	}
	const text, integer = 1, 3
	r := reader{data: data}
	for r.next() {
		if r.number >= uint64(len(wires)) || !r.is(r.number, wires[r.number]) {
			continue
		}
		*v = anyValue{}
		switch r.number {
		case text:
			v.text = r.bytes
		case integer:
			v.number = r.value
		}
	}
	return r.fault
}
