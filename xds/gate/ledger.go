package gate

import (
	"slices"
	"time"
)

// State is how far a version got at a proxy.
type State int

// States.
const (
	Pending State = iota // not yet sent, or sent and not answered
	Acked
	Nacked
	Gone // the proxy is no longer in the books
)

// String returns the state's name.
func (s State) String() string {
	switch s {
	case Pending:
		return "pending"
	case Acked:
		return "acked"
	case Nacked:
		return "nacked"
	}
	return "gone"
}

// Entry is what is known of one resource type at one proxy. Versions count the changes
// of that type for that proxy, from 1.
type Entry struct {
	Sent     uint64    // last version sent, 0 = none
	SentAt   time.Time // of Sent
	Acked    uint64    // greatest version that it has taken, 0 = none on this connection
	AckedAt  time.Time
	Nacked   uint64 // version of the last NACK, 0 = none since the last ACK
	NackedAt time.Time
	Text     string // Envoy's words on it
}

// Ledger knows what each proxy was sent and how it answered. The zero value is not
// usable; see NewLedger. It is not safe for concurrent use.
type Ledger struct {
	proxies map[string]*Book
	streams map[int64]*stream
}

// Book is what a ledger knows of one proxy; nil is that of one which it does not know. It
// is valid until the proxy is dropped, and then says Gone.
type Book struct {
	types []record  // few: a list is faster than a map
	since time.Time // connected since; zero = not connected
	live  int64     // its stream, 0 = none
	gone  bool
}

type record struct {
	typ string
	Entry
}

// stream is one connection of a proxy; nonces are unique only within it.
type stream struct {
	book  *Book
	types []sends
}

// sends are the responses of one type that are not yet answered, in order of sending.
type sends struct {
	typ  string
	open []send
}

type send struct {
	nonce   string
	version uint64 // 0 = a heartbeat: its answer says nothing of any version
	at      time.Time
}

// maxUnanswered bounds the sends of one type that a proxy leaves unanswered; the
// oldest is forgotten, and so never counts as ACKed.
const maxUnanswered = 16

// NewLedger returns an empty ledger.
func NewLedger() *Ledger {
	return &Ledger{proxies: map[string]*Book{}, streams: map[int64]*stream{}}
}

// Open notes that node has connected as stream. What it took on an earlier connection
// no longer counts: it may be another process; see InSync.
func (l *Ledger) Open(node string, id int64, now time.Time) *Book {
	b := l.proxies[node]
	if b == nil {
		b = &Book{}
		l.proxies[node] = b
	}
	b.types, b.since, b.live = nil, now, id
	l.streams[id] = &stream{book: b}
	return b
}

// Close notes that a stream has ended. The proxy stays in the books with what it took.
func (l *Ledger) Close(id int64) {
	s := l.streams[id]
	if s == nil {
		return
	}
	delete(l.streams, id)
	if s.book.live == id {
		s.book.live, s.book.since = 0, time.Time{}
	}
}

// Drop forgets a proxy that is no longer in the world.
func (l *Ledger) Drop(node string) {
	if b := l.proxies[node]; b != nil {
		*b = Book{gone: true}
		delete(l.proxies, node)
	}
}

// Sent notes that version of a type went out under nonce; version 0 is a heartbeat.
func (l *Ledger) Sent(id int64, typ, nonce string, version uint64, now time.Time) {
	s, e := l.entry(id, typ)
	if s == nil {
		return
	}
	if len(s.open) == maxUnanswered {
		s.answered(0)
	}
	s.open = append(s.open, send{nonce: nonce, version: version, at: now})
	if version > 0 {
		e.Sent, e.SentAt = version, now
	}
}

// answered forgets the sends up to the ith.
func (s *sends) answered(i int) {
	left := copy(s.open, s.open[i+1:])
	clear(s.open[left:])
	s.open = s.open[:left]
}

// Answer is a proxy's reaction to one send.
type Answer struct {
	Known   bool   // the nonce is one of ours and was not answered yet
	Version uint64 // 0 = a heartbeat
	SentAt  time.Time
	Nack    string // "" = ACK
}

// Answered notes an ACK (text "") or a NACK of nonce. A foreign, stale or repeated
// nonce changes nothing.
func (l *Ledger) Answered(id int64, typ, nonce, text string, now time.Time) Answer {
	s, e := l.entry(id, typ)
	if s == nil {
		return Answer{}
	}
	for i, sent := range s.open {
		if sent.nonce != nonce {
			continue
		}
		s.answered(i) // answers come in the order of the sends: what is older will not be answered
		if sent.version > 0 {
			e.answer(sent.version, text, now)
		}
		return Answer{Known: true, Version: sent.version, SentAt: sent.at, Nack: text}
	}
	return Answer{}
}

// answer records how a version was taken.
func (e *Entry) answer(version uint64, text string, now time.Time) {
	if text != "" {
		e.Nacked, e.NackedAt, e.Text = version, now, text
		return
	}
	if version > e.Acked {
		e.Acked, e.AckedAt = version, now
	}
	if version > e.Nacked {
		e.Nacked, e.Text = 0, ""
	}
}

// InSync notes that the proxy needs nothing to be at version: it said itself that it
// has it. It counts only while no send is unanswered, and not over a NACK, since the
// server's view of the proxy then includes what the proxy may not have.
func (l *Ledger) InSync(id int64, typ string, version uint64, now time.Time) {
	s, e := l.entry(id, typ)
	if s == nil || len(s.open) > 0 || e.Nacked > 0 || version <= e.Acked {
		return
	}
	e.Acked, e.AckedAt = version, now
}

// entry returns the sends of a stream and its proxy's entry of a type; nil, nil for a
// stream that is unknown or no longer the proxy's.
func (l *Ledger) entry(id int64, typ string) (*sends, *Entry) {
	s := l.streams[id]
	if s == nil || s.book.live != id {
		return nil, nil
	}
	i := slices.IndexFunc(s.types, func(s sends) bool { return s.typ == typ })
	if i < 0 {
		i = len(s.types)
		s.types = append(s.types, sends{typ: typ})
	}
	e := s.book.entry(typ)
	if e == nil {
		s.book.types = append(s.book.types, record{typ: typ})
		e = &s.book.types[len(s.book.types)-1].Entry
	}
	return &s.types[i], e
}

// Book returns what is known of node.
func (l *Ledger) Book(node string) *Book { return l.proxies[node] }

// Entry returns what is known of a type at node.
func (l *Ledger) Entry(node, typ string) Entry { return l.proxies[node].Entry(typ) }

// State returns how far version, or a later one, got at node.
func (l *Ledger) State(node, typ string, version uint64) State {
	return l.proxies[node].State(typ, version)
}

// Connected returns since when node is connected; zero = it is not.
func (l *Ledger) Connected(node string) time.Time { return l.proxies[node].Connected() }

// Streams counts the open streams.
func (l *Ledger) Streams() int { return len(l.streams) }

// entry returns the entry of a type, nil if there is none.
func (b *Book) entry(typ string) *Entry {
	for i := range b.types {
		if b.types[i].typ == typ {
			return &b.types[i].Entry
		}
	}
	return nil
}

// Entry returns what is known of a type.
func (b *Book) Entry(typ string) Entry {
	if b != nil {
		if e := b.entry(typ); e != nil {
			return *e
		}
	}
	return Entry{}
}

// State returns how far version of a type, or a later one, got.
func (b *Book) State(typ string, version uint64) State {
	if b == nil || b.gone {
		return Gone
	}
	var acked, nacked uint64
	if e := b.entry(typ); e != nil {
		acked, nacked = e.Acked, e.Nacked
	}
	switch {
	case acked >= version:
		return Acked
	case nacked >= version:
		return Nacked
	}
	return Pending
}

// Connected returns since when the proxy is connected; zero = it is not.
func (b *Book) Connected() time.Time {
	if b == nil {
		return time.Time{}
	}
	return b.since
}
