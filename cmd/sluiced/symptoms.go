package main

import (
	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/topology"
	"github.com/sluicemesh/sluice/topology/feed"
	"github.com/sluicemesh/sluice/topology/symptom"
)

// symptoms lists the broken objectives.
type symptoms struct{ feed *feed.Feed }

// Symptoms implements server.Symptoms.
func (s symptoms) Symptoms() []symptom.Symptom { return s.feed.Present() }

// onsets lists them as the kernel wants them.
type onsets struct{ feed *feed.Feed }

// Symptoms implements driver.Symptoms.
func (o onsets) Symptoms() []topology.Symptom {
	present := o.feed.Present()
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
