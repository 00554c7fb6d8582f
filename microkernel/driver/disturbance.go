package driver

import (
	"maps"
	"slices"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/microkernel/harm"
	"github.com/sluicemesh/sluice/topology"
)

// disturbances remembers until when drains that disturb others were in force, of all
// plans and over the end of a watch: evidence of a second comes seconds after it.
type disturbances struct {
	held, shed map[mesh.Service]int64 // callee -> last Unix second in which its requests were
}

// forget is after how many seconds a drain that is gone is forgotten; more than any delay
// of evidence.
const forget = 60

// note takes the overlays that are in force in the second now.
func (d *disturbances) note(overlays []mesh.Overlay, world *mesh.World, now int64) {
	if d.held == nil {
		d.held, d.shed = map[mesh.Service]int64{}, map[mesh.Service]int64{}
	}
	for _, last := range []map[mesh.Service]int64{d.held, d.shed} {
		maps.DeleteFunc(last, func(_ mesh.Service, at int64) bool { return now-at > forget })
	}
	for i := range overlays {
		callee, drain := overlays[i].Key.Callee, overlays[i].Drain
		switch {
		case drain == nil:
		case drain.OnEmpty == mesh.OnEmptyHold:
			d.held[callee] = now
		case drain.OnEmpty == mesh.OnEmptyShed && empty(callee, drain, world):
			d.shed[callee] = now
		}
	}
}

// empty reports whether a drain leaves no instance that could answer, so that it is the
// drain which makes requests fail.
func empty(callee mesh.Service, drain *mesh.DrainOverlay, world *mesh.World) bool {
	to, off := callee, drain.Instances
	if drain.To != "" {
		to, off = drain.To, nil
	}
	state := world.Find(to)
	return state == nil || !slices.ContainsFunc(state.Instances, func(in mesh.Instance) bool {
		return in.State == mesh.Ready && !slices.Contains(off, in.UID)
	})
}

// during returns the services that were last seen in second or later, or in the one
// before: they are looked at once a second.
func during(last map[mesh.Service]int64, second int64) []mesh.Service {
	var out []mesh.Service
	for service, at := range last {
		if second <= at+1 {
			out = append(out, service)
		}
	}
	slices.Sort(out)
	return out
}

// expected is what drains are expected to do in one second.
type expected struct {
	slow  map[mesh.Service]bool // requests are held there or below
	shed  []mesh.Service        // requests fail there on purpose
	above map[mesh.Service]bool // upstream of shed, and may pass the failures on
}

func expectedOf(graph *topology.Snapshot, held, shed []mesh.Service) expected {
	e := expected{slow: set(held), shed: shed, above: map[mesh.Service]bool{}}
	if len(held) > 0 {
		maps.Copy(e.slow, set(graph.Blast(held)))
	}
	if len(shed) > 0 {
		e.above = set(graph.Blast(shed))
	}
	return e
}

func set(services []mesh.Service) map[mesh.Service]bool {
	out := make(map[mesh.Service]bool, len(services))
	for _, s := range services {
		out[s] = true
	}
	return out
}

// passSeconds is how much later than the request below a caller may fail.
const passSeconds = 3

// passing tells which failures of the services of one watch were brought about on
// purpose: where requests are shed, all; upstream of that, as many as were shed in the
// last seconds and have not been passed on yet. What fails beyond that counts.
type passing struct {
	services []mesh.Service
	credit   []uint64 // by service: shed and not passed on
	recent   [passSeconds]uint64
}

func newPassing(services []mesh.Service) *passing {
	return &passing{services: services, credit: make([]uint64, len(services))}
}

// excuse fills in Shed of reports, which are in the order of the services; shed is how
// many requests were shed in their second.
func (p *passing) excuse(e expected, shed uint64, reports []harm.Report) {
	copy(p.recent[1:], p.recent[:passSeconds-1])
	p.recent[0] = shed
	most := uint64(0)
	for _, n := range p.recent {
		most += n
	}
	for i, service := range p.services {
		switch {
		case slices.Contains(e.shed, service):
			reports[i].Shed = reports[i].Errors
		case e.above[service]:
			p.credit[i] = min(p.credit[i]+shed, most)
			reports[i].Shed = min(reports[i].Errors, p.credit[i])
			p.credit[i] -= reports[i].Shed
		default:
			p.credit[i] = 0
		}
	}
}
