package topology

import "github.com/sluicemesh/sluice/mesh"

// recent remembers where calls between two names were counted last, so that the next
// one costs no look-up by name. Two pairs may contend for a place; the later one has it.
// It holds registered names only and is thrown away when the registration changes.
type recent [recentPlaces]recentPlace

const recentPlaces = 1 << 12

type recentPlace struct {
	caller, callee mesh.Service // both "" = free
	at             int32        // the edge; if caller is "", the track of what callee reports
}

// noService is no track: the service is not registered.
const noService = -2

// place returns the place of a pair.
func (g *Graph) place(caller, callee mesh.Service) *recentPlace {
	if g.recent == nil {
		g.recent = new(recent)
	}
	mixed := tail(caller)*0x9e3779b97f4a7c15 ^ tail(callee)*0xc2b2ae3d27d4eb4f
	return &g.recent[(mixed^mixed>>29)*0xff51afd7ed558ccd>>52%recentPlaces]
}

// tail returns the last bytes and the length of a name: names differ there.
func tail(name mesh.Service) uint64 {
	n := len(name)
	if n < 8 {
		sum := uint64(n)
		for i := range n {
			sum = sum<<8 | uint64(name[i])
		}
		return sum
	}
	end := name[n-8:]
	return uint64(end[0]) | uint64(end[1])<<8 | uint64(end[2])<<16 | uint64(end[3])<<24 |
		uint64(end[4])<<32 | uint64(end[5])<<40 | uint64(end[6])<<48 | uint64(end[7])<<56 + uint64(n)
}

// recentEdge is edge, remembered.
func (g *Graph) recentEdge(caller, callee mesh.Service) int32 {
	place := g.place(caller, callee)
	if place.caller == caller && place.callee == callee {
		return place.at
	}
	e := g.edge(caller, callee)
	if e >= 0 {
		*place = recentPlace{caller, callee, e}
	}
	return e
}

// recentServed returns the track of what callee reports of itself, -1 if there is no
// room for one, noService if it is not registered.
func (g *Graph) recentServed(callee mesh.Service) int32 {
	place := g.place("", callee)
	if place.caller == "" && place.callee == callee && callee != "" {
		return place.at
	}
	if id, known := g.ids[callee]; !known || !g.registered[id] {
		return noService
	}
	track := g.series.track(trackKey{byServer, "", callee})
	if track >= 0 {
		*place = recentPlace{"", callee, track}
	}
	return track
}
