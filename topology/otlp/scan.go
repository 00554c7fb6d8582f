package otlp

import (
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
	kindServer  = 2
	kindClient  = 3
	statusError = 2
)

// span is what is read of one span; byte slices alias the batch.
type span struct {
	kind, status, httpStatus uint64
	start, end               uint64 // Unix nanoseconds
	peer, cluster, host      []byte
	port                     uint64
}

// scanner reads batches; its buffers are reused from batch to batch.
type scanner struct {
	config *Config
	names  map[string]mesh.Service // valid names seen; bounded by MaxNames
	calls  []topology.Call
	now    time.Time
	counts Counts
}

// Counts says what became of the spans of one batch.
type Counts struct {
	Calls       int64 // CLIENT spans that became an edge's evidence
	Served      int64 // SERVER spans
	Existence   int64 // of both, with times that cannot be used
	Ignored     int64 // internal spans, and clients that name no peer
	BadName     int64 // service.name or peer is no namespace/name
	Unknown     int64 // service.name or peer is not registered
	OutOfBounds int64 // more than MaxAge away
}

// rejected returns how many spans the exporter is told were refused.
func (c Counts) rejected() int64 { return c.BadName + c.Unknown + c.OutOfBounds }

// scan reads an ExportTraceServiceRequest. On an error nothing of it is used.
func (s *scanner) scan(batch []byte, now time.Time) error {
	s.calls, s.counts, s.now = s.calls[:0], Counts{}, now
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
	service, counter := s.service(name)
	r := reader{data: data}
	for r.next() {
		if !r.is(2, wireBytes) {
			continue
		}
		if err := s.scopeSpans(service, counter, r.bytes); err != nil {
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
func (s *scanner) scopeSpans(service mesh.Service, counter *int64, data []byte) error {
	r := reader{data: data}
	for r.next() {
		if !r.is(2, wireBytes) {
			continue
		}
		read, err := readSpan(r.bytes)
		if err != nil {
			return err
		}
		if counter != nil {
			*counter++
			continue
		}
		s.take(service, &read)
	}
	return r.fault
}

// readSpan reads the fields that matter of one span.
func readSpan(data []byte) (span, error) {
	var read span
	r := reader{data: data}
	for r.next() {
		var err error
		switch r.number {
		case 1, 2: // trace_id, span_id
			if want := 24 - 8*int(r.number); r.wire == wireBytes && len(r.bytes) != want {
				r.fail(r.at, "trace or span id has the wrong length")
			}
		case 6:
			read.kind = r.scalar(wireVarint)
		case 7:
			read.start = r.scalar(wireFixed64)
		case 8:
			read.end = r.scalar(wireFixed64)
		case 9:
			if r.is(9, wireBytes) {
				err = read.attribute(r.bytes)
			}
		case 15:
			if r.is(15, wireBytes) {
				err = read.readStatus(r.bytes)
			}
		}
		if err != nil {
			return read, err
		}
	}
	return read, r.fault
}

// scalar returns the value of the present field, which must have this wire type.
func (r *reader) scalar(wire uint64) uint64 {
	if r.wire != wire {
		r.fail(r.at, "field has the wrong wire type")
		return 0
	}
	return r.value
}

// attribute keeps the value of an attribute that matters.
func (sp *span) attribute(data []byte) error {
	key, value, err := keyValue(data)
	if err != nil {
		return err
	}
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
	}
	return nil
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

// Alternatives of an AnyValue: string_value to bytes_value.
const (
	anyString = 1
	anyInt    = 3
	anyLast   = 7
)

// read reads the alternatives that are used; the last one set wins.
func (v *anyValue) read(data []byte) error {
	r := reader{data: data}
	for r.next() {
		if r.number > anyLast {
			continue
		}
		*v = anyValue{}
		switch {
		case r.is(anyString, wireBytes):
			v.text = r.bytes
		case r.is(anyInt, wireVarint):
			v.number = r.value
		}
	}
	return r.fault
}
