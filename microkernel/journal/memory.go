package journal

import (
	"github.com/sluicemesh/sluice/microkernel"
)

// Memory is a journal that lives as long as the process: for tests, simulation and dry
// runs. It keeps what a Log keeps, encoded. The zero value is empty and ready. It is not
// safe for concurrent use.
type Memory struct {
	records []record
	pos     position
}

// Append is Log.Append; it errs only when an event has no encoding or a term goes back.
func (m *Memory) Append(events ...microkernel.Event) (Seq, error) {
	pos := m.pos
	pos.next = max(pos.next, 1)
	after, out, err := encodeCommit(pos, events)
	if err != nil {
		return 0, err
	}
	for at := int64(0); at < int64(len(out)); {
		r, _ := recordAt(out, at)
		m.records = append(m.records, r)
		at += r.size()
	}
	m.pos = after
	return after.next - 1, nil
}

// AppendReserved is Append.
func (m *Memory) AppendReserved(events ...microkernel.Event) (Seq, error) { return m.Append(events...) }

// Replay is Log.Replay.
func (m *Memory) Replay(visit func(Entry) error) error {
	for _, r := range m.records {
		if err := decoding(visit)(r); err != nil {
			return err
		}
	}
	return nil
}

// Cut returns a copy that ends with the record numbered last: the journal as it was then.
func (m *Memory) Cut(last Seq) *Memory {
	short := &Memory{records: m.records[:min(int(last), len(m.records)):len(m.records)]}
	if n := len(short.records); n > 0 {
		r := short.records[n-1]
		short.pos = position{next: r.seq + 1, term: r.term, last: r.hash}
	}
	short.records = append([]record(nil), short.records...)
	return short
}

// Len returns the number of events.
func (m *Memory) Len() int { return len(m.records) }

// Close does nothing.
func (m *Memory) Close() error { return nil }
