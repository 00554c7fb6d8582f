package topology

import (
	"slices"
	"time"

	"github.com/sluicemesh/sluice/mesh"
)

// Bounds and defaults of groups.
const (
	MaxGroupSize  = 30 // services of one restart set without an approver
	DrainFanIn    = 20 // a service with more direct callers must be drained
	DefaultWindow = time.Minute
)

// Symptom is a service whose objective is broken.
type Symptom struct {
	Service mesh.Service
	Onset   time.Time      // since when
	Window  time.Duration  // the evidence interval around Onset, 0 = DefaultWindow
	Others  []mesh.Service // services that are symptoms at the same time

	// MostMissed is the greatest Missed.Upper95 with which evidence may choose among the
	// edges: above it all that Service reaches is part of the group. 0 = evidence always
	// chooses.
	MostMissed float64
}

// Level says what a suspect or member of a group is.
type Level string

// Levels of suspects and of members.
const (
	LevelInstance Level = "instance" // suspect: one instance of several
	LevelSubset   Level = "subset"
	LevelService  Level = "service"
	LevelRestart  Level = "restart" // member: in the restart set
	LevelWatch    Level = "watch"   // member: locked and watched only
)

// Group is what belongs together in the recovery of one symptom, or of a planned
// restart. Orders name each service of RestartSet once.
type Group struct {
	Symptom       mesh.Service // "" for a planned restart
	Epoch         string
	Suspects      []Suspect      // best first; the first is the culprit
	Members       []Member       // sorted by service
	RestartSet    []mesh.Service // sorted: the culprits' components and their sticky callers
	DrainOrder    []mesh.Service // callers before callees
	RestartOrder  []mesh.Service // callees before callers
	RestoreOrder  []mesh.Service // callees before callers
	DrainRequired []mesh.Service // of RestartSet, fan-in above DrainFanIn
	BlastRadius   []mesh.Service // all that reach RestartSet by calls, without it
	FanIn         int            // distinct direct callers of RestartSet outside it
	Missed        Missed
}

// Suspect is a possible culprit of a symptom.
type Suspect struct {
	Service  mesh.Service
	Instance string // name, "" = all of Service, or of its Version or Zone
	Version  string // of a subset
	Zone     string // of a subset
	Level    Level
	Score    float64 // share of the symptom that it explains, 0..1
	Reason   string
}

// Member is a service of a group with the edges that brought it in.
type Member struct {
	Service mesh.Service
	Level   Level
	Why     []Edge // empty for the symptom itself
}

// Missed bounds the chance that the next call that touches the group uses an edge
// which is not in the graph.
type Missed struct {
	Upper95 float64 // one-sided 95 % upper bound, 1 = nothing is known
	N       uint64  // calls that it rests on
	Method  string
}

// Planned returns the group of a planned restart of targets: their components and all
// that reach them over sticky edges, with nothing to watch. Unregistered targets are
// left out.
func (s *Snapshot) Planned(targets []mesh.Service) Group {
	return s.groupOf("", nil, nil, s.restartSet(s.numbers(targets), newMarks(len(s.names))))
}

// Group returns the group of a symptom: the closure of it over implicated edges, whole
// components and sticky callers, with its suspects and the restart set of the first, or of
// the first few that cannot be told apart.
// An unregistered service has an empty group.
func (s *Snapshot) Group(symptom Symptom) Group {
	root, known := s.ids[symptom.Service]
	if !known {
		return Group{Symptom: symptom.Service, Epoch: s.epoch, Missed: Missed{Upper95: 1, Method: missedNothing}}
	}
	study := s.newStudy(symptom)
	study.measure(root)
	members, why := study.closure(root)
	if symptom.MostMissed > 0 && s.missed(members).Upper95 > symptom.MostMissed {
		study.wide = true
		members, why = study.closure(root)
	}
	suspects := study.rank(root, members)
	culprits := study.culprits(suspects)
	for _, culprit := range culprits {
		if !slices.Contains(members, culprit) {
			why[culprit] = study.entering(culprit)
		}
	}
	group := s.groupOf(symptom.Service, why, members, s.restartSet(culprits, study.seen))
	group.Suspects = suspects
	return group
}
