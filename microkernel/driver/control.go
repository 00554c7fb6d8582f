package driver

import (
	"slices"
	"time"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/microkernel"
	"github.com/sluicemesh/sluice/microkernel/harm"
)

// control is a service that a plan does not touch, with what it was like before: when it
// gets slower too, so does the machine.
type control struct {
	service mesh.Service
	before  harm.Level
}

// Bounds of the search for controls, which are taken in the order of their names.
const (
	maxCandidates = 64
	maxControls   = 16
)

// candidates are the services outside of the watched ones that had enough requests
// before begin.
func (w *Watcher) candidates(watched []mesh.Service, begin time.Time) []control {
	var found []control
	looked := 0
	for _, service := range w.settings.Topology.Snapshot().Services() {
		if looked == maxCandidates || len(found) == maxControls {
			break
		}
		if slices.Contains(watched, service) {
			continue
		}
		looked++
		if level := harm.Measure(w.past(service, begin)); level.Known() {
			found = append(found, control{service: service, before: level})
		}
	}
	return found
}

// controls are the plan's candidates that nothing disturbed calls, directly or through
// others: a cold cache floods what is below it, which is harm and no slow machine.
func (w *Watcher) controls(order microkernel.Watch) ([]mesh.Service, []harm.Level) {
	var services []mesh.Service
	var levels []harm.Level
	below := w.below(order.Disturbed)
	for _, c := range w.baselines(order.Plan).controls {
		if !below[c.service] {
			services, levels = append(services, c.service), append(levels, c.before)
		}
	}
	return services, levels
}

// below returns services and all that they call, directly or through others.
func (w *Watcher) below(services []mesh.Service) map[mesh.Service]bool {
	graph, seen := w.settings.Topology.Snapshot(), set(services)
	for queue := slices.Clone(services); len(queue) > 0; queue = queue[1:] {
		for _, callee := range graph.Callees(queue[0]) {
			if !seen[callee] {
				seen[callee] = true
				queue = append(queue, callee)
			}
		}
	}
	return seen
}

// compare returns the ticks of the controls in a second; what a plan is expected to slow
// is nothing to compare with.
func (w *Watcher) compare(controls []mesh.Service, e expected, second int64) []harm.Tick {
	ticks := make([]harm.Tick, len(controls))
	for i, service := range controls {
		if !e.slow[service] {
			ticks[i], _ = w.settings.Stats.Tick(service, second)
		}
	}
	return ticks
}
