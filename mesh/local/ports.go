package local

import (
	"hash/fnv"
	"maps"
	"net"
	"net/netip"
	"path/filepath"
)

// The range from which ports are chosen: below the ephemeral ports of Linux, so
// that no outgoing connection takes one away between two starts.
const (
	firstPort = 20000
	lastPort  = 32767
)

// ports chooses listeners' ports and remembers them by key, so that a mesh comes
// back at the same addresses.
type ports struct {
	path  string
	known map[string]uint16 // of earlier starts
	taken map[string]uint16 // of this one
	used  map[uint16]bool
	next  uint16
}

// openPorts loads what earlier starts chose.
func openPorts(dir string) (*ports, error) {
	p := &ports{
		path: filepath.Join(dir, "ports.json"), known: make(map[string]uint16),
		taken: make(map[string]uint16), used: make(map[uint16]bool),
	}
	if err := loadJSON(p.path, &p.known); err != nil {
		return nil, err
	}
	for _, port := range p.known {
		p.used[port] = true
	}
	// Meshes side by side begin to look at different places.
	hash := fnv.New32a()
	hash.Write([]byte(dir))
	p.next = uint16(firstPort + hash.Sum32()%(lastPort-firstPort+1))
	return p, nil
}

// take returns the address of the listener called key: the remembered one, unless
// something else listens there, or a free one. With held it is surely the
// remembered one, since the living child listens on it.
func (p *ports) take(key string, held bool) (netip.AddrPort, error) {
	if port, ok := p.known[key]; ok && (held || free(port)) {
		p.taken[key] = port
		return loopback(port), nil
	}
	for range lastPort - firstPort + 1 {
		port := p.next
		if p.next++; p.next > lastPort {
			p.next = firstPort
		}
		if p.used[port] || !free(port) {
			continue
		}
		p.used[port] = true
		p.taken[key] = port
		return loopback(port), nil
	}
	return netip.AddrPort{}, failed("end something that listens there", "no port from %d to %d is free",
		firstPort, lastPort)
}

// fixed returns the address of a listener whose port the user has chosen.
func (p *ports) fixed(key string, port uint16, held bool) (netip.AddrPort, error) {
	if !held || p.known[key] != port {
		if err := bindable(port); err != nil {
			return netip.AddrPort{}, failed("end what listens there, or write port: 0 in the mesh file to have one chosen",
				"ingress port %d cannot be had: %v", port, err)
		}
	}
	p.used[port] = true
	p.taken[key] = port
	return loopback(port), nil
}

// save remembers what was taken, besides what it already knew.
func (p *ports) save() error {
	all := maps.Clone(p.known)
	maps.Copy(all, p.taken)
	if len(all) > 4096 { // many meshes have come and gone in this directory
		all = p.taken
	}
	return saveJSON(p.path, all)
}

// free reports whether port can be bound on loopback.
func free(port uint16) bool { return bindable(port) == nil }

// bindable returns why port cannot be bound on loopback.
func bindable(port uint16) error {
	listener, err := net.Listen("tcp4", loopback(port).String())
	if err != nil {
		return err // it says it all: "listen tcp4 127.0.0.1:8080: bind: address already in use"
	}
	return listener.Close()
}

// loopback returns 127.0.0.1:port.
func loopback(port uint16) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port)
}
