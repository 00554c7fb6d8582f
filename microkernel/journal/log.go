package journal

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"syscall"

	"github.com/sluicemesh/sluice/microkernel"
)

// Settings are the sizes of a log; zero fields stand for the defaults.
type Settings struct {
	Segment int64 // bytes of a new segment, default 4 MiB
	Reserve int64 // bytes kept for restoring on a full disk, default 1 MiB; less than Segment
}

// Entry is one event of the journal.
type Entry struct {
	Seq   Seq
	Term  uint64
	Hash  Hash
	Event microkernel.Event
}

// Log is the journal in a directory. It is not safe for concurrent use.
type Log struct {
	disk     Disk
	settings Settings
	lock     io.Closer
	segments []string // names, in order
	file     File     // the last segment
	end      int64    // offset of the next record in it; a multiple of blockSize
	capacity int64    // bytes of it that may be used
	sealed   int64    // bytes of the segments before it
	reserved bool     // it was the reserve
	pos      position
	torn     string
	broken   error // every later Append returns it
}

// Open opens the journal on disk, making it if there is none, locks it, and checks every
// record of it. A torn tail is dropped. Errors: ErrLocked, *CorruptError, *FullError, or
// that of the disk.
func Open(disk Disk, settings Settings) (*Log, error) {
	l := &Log{disk: disk, settings: settings.withDefaults(), pos: position{next: 1}}
	lock, err := disk.Lock(lockName)
	if err != nil {
		return nil, err
	}
	l.lock = lock
	if err := l.load(); err != nil {
		_ = l.Close() // err is the one that matters
		return nil, err
	}
	return l, nil
}

func (s Settings) withDefaults() Settings {
	if s.Segment == 0 {
		s.Segment = 4 << 20
	}
	if s.Reserve == 0 {
		s.Reserve = 1 << 20
	}
	return s
}

// load reads what is there and makes ready for the next Append.
func (l *Log) load() error {
	names, reserve, err := list(l.disk)
	if err != nil {
		return err
	}
	if len(names) == 0 && reserve {
		return &CorruptError{Reason: "every segment is missing"}
	}
	base, err := beginning(l.disk, names)
	if err != nil {
		return err
	}
	if err := putAway(l.disk, names[:base]); err != nil { // a crash kept Compact from it
		return err
	}
	l.segments = names[base:]
	if len(l.segments) == 0 {
		if err := l.rotate(0); err != nil {
			return err
		}
	} else if err := l.resume(); err != nil {
		return err
	}
	if !reserve && !l.reserved {
		return l.makeReserve()
	}
	return nil
}

// list returns the names of the segments in order, and whether the reserve is there.
func list(disk Disk) (segments []string, reserve bool, err error) {
	names, err := disk.List()
	if err != nil {
		return nil, false, fmt.Errorf("list journal: %w", err)
	}
	for _, name := range names {
		if strings.HasSuffix(name, segmentSuffix) {
			segments = append(segments, name)
		}
	}
	return segments, slices.Contains(names, reserveName), nil
}

// resume checks all segments and goes on behind the last record.
func (l *Log) resume() error {
	walk, err := walkSegments(l.disk, l.segments, func(record) error { return nil })
	if err != nil {
		return err
	}
	l.pos, l.end, l.sealed, l.torn = walk.pos, walk.end, walk.sealed, walk.torn
	l.capacity, l.reserved = walk.size, walk.size <= l.settings.Reserve
	if l.file, err = l.disk.Open(l.segments[len(l.segments)-1]); err != nil {
		return fmt.Errorf("open journal: %w", err)
	}
	if l.torn == "" {
		return nil
	}
	if err := zero(l.file, l.end, walk.size); err != nil {
		return fmt.Errorf("drop the torn tail of the journal: %w", err)
	}
	if err := l.file.Sync(); err != nil {
		return &SyncError{Err: err}
	}
	return nil
}

// walked is the end of a walk over all segments.
type walked struct {
	pos    position
	end    int64  // offset behind the last record, in the last segment
	size   int64  // of the last segment
	sealed int64  // bytes of the segments before it
	torn   string // what was torn there
}

// walkSegments calls visit for every record of segments, in order.
func walkSegments(disk Disk, segments []string, visit func(record) error) (walked, error) {
	from, err := start(disk, segments)
	if err != nil {
		return walked{}, err
	}
	return walkFrom(from, disk, segments, visit)
}

// walkFrom is walkSegments from a position on.
func walkFrom(from position, disk Disk, segments []string, visit func(record) error) (walked, error) {
	w := walked{pos: from}
	for i, name := range segments {
		data, err := readSegment(disk, name)
		if err != nil {
			return w, err
		}
		first, before, reason := parseSegment(data)
		if reason == "" && (first != w.pos.next || before != w.pos.last || stem(name) != stem(segmentName(first))) {
			reason = fmt.Sprintf("does not go on with record %d of the chain", w.pos.next)
		}
		if reason != "" {
			return w, &CorruptError{Segment: name, Reason: "the segment " + reason}
		}
		limit := Seq(0)
		if i+1 < len(segments) {
			if limit, err = seqOf(segments[i+1]); err != nil {
				return w, err
			}
		}
		w.sealed += w.end
		w.size = int64(len(data))
		if w.end, w.torn, err = scan(name, data, &w.pos, limit, visit); err != nil {
			return w, err
		}
	}
	return w, nil
}

func readSegment(disk Disk, name string) ([]byte, error) {
	f, err := disk.Open(name)
	if err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	defer func() { _ = f.Close() }() // nothing was written through it
	size, err := f.Size()
	if err != nil {
		return nil, fmt.Errorf("journal segment %s: %w", name, err)
	}
	data := make([]byte, size)
	if _, err := f.ReadAt(data, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read journal segment %s: %w", name, err)
	}
	return data, nil
}

func segmentName(first Seq) string { return fmt.Sprintf("%016x%s", uint64(first), segmentSuffix) }

// seqOf is the inverse of segmentName.
func seqOf(name string) (Seq, error) {
	var n uint64
	if _, err := fmt.Sscanf(name, "%016x", &n); err != nil || stem(segmentName(Seq(n))) != stem(name) || n == 0 {
		return 0, &CorruptError{Segment: name, Reason: "the name is none of a segment"}
	}
	return Seq(n), nil
}

// Append writes events as one commit and returns the sequence number of the last when
// all are durable. It is not atomic: after a crash a prefix of them may be there. Errors:
// *EncodeError and *FullError, after which the log is as before; *SyncError, after which
// it takes nothing more; ErrClosed.
func (l *Log) Append(events ...microkernel.Event) (Seq, error) { return l.commit(false, events) }

// AppendReserved is Append for what must still be written when the disk is full: it may
// use the reserve.
func (l *Log) AppendReserved(events ...microkernel.Event) (Seq, error) { return l.commit(true, events) }

func (l *Log) commit(reserve bool, events []microkernel.Event) (Seq, error) {
	if l.broken != nil {
		return 0, l.broken
	}
	pos, out, err := encodeCommit(l.pos, events)
	if err != nil || len(events) == 0 {
		return l.pos.next - 1, err
	}
	if err := l.makeRoom(int64(len(out)), reserve); err != nil {
		return 0, err
	}
	if err := l.write(pos, out); err != nil {
		return 0, err
	}
	return pos.next - 1, nil
}

// write makes out durable behind the last record; pos is the position behind it.
func (l *Log) write(pos position, out []byte) error {
	if _, err := l.file.WriteAt(out, l.end); err != nil {
		return l.failedWrite(err)
	}
	if err := l.file.Sync(); err != nil {
		return l.poison(err)
	}
	l.end += int64(len(out))
	l.pos = pos
	return nil
}

// encodeCommit returns the records of events, and the position behind them.
func encodeCommit(pos position, events []microkernel.Event) (position, []byte, error) {
	var out []byte
	for i, ev := range events {
		payload, err := EncodeEvent(ev)
		if err == nil && len(payload) > maxPayload {
			err = fmt.Errorf("encode event: %d bytes, at most %d are allowed", len(payload), maxPayload)
		}
		if err != nil {
			return pos, nil, &EncodeError{Err: err}
		}
		if led, ok := ev.(microkernel.Led); ok {
			if led.Term <= pos.term {
				return pos, nil, fmt.Errorf("append term %d after term %d", led.Term, pos.term)
			}
			pos.term = led.Term
		}
		h := header{
			length: uint32(len(payload)),
			crc:    checksum(payload),
			seq:    pos.next,
			term:   pos.term,
			index:  uint32(i),
			hash:   chain(pos.last, pos.next, pos.term, payload),
		}
		out = appendRecord(out, h, payload)
		pos = position{next: pos.next + 1, term: pos.term, last: h.hash}
	}
	return pos, out, nil
}

// makeRoom sees to it that need bytes fit behind the last record. A segment that was the
// reserve is left for a new one as soon as there is room for that.
func (l *Log) makeRoom(need int64, reserve bool) error {
	fits := l.end+need <= l.capacity
	if fits && !l.reserved {
		return nil
	}
	err := l.rotate(need)
	full := (*FullError)(nil)
	if !errors.As(err, &full) || !reserve {
		return err
	}
	if fits {
		return nil
	}
	if l.reserved || blockSize+need > l.settings.Reserve {
		full.Reserved = true
		return full
	}
	return l.useReserve(full)
}

// rotate begins a new segment with room for need bytes.
func (l *Log) rotate(need int64) error {
	f, err := l.disk.Create(newName, max(l.settings.Segment, blockSize+need))
	if err != nil {
		return l.noRoom(err)
	}
	if err := l.begin(f, newName); err != nil {
		return err
	}
	l.reserved = false
	if len(l.segments) > 1 {
		return l.makeReserve() // makes it again if it was used up
	}
	return nil
}

// useReserve makes the reserve the next segment.
func (l *Log) useReserve(full *FullError) error {
	f, err := l.disk.Open(reserveName)
	if err != nil {
		full.Reserved = true
		return full
	}
	if err := l.begin(f, reserveName); err != nil {
		return err
	}
	l.reserved = true
	return nil
}

// begin makes f, called name until now, the last segment.
func (l *Log) begin(f File, name string) error {
	size, err := f.Size()
	if err == nil {
		_, err = f.WriteAt(segmentHeader(l.pos.next, l.pos.last), 0)
	}
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = l.disk.Rename(name, segmentName(l.pos.next))
	}
	if err != nil {
		_ = f.Close() // nothing in it counts yet
		return l.poison(err)
	}
	if l.file != nil {
		_ = l.file.Close() // all of it is durable
	}
	l.sealed += l.end
	if n := len(l.segments); n > 0 && l.segments[n-1] == segmentName(l.pos.next) {
		l.segments = l.segments[:n-1] // an empty one, which this one has replaced
	}
	l.segments = append(l.segments, segmentName(l.pos.next))
	l.file, l.end, l.capacity = f, blockSize, size
	return nil
}

// makeReserve preallocates the reserve if it is not there. A disk without room for it is
// no error: the next segment tries again.
func (l *Log) makeReserve() error {
	if _, there, err := list(l.disk); err != nil || there {
		return err
	}
	f, err := l.disk.Create(newName, l.settings.Reserve)
	if err != nil {
		full := (*FullError)(nil)
		if err := l.noRoom(err); !errors.As(err, &full) {
			return err
		}
		return nil
	}
	if err := f.Close(); err != nil {
		return l.poison(err)
	}
	if err := l.disk.Rename(newName, reserveName); err != nil {
		return l.poison(err)
	}
	return nil
}

// failedWrite judges a failed write of records. On a disk that copies on write even a
// preallocated file can want room: the segment is then left as it is.
func (l *Log) failedWrite(err error) error {
	if noSpace(err) {
		l.capacity = l.end
		return &FullError{Err: err}
	}
	return l.poison(err)
}

func (l *Log) noRoom(err error) error {
	if noSpace(err) {
		return &FullError{Err: err}
	}
	return l.poison(err)
}

func noSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

func (l *Log) poison(err error) error {
	l.broken = &SyncError{Err: err}
	return l.broken
}

// Replay calls visit for every event, oldest first, and returns its first error. A
// payload that cannot be decoded is a *CorruptError.
func (l *Log) Replay(visit func(Entry) error) error {
	_, err := walkSegments(l.disk, l.segments, decoding(visit))
	return err
}

// decoding returns a visitor of records that hands their events to visit.
func decoding(visit func(Entry) error) func(record) error {
	return func(r record) error {
		ev, err := DecodeEvent(r.payload)
		if err != nil {
			return &CorruptError{Reason: fmt.Sprintf("record %d: %v", r.seq, err)}
		}
		return visit(Entry{Seq: r.seq, Term: r.term, Hash: r.hash, Event: ev})
	}
}

// Torn says what Open dropped at the end of the journal, "" if nothing.
func (l *Log) Torn() string { return l.torn }

// Close gives the journal back. What was appended is durable already. A second one does
// nothing.
func (l *Log) Close() error {
	l.broken = ErrClosed
	if l.lock == nil {
		return nil
	}
	var err error
	if l.file != nil {
		err = l.file.Close()
		l.file = nil
	}
	err = errors.Join(err, l.lock.Close())
	l.lock = nil
	return err
}
