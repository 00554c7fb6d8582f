package gate

import (
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
	proxies map[string]*proxy
	streams map[int64]*stream
}

type proxy struct {
	types map[string]*Entry
	since time.Time // connected since; zero = not connected
	live  int64     // its stream, 0 = none
}

// stream is one connection of a proxy; nonces are unique only within it.
type stream struct {
	node  string
	sends map[string][]send // by type, in order of sending, not yet answered
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
	return &Ledger{proxies: map[string]*proxy{}, streams: map[int64]*stream{}}
}

// Open notes that node has connected as stream. What it took on an earlier connection
// no longer counts: it may be another process; see InSync.
func (l *Ledger) Open(node string, id int64, now time.Time) {
	p := &proxy{types: map[string]*Entry{}, since: now, live: id}
	l.proxies[node] = p
	l.streams[id] = &stream{node: node, sends: map[string][]send{}}
}

// Close notes that a stream has ended. The proxy stays in the books with what it took.
func (l *Ledger) Close(id int64) {
	s := l.streams[id]
	if s == nil {
		return
	}
	delete(l.streams, id)
	if p := l.proxies[s.node]; p != nil && p.live == id {
		p.live, p.since = 0, time.Time{}
	}
}

// Drop forgets a proxy that is no longer in the world.
func (l *Ledger) Drop(node string) { delete(l.proxies, node) }

// Sent notes that version of a type went out under nonce; version 0 is a heartbeat.
func (l *Ledger) Sent(id int64, typ, nonce string, version uint64, now time.Time) {
	s, e := l.entry(id, typ)
	if s == nil {
		return
	}
	pending := append(s.sends[typ], send{nonce: nonce, version: version, at: now})
	if len(pending) > maxUnanswered {
		pending = pending[1:]
	}
	s.sends[typ] = pending
	if version > 0 {
		e.Sent, e.SentAt = version, now
	}
}

// Answer is a proxy's reaction to one send.
type Answer struct {
	Node    string
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
	for i, sent := range s.sends[typ] {
		if sent.nonce != nonce {
			continue
		}
		// Answers come in the order of the sends: what is older will not be answered.
		s.sends[typ] = s.sends[typ][i+1:]
		if sent.version > 0 {
			e.answer(sent.version, text, now)
		}
		return Answer{Node: s.node, Known: true, Version: sent.version, SentAt: sent.at, Nack: text}
	}
	return Answer{Node: s.node}
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
	if s == nil || len(s.sends[typ]) > 0 || e.Nacked > 0 || version <= e.Acked {
		return
	}
	e.Acked, e.AckedAt = version, now
}

// entry returns the stream and its proxy's entry of a type; nil, nil for a stream that
// is unknown or no longer the proxy's.
func (l *Ledger) entry(id int64, typ string) (*stream, *Entry) {
	s := l.streams[id]
	if s == nil {
		return nil, nil
	}
	p := l.proxies[s.node]
	if p == nil || p.live != id {
		return nil, nil
	}
	e := p.types[typ]
	if e == nil {
		e = &Entry{}
		p.types[typ] = e
	}
	return s, e
}

// Entry returns what is known of a type at node.
func (l *Ledger) Entry(node, typ string) Entry {
	if p := l.proxies[node]; p != nil && p.types[typ] != nil {
		return *p.types[typ]
	}
	return Entry{}
}

// State returns how far version, or a later one, got at node.
func (l *Ledger) State(node, typ string, version uint64) State {
	p := l.proxies[node]
	if p == nil {
		return Gone
	}
	e := l.Entry(node, typ)
	switch {
	case e.Acked >= version:
		return Acked
	case e.Nacked >= version:
		return Nacked
	}
	return Pending
}

// Connected returns since when node is connected; zero = it is not.
func (l *Ledger) Connected(node string) time.Time {
	if p := l.proxies[node]; p != nil {
		return p.since
	}
	return time.Time{}
}

// Streams counts the open streams.
func (l *Ledger) Streams() int { return len(l.streams) }
