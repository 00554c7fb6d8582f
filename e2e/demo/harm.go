package main

import (
	"time"

	"github.com/sluicemesh/sluice/e2e/load"
)

// Words of the label.
const (
	harmHarm         = "harm"
	harmNotRecovered = "not-recovered"
	harmClean        = "clean"
	harmInconclusive = "inconclusive"
)

const (
	harmGrace    = 5 * time.Second
	harmBreach   = 30 * time.Second
	harmRequests = 100 // fewer in a window say nothing
)

// harm labels the arm from the load's records alone, per operation of the client: harm
// if an operation that kept its objective under the fault, until somebody acted, missed
// it for 30 s in windows of 5 s after 5 s of grace; else not-recovered or clean; and
// inconclusive if there were too few requests to say so.
func (a *arm) harm(operations []string) *string {
	after := load.Between(a.log.Records, a.timeline.Injected, load.Never)
	label := harmClean
	switch {
	case len(after) < harmRequests:
		label = harmInconclusive
	case a.worse(operations):
		label = harmHarm
	case a.recovered == nil:
		label = harmNotRecovered
	}
	return &label
}

// worse reports whether an operation that was healthy before the action is not since.
func (a *arm) worse(operations []string) bool {
	if a.timeline.Acted == load.Never {
		return false
	}
	for _, operation := range operations {
		var records []load.Record
		for _, r := range a.log.Records {
			if r.Operation == operation {
				records = append(records, r)
			}
		}
		before := load.Between(records, a.timeline.Injected, a.timeline.Acted)
		if len(before) >= harmRequests && a.objective.Met(before) && a.breaches(records) {
			return true
		}
	}
	return false
}

// breaches reports a breach of more than 30 s among records, after the action.
func (a *arm) breaches(records []load.Record) bool {
	if len(records) == 0 {
		return false
	}
	const window = 5 * time.Second
	var lasted time.Duration
	last := records[len(records)-1].Intended
	for at := a.timeline.Acted + harmGrace; at+window <= last; at += time.Second {
		part := load.Between(records, at, at+window)
		if len(part) < harmRequests || a.objective.Met(part) {
			lasted = 0
			continue
		}
		if lasted += time.Second; lasted+window > harmBreach {
			return true
		}
	}
	return false
}
