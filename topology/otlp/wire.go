package otlp

import (
	"encoding/binary"
	"fmt"
)

// Wire types of protobuf; groups (3, 4) are refused.
const (
	wireVarint  = 0
	wireFixed64 = 1
	wireBytes   = 2
	wireFixed32 = 5
)

// MalformedError says where a batch is not valid protobuf or not valid OTLP.
type MalformedError struct {
	Offset int // in the innermost message that was read
	Reason string
}

// Error implements error.
func (e *MalformedError) Error() string {
	return fmt.Sprintf("offset %d of a message: %s", e.Offset, e.Reason)
}

// reader walks the fields of one message. Every read is checked against the bytes that
// are left, and the first fault ends the walk.
type reader struct {
	data   []byte
	at     int
	number uint64 // field
	wire   uint64
	bytes  []byte // value of a length-delimited field, aliasing data
	value  uint64 // value of any other field
	fault  error
}

// next reads one field and reports whether there was one.
func (r *reader) next() bool {
	if r.fault != nil || r.at == len(r.data) {
		return false
	}
	start := r.at
	tag := r.varint()
	r.number, r.wire = tag>>3, tag&7
	if r.fault == nil && (r.number == 0 || r.number > 1<<29-1) {
		r.fail(start, "field number out of range")
	}
	if r.fault != nil {
		return false
	}
	switch r.wire {
	case wireVarint:
		r.value = r.varint()
	case wireBytes:
		r.bytes = r.take(r.varint())
	case wireFixed64:
		if fixed := r.take(8); r.fault == nil {
			r.value = binary.LittleEndian.Uint64(fixed)
		}
	case wireFixed32:
		if fixed := r.take(4); r.fault == nil {
			r.value = uint64(binary.LittleEndian.Uint32(fixed))
		}
	default:
		r.fail(start, "group or unknown wire type")
	}
	return r.fault == nil
}

// usual returns the next field if it has the tag, of one byte, and a length of at most
// two; else false, and nothing was read.
func (r *reader) usual(tag byte) ([]byte, bool) {
	rest := r.data[r.at:]
	if len(rest) < 3 || rest[0] != tag {
		return nil, false
	}
	size, head := int(rest[1]), 2
	if size >= 0x80 {
		if rest[2] >= 0x80 {
			return nil, false
		}
		size, head = size&0x7f|int(rest[2])<<7, 3
	}
	if size > len(rest)-head {
		return nil, false
	}
	r.at += head + size
	return rest[head : head+size : head+size], true
}

// varint reads a base-128 number of at most 64 bits.
func (r *reader) varint() uint64 {
	if r.fault != nil {
		return 0
	}
	if r.at < len(r.data) && r.data[r.at] < 0x80 {
		r.at++
		return uint64(r.data[r.at-1])
	}
	if rest := r.data[r.at:]; len(rest) >= 2 && rest[1] < 0x80 {
		r.at += 2
		return uint64(rest[0]&0x7f) | uint64(rest[1])<<7
	}
	value, n := binary.Uvarint(r.data[r.at:])
	if n <= 0 {
		r.fail(r.at, "number is cut off or longer than 64 bits")
		return 0
	}
	r.at += n
	return value
}

// take returns the next n bytes.
func (r *reader) take(n uint64) []byte {
	if r.fault != nil {
		return nil
	}
	if n > uint64(len(r.data)-r.at) {
		r.fail(r.at, "length is past the end")
		return nil
	}
	taken := r.data[r.at : r.at+int(n) : r.at+int(n)]
	r.at += int(n)
	return taken
}

// is reports whether the present field has this number, and demands its wire type:
// protobuf would skip one with another type, but no OTLP exporter sends that.
func (r *reader) is(number, wire uint64) bool {
	if r.number != number {
		return false
	}
	if r.wire != wire {
		r.fail(r.at, "field has the wrong wire type")
		return false
	}
	return true
}

// fail keeps the first fault.
func (r *reader) fail(at int, reason string) {
	if r.fault == nil {
		r.fault = &MalformedError{Offset: at, Reason: reason}
	}
}
