package driver

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/microkernel"
)

// maxHistory is how many restarts of a service are remembered.
const maxHistory = 100

// history remembers how long restarts took. It is rebuilt from the journal and safe for
// concurrent use.
type history struct {
	mu    sync.Mutex
	begun map[restart]microkernel.Instant
	took  map[mesh.Service][]time.Duration // latest last
}

type restart struct {
	plan microkernel.PlanID
	step isa.StepID
}

func newHistory() *history {
	return &history{begun: map[restart]microkernel.Instant{}, took: map[mesh.Service][]time.Duration{}}
}

// note learns from an event and the effects that it had. A Reboot that is ordered again
// keeps its first beginning.
func (h *history) note(ev microkernel.Event, effects []microkernel.Effect) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch ev := ev.(type) {
	case microkernel.Restarted:
		at := restart{ev.Plan, ev.Step}
		if begun, known := h.begun[at]; known {
			took := append(h.took[ev.Old.Service], ev.When().Sub(begun))
			h.took[ev.Old.Service] = took[max(0, len(took)-maxHistory):]
			delete(h.begun, at)
		}
	case microkernel.Compacted:
		h.recall(&ev.State)
	case microkernel.Failed:
		delete(h.begun, restart{ev.Plan, ev.Step})
	}
	for _, e := range effects {
		switch e := e.(type) {
		case microkernel.Reboot:
			at := restart{e.Plan, e.Step}
			if _, known := h.begun[at]; !known {
				h.begun[at] = ev.When()
			}
		case microkernel.Finish:
			h.forget(e.Plan)
		}
	}
}

// recall learns from the plans of a compact state what the events before it had told.
func (h *history) recall(s *microkernel.Snapshot) {
	h.begun, h.took = map[restart]microkernel.Instant{}, map[mesh.Service][]time.Duration{}
	plans := slices.Concat(s.Done, s.Plans)
	slices.SortFunc(plans, func(a, b microkernel.PlanSnapshot) int { return cmp.Compare(a.Sequence, b.Sequence) })
	for i := range plans {
		for k := range plans[i].Steps {
			r := &plans[i].Steps[k].Record
			if _, is := r.Step.Action.(isa.Restart); !is {
				continue
			}
			switch {
			case r.New.UID != "":
				took := append(h.took[r.Old.Service], r.Ended.Sub(r.Started))
				h.took[r.Old.Service] = took[max(0, len(took)-maxHistory):]
			case r.State == microkernel.StepRunning:
				h.begun[restart{plans[i].Record.ID, r.Step.ID}] = r.Started
			}
		}
	}
}

func (h *history) forget(plan microkernel.PlanID) {
	for at := range h.begun {
		if at.plan == plan {
			delete(h.begun, at)
		}
	}
}

// p99 returns the 99th percentile of the restarts of service and of the declared
// start-up time, 0 if neither is known.
func (h *history) p99(service mesh.Service, declared time.Duration) time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	took := slices.Clone(h.took[service])
	if declared > 0 {
		took = append(took, declared)
	}
	if len(took) == 0 {
		return 0
	}
	slices.Sort(took)
	return took[min(len(took)-1, len(took)*99/100)]
}
