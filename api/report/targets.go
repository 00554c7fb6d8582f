package report

import (
	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/microkernel"
)

// Targets names what the steps of one plan act on, with instances by name where the facts
// of its verdict know them.
type Targets struct {
	drains map[isa.StepID]isa.Drain
	names  map[mesh.UID]string
}

// NewTargets returns those of record. O(steps + instances).
func NewTargets(record *microkernel.Record) Targets {
	t := Targets{drains: map[isa.StepID]isa.Drain{}, names: map[mesh.UID]string{}}
	for i := range record.Steps {
		if drain, ok := record.Steps[i].Step.Action.(isa.Drain); ok {
			t.drains[record.Steps[i].Step.ID] = drain
		}
	}
	for i := range record.View.Services {
		for j := range record.View.Services[i].Instances {
			instance := &record.View.Services[i].Instances[j]
			t.names[instance.UID] = instance.Name
		}
	}
	return t
}

// Of names what action acts on, "" for none; a restore acts on its drain's target.
func (t Targets) Of(action isa.Action) string {
	switch action := action.(type) {
	case nil:
		return ""
	case isa.RestoreTraffic:
		return t.text(t.drains[action.Drain].Target)
	case isa.Await:
		return t.text(t.drains[action.Drain].Target)
	case isa.RollbackConfig:
		return action.Object
	}
	target, _ := isa.TargetOf(action)
	return t.text(target)
}

func (t Targets) text(target isa.Target) string {
	if name := t.names[target.UID]; name != "" {
		target.Instance, target.UID = name, ""
	}
	target.UIDs = nil
	return isa.FormatTarget(target)
}
