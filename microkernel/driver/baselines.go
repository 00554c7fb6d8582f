package driver

import (
	"math"
	"slices"
	"strings"

	"github.com/sluicemesh/sluice/microkernel"
	"github.com/sluicemesh/sluice/microkernel/harm"
)

// Baselines implements Measurer.
func (w *Watcher) Baselines(order microkernel.Watch) []microkernel.Baseline {
	w.recall(order)
	w.subjects(order, w.settings.Now())
	known := w.baselines(order.Plan)
	var out []microkernel.Baseline
	for _, s := range known.subjects {
		out = append(out, microkernel.Baseline{
			Service: s.Service, Objective: s.Objective, Broken: s.Broken, Before: written(s.Before), Healthy: written(s.Healthy),
			Shape: s.Shape, Drift: number(s.Unrest.Drift), Dispersion: number(s.Unrest.Dispersion),
		})
	}
	for _, c := range known.controls {
		out = append(out, microkernel.Baseline{Service: c.service, Control: true, Before: written(c.before)})
	}
	slices.SortFunc(out, func(a, b microkernel.Baseline) int { return strings.Compare(string(a.Service), string(b.Service)) })
	return out
}

// recall takes up the baselines that order carries, unless those of its plan are known.
func (w *Watcher) recall(order microkernel.Watch) {
	if len(order.Baselines) == 0 || w.baselines(order.Plan).subjects != nil {
		return
	}
	var subjects []harm.Subject
	var controls []control
	for _, b := range order.Baselines {
		if b.Control {
			controls = append(controls, control{service: b.Service, before: read(b.Before)})
			continue
		}
		subjects = append(subjects, harm.Subject{
			Service: b.Service, Objective: b.Objective, Broken: b.Broken, Before: read(b.Before), Healthy: read(b.Healthy),
			Shape: b.Shape, Unrest: harm.Unrest{Drift: b.Drift, Dispersion: b.Dispersion},
		})
	}
	w.freeze(order.Plan, subjects, controls)
}

// written is a level as the journal holds it, which has no place for what is no number.
func written(l harm.Level) microkernel.Level {
	return microkernel.Level{Requests: l.Requests, Errors: number(l.Errors), P99: l.P99}
}

// number is value, or 0 if it is none.
func number(value float64) float64 {
	if math.IsNaN(value) || math.IsInf(value, 0) {
		return 0
	}
	return value
}

func read(l microkernel.Level) harm.Level {
	return harm.Level{Requests: l.Requests, Errors: l.Errors, P99: l.P99}
}

var _ Measurer = (*Watcher)(nil)
