package driver

import (
	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/topology"
)

// disturbances remembers until when drains that disturb others were in force, of all
// plans and over the end of a watch: evidence of a second comes seconds after it.
type disturbances struct {
	held map[mesh.Service]int64 // callee -> last Unix second in which its requests were held
}

// forget is after how many seconds a drain that is gone is forgotten; more than any delay
// of evidence.
const forget = 60

// note takes the overlays that are in force in the second now.
func (d *disturbances) note(overlays []mesh.Overlay, now int64) {
	if d.held == nil {
		d.held = map[mesh.Service]int64{}
	}
	for callee, last := range d.held {
		if now-last > forget {
			delete(d.held, callee)
		}
	}
	for i := range overlays {
		if drain := overlays[i].Drain; drain != nil && drain.OnEmpty == mesh.OnEmptyHold {
			d.held[overlays[i].Key.Callee] = now
		}
	}
}

// slow returns the services that are expected to be slow in a second: those whose
// requests were held, and all upstream of them.
func (d *disturbances) slow(graph *topology.Snapshot, second int64) map[mesh.Service]bool {
	held := during(d.held, second)
	out := make(map[mesh.Service]bool, len(held))
	if len(held) == 0 {
		return out
	}
	for _, service := range append(graph.Blast(held), held...) {
		out[service] = true
	}
	return out
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
	return out
}
