package otlp

import "encoding/binary"

// Tags of the fields of a Span, an attribute and its value that nearly every exporter
// writes in this form: one byte, then a length or number of one byte.
const (
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
// here; any other, in field. What both say is the same: see FuzzScan.
func (sp *span) read(data []byte) error {
	for len(data) > 0 {
		if data[0] == tagAttribute && len(data) >= 2 { // half of all fields
			if n := int(data[1]) + 2; n < oneByte && n <= len(data) && sp.usualAttribute(data[2:n]) {
				data = data[n:]
				continue
			}
		} else if n := sp.usual(data); n > 0 {
			data = data[n:]
			continue
		}
		n, err := sp.unusual(data)
		if err != nil {
			return err
		}
		data = data[n:]
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

// usual reads the first field of data, no attribute, if it has the usual form, and returns
// its length; else 0.
func (sp *span) usual(data []byte) int {
	if len(data) < 2 {
		return 0
	}
	switch data[0] {
	case tagTraceID, tagSpanID, tagParentID:
		return sp.usualID(data)
	case tagName, tagState:
		if n := int(data[1]) + 2; n < oneByte && n <= len(data) {
			return n
		}
	case tagStatus:
		if data[1] == 2 && len(data) >= 4 && data[2] == tagCode && data[3] < oneByte {
			sp.status = uint64(data[3])
			return 4
		}
	case tagFlags:
		if data[1] == 1 && len(data) >= 6 {
			return 6
		}
	case tagKind:
		if data[1] < oneByte {
			sp.kind = uint64(data[1])
			return 2
		}
	case tagStart, tagEnd:
		return sp.usualTime(data)
	}
	return 0
}

// usualID is usual for an id of the trace, the span or its parent.
func (sp *span) usualID(data []byte) int {
	if data[0] == tagTraceID {
		if data[1] != traceIDBytes || len(data) < 2+traceIDBytes {
			return 0
		}
		sp.trace(data[2 : 2+traceIDBytes])
		return 2 + traceIDBytes
	}
	if data[1] != spanIDBytes || len(data) < 2+spanIDBytes {
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

// usualTime is usual for a start or end.
func (sp *span) usualTime(data []byte) int {
	if len(data) < 9 {
		return 0
	}
	at := binary.LittleEndian.Uint64(data[1:])
	if data[0] == tagStart {
		sp.start = at
	} else {
		sp.end = at
	}
	return 9
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
	1<<len("http.response.status_code") | 1<<len("http.status_code")

// usualAttribute reads an attribute if it is a key, then a string or a number of at most
// three bytes, and reports whether it was.
func (sp *span) usualAttribute(data []byte) bool {
	if len(data) < 2 || data[0] != tagKey || data[1] >= oneByte {
		return false
	}
	k := int(data[1])
	rest := data[2:]
	if len(rest) < k+4 || rest[k] != tagValue || int(rest[k+1]) != len(rest)-k-2 || rest[k+1] >= oneByte {
		return false
	}
	value, ok := usualValue(rest[k+2:])
	if ok && k < 64 && keyLengths>>k&1 != 0 {
		sp.keep(rest[:k], value)
	}
	return ok
}

// usualValue reads a string, or a number of at most three bytes, that fills data; false
// if it is neither.
func usualValue(data []byte) (anyValue, bool) {
	switch {
	case data[0] == tagString && int(data[1]) == len(data)-2:
		return anyValue{text: data[2:]}, true
	case data[0] != tagInteger:
		return anyValue{}, false
	case len(data) == 2 && data[1] < oneByte:
		return anyValue{number: uint64(data[1])}, true
	case len(data) == 3 && data[1] >= oneByte && data[2] < oneByte:
		return anyValue{number: uint64(data[1]&^oneByte) | uint64(data[2])<<7}, true
	case len(data) == 4 && data[1]&data[2] >= oneByte && data[3] < oneByte:
		return anyValue{number: uint64(data[1]&^oneByte) | uint64(data[2]&^oneByte)<<7 | uint64(data[3])<<14}, true
	}
	return anyValue{}, false
}

// trace keeps the id of the trace.
func (sp *span) trace(id []byte) {
	sp.traceID = binary.LittleEndian.Uint64(id) ^ binary.LittleEndian.Uint64(id[8:])
}
