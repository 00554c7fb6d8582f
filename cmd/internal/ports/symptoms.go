package ports

import (
	"slices"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/microkernel"
	"github.com/sluicemesh/sluice/topology"
	"github.com/sluicemesh/sluice/topology/feed"
	"github.com/sluicemesh/sluice/topology/symptom"
)

// Symptoms lists the broken objectives.
type Symptoms struct{ Feed *feed.Feed }

// Symptoms implements server.Symptoms.
func (s Symptoms) Symptoms() []symptom.Symptom { return s.Feed.Present() }

// Onsets lists them as the kernel wants them.
type Onsets struct{ Feed *feed.Feed }

// Symptoms implements driver.Symptoms.
func (o Onsets) Symptoms() []topology.Symptom {
	present := o.Feed.Present()
	names := make([]mesh.Service, len(present))
	for i := range present {
		names[i] = present[i].Service
	}
	list := make([]topology.Symptom, len(present))
	for i := range present {
		list[i] = topology.Symptom{Service: present[i].Service, Onset: present[i].Onset, Others: names}
	}
	return list
}

// Expected returns the services that running plans restart, sorted: that they are down is
// no symptom.
func Expected(records []microkernel.Record) []mesh.Service {
	var services []mesh.Service
	for i := range records {
		if p := records[i].Phase; p == microkernel.Running || p == microkernel.Compensating {
			services = append(services, records[i].RestartSet...)
		}
	}
	slices.Sort(services)
	return slices.Compact(services)
}
