package journal

import (
	"bytes"
	"fmt"
)

// position is where a chain of records stands.
type position struct {
	next Seq    // sequence number of the next record
	term uint64 // of the record before it
	last Hash   // of the record before it
}

// record is one record as it was found.
type record struct {
	header
	payload []byte
}

// scan reads the records of the segment data, beginning at pos, and calls visit for each.
// A sealed segment ends where the next one begins, at the sequence number limit; the last
// one (limit 0) ends at the first block that is no record. It returns the offset of
// that, and what is torn there ("" = nothing).
func scan(name string, data []byte, pos *position, limit Seq, visit func(record) error) (int64, string, error) {
	at := int64(blockSize)
	for limit == 0 || pos.next < limit {
		r, whole := recordAt(data, at)
		if !whole {
			break
		}
		if reason := pos.follows(r); reason != "" {
			return at, "", &CorruptError{Segment: name, Offset: at, Reason: reason}
		}
		if err := visit(r); err != nil {
			return at, "", err
		}
		*pos = position{next: r.seq + 1, term: r.term, last: r.hash}
		at += r.size()
	}
	if limit != 0 && pos.next < limit {
		reason := fmt.Sprintf("record %d of a segment that ends with %d is damaged or missing", pos.next, limit-1)
		return at, "", &CorruptError{Segment: name, Offset: at, Reason: reason}
	}
	if limit != 0 {
		return at, "", nil
	}
	torn, damage := judgeTail(data, at, pos.next)
	if damage != "" {
		return at, "", &CorruptError{Segment: name, Offset: at, Reason: damage}
	}
	return at, torn, nil
}

// follows says why r is not the next record of the chain, "" if it is.
func (p *position) follows(r record) string {
	switch {
	case r.seq != p.next:
		return fmt.Sprintf("record %d stands where %d belongs", r.seq, p.next)
	case r.term < p.term:
		return fmt.Sprintf("record %d has term %d after term %d", r.seq, r.term, p.term)
	case r.hash != chain(p.last, r.seq, r.term, r.payload):
		return fmt.Sprintf("record %d breaks the hash chain", r.seq)
	}
	return ""
}

// recordAt returns the record at offset at; false if there is no whole one.
func recordAt(data []byte, at int64) (record, bool) {
	h, ok := headerAt(data, at)
	if !ok || at+blockSize+int64(h.length) > int64(len(data)) {
		return record{}, false
	}
	body := data[at+blockSize : min(at+h.size(), int64(len(data)))]
	payload, padding := body[:h.length], body[h.length:]
	if checksum(payload) != h.crc || !allZero(padding) {
		return record{}, false
	}
	return record{header: h, payload: payload}, true
}

func headerAt(data []byte, at int64) (header, bool) {
	if at+blockSize > int64(len(data)) {
		return header{}, false
	}
	return parseHeader(data[at:])
}

// judgeTail says what stands at the end of the last segment, where record next would be:
// nothing (both results are ""), the torn rest of a commit that was never acknowledged,
// or damage to what was.
func judgeTail(data []byte, at int64, next Seq) (torn, damage string) {
	if at >= int64(len(data)) || allZero(data[at:]) {
		return "", ""
	}
	if later, ok := laterCommit(data, at, next); ok {
		return "", fmt.Sprintf("record %d is damaged or missing, but record %d follows it", next, later)
	}
	block := data[at:min(at+blockSize, int64(len(data)))]
	h, ok := headerAt(data, at)
	switch {
	case ok && at+blockSize+int64(h.length) > int64(len(data)):
		return fmt.Sprintf("the file ends inside record %d", next), ""
	case ok && hasHole(data, at+blockSize, int64(h.length)):
		return fmt.Sprintf("record %d was not written to its end", next), ""
	case ok:
		return "", fmt.Sprintf("record %d has a wrong checksum", next)
	case allZero(block):
		return fmt.Sprintf("record %d was written without its first block", next), ""
	case allZero(data[at+int64(len(block)):]):
		return fmt.Sprintf("the header of record %d was not written to its end", next), ""
	}
	return "", fmt.Sprintf("the header of record %d has a wrong checksum", next)
}

// laterCommit looks behind offset at for a record of a commit that was begun after
// record next was durable.
func laterCommit(data []byte, at int64, next Seq) (Seq, bool) {
	for ; at+blockSize <= int64(len(data)); at += blockSize {
		if h, ok := parseHeader(data[at:]); ok && h.commit() > next {
			return h.seq, true
		}
	}
	return 0, false
}

// hasHole reports whether a sector's part of the n bytes at offset at, or their last byte,
// is still the zero that the file was made of. A payload is text and has no zero byte.
func hasHole(data []byte, at, n int64) bool {
	end := at + n
	if data[end-1] == 0 {
		return true
	}
	for at < end {
		next := min(end, (at/sectorSize+1)*sectorSize)
		if allZero(data[at:next]) {
			return true
		}
		at = next
	}
	return false
}

func allZero(b []byte) bool { return len(bytes.TrimLeft(b, "\x00")) == 0 }
