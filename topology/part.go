package topology

import "github.com/sluicemesh/sluice/mesh"

// part is some of the instances of a service that can be blamed, drained and restarted by
// themselves: one, or all of a version or zone.
type part struct {
	instance, version, zone string // one of them is set
	of                      []int  // indexes of its instances
}

// partsOf returns the parts of instances, the least first: each instance, then each version
// and each zone that has several of them but not all.
func partsOf(instances []mesh.Instance) []part {
	var parts []part
	for i := range instances {
		parts = append(parts, part{instance: instances[i].Name, of: []int{i}})
	}
	for _, by := range []func(*mesh.Instance) part{
		func(i *mesh.Instance) part { return part{version: i.Version} },
		func(i *mesh.Instance) part { return part{zone: i.Zone} },
	} {
		for i := range instances {
			p := by(&instances[i])
			if p.version == "" && p.zone == "" {
				continue
			}
			first := true
			for j := range instances {
				if other := by(&instances[j]); other.version == p.version && other.zone == p.zone {
					first = first && j >= i
					p.of = append(p.of, j)
				}
			}
			if first && len(p.of) > 1 && len(p.of) < len(instances) {
				parts = append(parts, p)
			}
		}
	}
	return parts
}

// String names p: an instance, or a label.
func (p *part) String() string {
	switch {
	case p.version != "":
		return "version " + p.version
	case p.zone != "":
		return "zone " + p.zone
	}
	return p.instance
}

// blame narrows suspect to p.
func (p *part) blame(suspect *Suspect, reason string) {
	suspect.Instance, suspect.Version, suspect.Zone = p.instance, p.version, p.zone
	suspect.Level = LevelSubset
	if p.instance != "" {
		suspect.Level = LevelInstance
	}
	suspect.Reason += reason
}

// justDown reports whether all of p are down, and nothing else is.
func (p *part) justDown(instances []mesh.Instance) bool {
	down := 0
	for i := range instances {
		if isDown(&instances[i]) {
			down++
		}
	}
	for _, at := range p.of {
		if !isDown(&instances[at]) {
			return false
		}
	}
	return down == len(p.of)
}

// badness is how many calls were bad, of how many.
type badness struct{ bad, calls uint64 }

func (b badness) plus(other badness) badness {
	return badness{b.bad + other.bad, b.calls + other.calls}
}

func (b badness) share() float64 { return float64(b.bad) / float64(max(b.calls, 1)) }

// stands reports whether b has nearly all the bad calls of all, and by far the greater share.
func (b badness) stands(all badness) bool {
	rest := badness{all.bad - b.bad, all.calls - b.calls}
	return b.bad >= minBad && float64(b.bad) >= instanceShare*float64(all.bad) &&
		float64(b.bad) >= slowShare*float64(b.calls) && b.share() >= instanceRatio*rest.share()
}
