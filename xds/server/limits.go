package server

import "time"

// Limits bounds what proxies may cost. A zero field means its default.
type Limits struct {
	Connections          int           // open at once, 16384
	Nodes                int           // with a stream at once, 16384
	StreamsPerNode       int           // of all services, 64: each worker of an Envoy has a log stream
	StreamsPerConnection uint32        // at once, 1024
	StreamBurst          int           // new streams of one connection at once, 2048
	StreamRate           float64       // new streams of one connection a second in the long run, 128
	Subscriptions        int           // names that one request may carry, and one type of a stream may have, 16384
	MessageBytes         int           // of one request, 4 MiB
	HeaderBytes          uint32        // of one request, 16 KiB
	Handshake            time.Duration // TLS and HTTP/2 preface, 5 s
	FirstMessage         time.Duration // from a stream's start to its first request, 10 s
	Send                 time.Duration // for a proxy to take a response, 10 s
	Ping                 time.Duration // silence after which a connection must answer a ping, 20 s
}

// withDefaults returns l with its zero fields filled in.
func (l Limits) withDefaults() Limits {
	orInt(&l.Connections, 16384)
	orInt(&l.Nodes, 16384)
	orInt(&l.StreamsPerNode, 64)
	orInt(&l.StreamBurst, 2048)
	orInt(&l.Subscriptions, 16384)
	orInt(&l.MessageBytes, 4<<20)
	orTime(&l.Handshake, 5*time.Second)
	orTime(&l.FirstMessage, 10*time.Second)
	orTime(&l.Send, 10*time.Second)
	orTime(&l.Ping, 20*time.Second)
	if l.StreamsPerConnection == 0 {
		l.StreamsPerConnection = 1024
	}
	if l.StreamRate <= 0 {
		l.StreamRate = 128
	}
	if l.HeaderBytes == 0 {
		l.HeaderBytes = 16 << 10
	}
	return l
}

func orInt(v *int, otherwise int) {
	if *v <= 0 {
		*v = otherwise
	}
}

func orTime(v *time.Duration, otherwise time.Duration) {
	if *v <= 0 {
		*v = otherwise
	}
}
