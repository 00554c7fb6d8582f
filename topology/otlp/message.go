package otlp

import (
	"encoding/binary"

	"github.com/sluicemesh/sluice/topology"
)

// Bounds on what is remembered of messages.
const (
	maxLinks     = 32   // of a span that are followed
	maxQueues    = 4096 // destinations
	maxQueueEnds = 64   // producers of one, and consumers
	maxQueueName = 256  // bytes
)

// messageSalt keeps spans of messages apart from those of calls: a producer may have many
// consumers.
const messageSalt = 0xd6e8feb86659fd93

// link is the context that a span names beside its parent.
type link struct{ trace, id uint64 }

// queue is a destination of messages and who was seen at its ends, by number of name.
type queue struct{ producers, consumers []uint32 }

// takeMessage shows the edges of a PRODUCER or CONSUMER span: to the broker if it is a
// registered service, and from producer to consumer by parent, link, or name of the
// destination. A message says nothing about latency or failure of who takes it.
func (s *scanner) takeMessage(sender *name, sp *span) {
	var shown topology.Call
	if !s.timed(&shown, sp) {
		s.counts.OutOfBounds++
		return
	}
	s.counts.Messages++
	shown = topology.Call{Source: topology.Span, At: shown.At, Existence: true}
	if broker, _ := s.callee(sender.service, sp); broker != nil && broker.service != sender.service {
		s.show(shown, sender, broker)
	}
	if sender.number == 0 {
		return
	}
	if sp.kind == kindProducer {
		if sp.id != 0 {
			s.joinProducer(shown, sender, link{sp.traceID, sp.id})
		}
	} else {
		if sp.parent != 0 {
			s.joinConsumer(shown, sender, link{sp.traceID, sp.parent})
		}
		for _, l := range sp.links {
			s.joinConsumer(shown, sender, l)
		}
	}
	s.joinQueue(shown, sender, sp)
}

// show adds the edge from -> to.
func (s *scanner) show(shown topology.Call, from, to *name) {
	call := s.add()
	*call = shown
	call.Caller, call.Callee = from.service, to.service
}

// between shows the edge from a producer to a consumer, false if one of them is not
// registered any more.
func (s *scanner) between(shown topology.Call, producer, consumer *name) bool {
	if !s.stillKnown(producer) || !s.stillKnown(consumer) {
		return false
	}
	if producer != consumer {
		s.show(shown, producer, consumer)
	}
	return true
}

// joinProducer shows the edge to the consumer that waits for a producer, which then waits
// for further ones.
func (s *scanner) joinProducer(shown topology.Call, sender *name, own link) {
	place, key := s.waits.place(own.trace^messageSalt, own.id)
	other := &s.waits.halves[place]
	if other.key == key && other.server {
		s.between(shown, sender, s.list[other.who])
	}
	*other = half{key: key, who: sender.number}
}

// joinConsumer shows the edge from the producer whose span is named, or waits for it.
func (s *scanner) joinConsumer(shown topology.Call, sender *name, from link) {
	place, key := s.waits.place(from.trace^messageSalt, from.id)
	other := &s.waits.halves[place]
	if other.key == key && !other.server {
		s.between(shown, s.list[other.who], sender)
		return
	}
	*other = half{key: key, who: sender.number, server: true}
}

// joinQueue notes sender at its end of the destination; when it is new there, edges to or
// from all at the other end are shown.
func (s *scanner) joinQueue(shown topology.Call, sender *name, sp *span) {
	q := s.queue(sp)
	if q == nil {
		return
	}
	here, there := &q.producers, q.consumers
	if sp.kind == kindConsumer {
		here, there = &q.consumers, q.producers
	}
	for _, number := range *here {
		if number == sender.number {
			return
		}
	}
	complete := true
	for _, number := range there {
		producer, consumer := sender, s.list[number]
		if sp.kind == kindConsumer {
			producer, consumer = consumer, producer
		}
		complete = s.between(shown, producer, consumer) && complete
	}
	if complete && len(*here) < maxQueueEnds {
		*here = append(*here, sender.number)
	}
}

// queue returns the destination of a span, nil if it names none or there are too many.
func (s *scanner) queue(sp *span) *queue {
	if len(sp.destination) == 0 || len(sp.destination)+len(sp.system) > maxQueueName {
		return nil
	}
	s.key = append(append(append(s.key[:0], sp.system...), 0), sp.destination...)
	q := s.queues[string(s.key)]
	if q == nil && len(s.queues) < maxQueues {
		q = &queue{}
		s.queues[string(s.key)] = q
	}
	return q
}

// readLink reads the context of a Link; one that is none is passed over.
func (sp *span) readLink(data []byte) error {
	if len(sp.links) == maxLinks {
		return nil
	}
	var l link
	r := reader{data: data}
	for r.next() {
		switch {
		case r.is(1, wireBytes):
			l.trace = 0
			if len(r.bytes) == traceIDBytes {
				l.trace = mixed(r.bytes)
			}
		case r.is(2, wireBytes):
			l.id = 0
			if len(r.bytes) == spanIDBytes {
				l.id = binary.LittleEndian.Uint64(r.bytes)
			}
		}
	}
	if l.id != 0 {
		sp.links = append(sp.links, l)
	}
	return r.fault
}
