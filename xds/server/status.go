package server

import (
	"time"

	"github.com/sluicemesh/sluice/mesh"
)

// ProxyStatus is what is known of one proxy.
type ProxyStatus struct {
	Node      string
	Service   mesh.Service
	Connected time.Time // since when; zero = not connected
	Envoy     string    // version, "" before it first connected
	Types     []TypeStatus
	Overlays  []mesh.OverlayKey // in force at it
}

// TypeStatus is how far one resource type got at one proxy.
type TypeStatus struct {
	Type      string // "CDS", "EDS", "LDS", "RDS", "RTDS"
	Resources int
	Sent      uint64 // version last sent, 0 = none
	Acked     uint64 // version last ACKed, 0 = none
	AckedAt   time.Time
	Nack      string // Envoy's text, "" unless the last answer was a NACK
	NackedAt  time.Time
}
