package otlp

import "encoding/binary"

// Tags of the fields of a Span, an attribute and its value that nearly every exporter
// writes in this form: one byte, then a length or number of one byte.
const (
	tagSpan      = 2<<3 | wireBytes // of a scope's spans
	tagTraceID   = 1<<3 | wireBytes
	tagSpanID    = 2<<3 | wireBytes
	tagState     = 3<<3 | wireBytes
	tagParentID  = 4<<3 | wireBytes
	tagName      = 5<<3 | wireBytes
	tagKind      = 6<<3 | wireVarint
	tagStart     = 7<<3 | wireFixed64
	tagEnd       = 8<<3 | wireFixed64
	tagAttribute = 9<<3 | wireBytes
	tagStatus    = 15<<3 | wireBytes
	tagCode      = 3<<3 | wireVarint
	tagFlags     = 16<<3&0x7f | oneByte | wireFixed32 // its first byte; 1 follows
	tagKey       = 1<<3 | wireBytes
	tagValue     = 2<<3 | wireBytes
	tagString    = 1<<3 | wireBytes
	tagInteger   = 3<<3 | wireVarint

	traceIDBytes = 16
	spanIDBytes  = 8
	oneByte      = 0x80 // a varint below is one byte
)

// read reads the fields that matter of one span. The usual form of each field is read
// here, as many in a row as there are; any other, in field. What both say is the same:
// see FuzzScan.
func (sp *span) read(data []byte) error {
	for len(data) > 0 {
		rest := sp.usualFields(data)
		if len(rest) > 0 && rest[0] == tagAttribute { // half of all fields
			rest = sp.usualAttributes(rest)
		}
		if len(rest) == len(data) {
			n, err := sp.unusual(data)
			if err != nil {
				return err
			}
			rest = data[n:]
		}
		data = rest
	}
	return nil
}

// unusual reads the first field of data by the long way and returns its length.
func (sp *span) unusual(data []byte) (int, error) {
	r := reader{data: data}
	if !r.next() {
		return 0, r.fault
	}
	return r.at, sp.field(&r)
}

// usualFields reads the fields at the beginning of data, none an attribute, that have the
// usual form, and returns what is left.
func (sp *span) usualFields(data []byte) []byte {
	for len(data) >= 2 {
		n := 0
		switch tag, size := data[0], int(data[1]); tag {
		case tagAttribute:
			return data
		case tagTraceID, tagSpanID, tagParentID:
			n = sp.usualID(data)
		case tagName, tagState:
			if size < oneByte {
				n = size + 2
			}
		case tagKind:
			if size < oneByte {
				sp.kind, n = uint64(size), 2
			}
		case tagStart, tagEnd:
			n = sp.usualTime(data)
		case tagStatus:
			n = sp.usualStatus(data)
		case tagFlags:
			if size == 1 {
				n = 6
			}
		}
		if n == 0 || n > len(data) {
			return data
		}
		data = data[n:]
	}
	return data
}

// usualID reads an id of the trace, and that of the span behind it, or an id of the span
// or its parent, and returns the length of what it read; 0 if it has another form.
func (sp *span) usualID(data []byte) int {
	if data[0] == tagTraceID {
		const trace, both = 2 + traceIDBytes, 2 + traceIDBytes + 2 + spanIDBytes
		if len(data) < trace || data[1] != traceIDBytes {
			return 0
		}
		sp.trace(data[2:trace])
		if len(data) < both || data[trace] != tagSpanID || data[trace+1] != spanIDBytes {
			return trace
		}
		sp.id = binary.LittleEndian.Uint64(data[trace+2:])
		return both
	}
	if len(data) < 2+spanIDBytes || data[1] != spanIDBytes {
		return 0
	}
	id := binary.LittleEndian.Uint64(data[2:])
	if data[0] == tagSpanID {
		sp.id = id
	} else {
		sp.parent = id
	}
	return 2 + spanIDBytes
}

// usualTime is usualID for an end, or a start and the end behind it.
func (sp *span) usualTime(data []byte) int {
	const one, both = 9, 18
	if len(data) < one {
		return 0
	}
	at := binary.LittleEndian.Uint64(data[1:])
	if data[0] == tagEnd {
		sp.end = at
		return one
	}
	sp.start = at
	if len(data) < both || data[one] != tagEnd {
		return one
	}
	sp.end = binary.LittleEndian.Uint64(data[one+1:])
	return both
}

// usualStatus is usualID for a status that is a code and nothing else.
func (sp *span) usualStatus(data []byte) int {
	if len(data) < 4 || data[1] != 2 || data[2] != tagCode || data[3] >= oneByte {
		return 0
	}
	sp.status = uint64(data[3])
	return 4
}

// attribute reads an attribute and keeps it if it matters.
func (sp *span) attribute(data []byte) error {
	if sp.usualAttribute(data) {
		return nil
	}
	key, value, err := keyValue(data)
	if err == nil {
		sp.keep(key, value)
	}
	return err
}

// keyLengths has a bit for the length of each key that matters to keep.
const keyLengths = 1<<len("peer.service") | 1<<len("upstream_cluster.name") | 1<<len("upstream_cluster") |
	1<<len("server.address") | 1<<len("net.peer.name") | 1<<len("server.port") | 1<<len("net.peer.port") |
	1<<len("http.response.status_code") | 1<<len("http.status_code") |
	1<<len("messaging.system") | 1<<len("messaging.destination.name")

// usualAttributes reads the attributes at the beginning of data that have the usual form,
// and returns what is left.
func (sp *span) usualAttributes(data []byte) []byte {
	for len(data) >= 2 && data[0] == tagAttribute {
		n := int(data[1])
		if n >= oneByte || n > len(data)-2 || !sp.usualAttribute(data[2:2+n]) {
			return data
		}
		data = data[2+n:]
	}
	return data
}

// usualAttribute reads an attribute if it is a key, then a string or a number of at most
// three bytes, and reports whether it was.
func (sp *span) usualAttribute(data []byte) bool {
	if len(data) < 6 || data[0] != tagKey {
		return false
	}
	k := int(data[1]) + 2 // where the value begins
	if k >= oneByte || k > len(data)-4 {
		return false
	}
	v := data[k:]
	if len(v) < 4 || v[0] != tagValue || int(v[1]) != len(v)-2 || v[1] >= oneByte {
		return false
	}
	matters := keyLengths>>uint(k-2)&1 != 0 // 0 beyond the longest
	if v[2] == tagString && int(v[3]) == len(v)-4 {
		if matters {
			sp.keepText(data[2:k], v[4:])
		}
		return true
	}
	number, ok := usualNumber(v[2:])
	if ok && matters {
		sp.keep(data[2:k], anyValue{number: number})
	}
	return ok
}

// keepText is keep for a string.
func (sp *span) keepText(key, value []byte) { sp.keep(key, anyValue{text: value}) }

// usualNumber reads an integer of at most three bytes that fills data; false if it is none.
func usualNumber(data []byte) (uint64, bool) {
	if data[0] != tagInteger {
		return 0, false
	}
	switch {
	case len(data) == 2 && data[1] < oneByte:
		return uint64(data[1]), true
	case len(data) == 3 && data[1] >= oneByte && data[2] < oneByte:
		return uint64(data[1]&^oneByte) | uint64(data[2])<<7, true
	case len(data) == 4 && data[1]&data[2] >= oneByte && data[3] < oneByte:
		return uint64(data[1]&^oneByte) | uint64(data[2]&^oneByte)<<7 | uint64(data[3])<<14, true
	}
	return 0, false
}

// trace keeps the id of the trace.
func (sp *span) trace(id []byte) {
	sp.traceID = mixed(id)
}

// mixed returns the halves of a trace's id mixed.
func mixed(id []byte) uint64 {
	return binary.LittleEndian.Uint64(id) ^ binary.LittleEndian.Uint64(id[8:])
}
