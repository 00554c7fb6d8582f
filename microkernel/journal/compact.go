package journal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/sluicemesh/sluice/microkernel"
)

// Size returns the bytes of records that a replay reads.
func (l *Log) Size() int64 { return l.sealed + l.end }

// Compact writes ev, which says what all events so far come to, as the first record of a new
// segment, and puts the segments before it away: a replay begins with ev from then on. It
// returns when ev is durable. After a *FullError or an *EncodeError nothing was written. An
// error that is none of the log's is of putting away; the log goes on, and Open will finish.
func (l *Log) Compact(ev microkernel.Compacted) (Seq, error) {
	if l.broken != nil {
		return 0, l.broken
	}
	pos, out, err := encodeCommit(l.pos, []microkernel.Event{ev})
	if err != nil {
		return 0, err
	}
	if err := l.freshSegment(int64(len(out))); err != nil {
		return 0, err
	}
	if err := l.write(pos, out); err != nil {
		return 0, err
	}
	last := len(l.segments) - 1
	err = putAway(l.disk, l.segments[:last])
	l.segments, l.sealed = l.segments[last:], 0
	return pos.next - 1, err
}

// freshSegment begins a new segment with room for need bytes, unless the last is one.
func (l *Log) freshSegment(need int64) error {
	if l.end == blockSize && !l.reserved && l.end+need <= l.capacity {
		return nil
	}
	return l.rotate(need)
}

// putAway renames segments, the oldest first, so that what is left is always a chain.
func putAway(disk Disk, segments []string) error {
	for _, name := range segments {
		if err := disk.Rename(name, stem(name)+archiveSuffix); err != nil {
			return fmt.Errorf("put journal segment %s away: %w", name, err)
		}
	}
	return nil
}

func stem(name string) string {
	return strings.TrimSuffix(strings.TrimSuffix(name, segmentSuffix), archiveSuffix)
}

// beginning returns the index of the segment with which a replay begins: the last one
// whose first record is a whole Compacted, else the first.
func beginning(disk Disk, segments []string) (int, error) {
	for i, name := range slices.Backward(segments) {
		r, _, err := firstRecord(disk, name)
		if err != nil {
			return 0, err
		}
		if compacted(r.payload) {
			return i, nil
		}
	}
	return 0, nil
}

// compactedPrefix is how the payload of a Compacted begins.
const compactedPrefix = `{"v":1,"type":"Compacted",`

func compacted(payload []byte) bool { return bytes.HasPrefix(payload, []byte(compactedPrefix)) }

// firstRecord returns the first record of a segment and the hash before it; a record
// without payload if it is no whole Compacted.
func firstRecord(disk Disk, name string) (record, Hash, error) {
	f, err := disk.Open(name)
	if err != nil {
		return record{}, Hash{}, fmt.Errorf("open journal: %w", err)
	}
	head := make([]byte, 2*blockSize+len(compactedPrefix))
	n, err := f.ReadAt(head, 0)
	_ = f.Close() // nothing was written through it
	if err != nil && !errors.Is(err, io.EOF) {
		return record{}, Hash{}, fmt.Errorf("read journal segment %s: %w", name, err)
	}
	if n < len(head) || !compacted(head[2*blockSize:]) {
		return record{}, Hash{}, nil
	}
	data, err := readSegment(disk, name)
	if err != nil {
		return record{}, Hash{}, err
	}
	first, before, reason := parseSegment(data)
	r, whole := recordAt(data, blockSize)
	if reason != "" || !whole || r.seq != first {
		return record{}, Hash{}, nil
	}
	return r, before, nil
}

// start is the position before the first record of segments: the beginning of all, or that
// of a Compacted. What begins with neither lacks its beginning, and the walk says so.
func start(disk Disk, segments []string) (position, error) {
	if len(segments) == 0 || stem(segments[0]) == stem(segmentName(1)) {
		return position{next: 1}, nil
	}
	r, before, err := firstRecord(disk, segments[0])
	if err != nil || !compacted(r.payload) {
		return position{next: 1}, err
	}
	return position{next: r.seq, term: r.term, last: before}, nil
}

// archived returns the names of the segments that were put away, in order.
func archived(disk Disk) ([]string, error) {
	names, err := disk.List()
	if err != nil {
		return nil, fmt.Errorf("list journal: %w", err)
	}
	return slices.DeleteFunc(names, func(name string) bool { return !strings.HasSuffix(name, archiveSuffix) }), nil
}

// startOfArchive is start where older parts of an archive may have been taken away: the
// hash before the first record is taken on trust.
func startOfArchive(disk Disk, segments []string) (position, error) {
	if len(segments) == 0 {
		return position{next: 1}, nil
	}
	data, err := readSegment(disk, segments[0])
	if err != nil {
		return position{}, err
	}
	first, before, reason := parseSegment(data)
	if reason != "" {
		return position{}, &CorruptError{Segment: segments[0], Reason: "the segment " + reason}
	}
	return position{next: first, last: before}, nil
}
