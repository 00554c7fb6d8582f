package topology

import (
	"slices"
	"strings"
	"time"

	"github.com/sluicemesh/sluice/mesh"
)

// When an edge ceases to exist: after so many windows in which its caller's proxy or the
// mesh's metrics, which see every request, showed calls of that caller but none on the
// edge, while nothing declares it. Windows without such evidence do not count, nor do
// they for an edge that such evidence never showed: spans alone may be sampled.
const (
	ExpiryWindow  = 10 * time.Minute
	ExpiryWindows = 3
)

// expiry counts windows; the zero value begins with the first look.
type expiry struct {
	start  int64   // Unix seconds, of the window under way; 0 = none
	heard  marks   // by id: callers with unsampled evidence in the window
	absent []uint8 // by edge: windows without it in a row
}

// hear notes unsampled evidence of a caller.
func (x *expiry) hear(caller int32) {
	for int(caller)>>6 >= len(x.heard) {
		x.heard = append(x.heard, 0)
	}
	x.heard.add(caller)
}

// expire closes the window under way if it is over at now. After a pause of more than a
// window one is closed, since nobody was listening.
func (g *Graph) expire(now time.Time) {
	x := &g.expiry
	switch second := now.Unix(); {
	case x.start == 0:
		x.start = second
	case second-x.start >= int64(ExpiryWindow/time.Second):
		g.closeWindow(x.start)
		x.start = second
		clear(x.heard)
	}
}

// closeWindow counts the window that began at start, and drops the edges that were absent
// for long enough.
func (g *Graph) closeWindow(start int64) {
	x := &g.expiry
	x.absent = append(x.absent, make([]uint8, g.edges.len()-len(x.absent))...)
	for e, m := range g.edges.marks {
		caller := int32(g.edges.pairs[e] >> 32)
		if !Source(m).Unsampled() || int(caller)>>6 >= len(x.heard) || !x.heard.has(caller) {
			continue
		}
		f := figureOf(g.edges.figures, int32(e))
		if f == nil || timeOf(f.last).Unix() >= start {
			x.absent[e] = 0
			continue
		}
		if x.absent[e]++; x.absent[e] >= ExpiryWindows {
			g.forget(int32(e))
			x.absent[e] = 0
		}
	}
}

// forget drops the evidence of an edge and what was learned of it; a declaration stays.
func (g *Graph) forget(e int32) {
	f := g.edges.figure(e)
	if pair := g.edges.pairs[e]; g.registered[pair>>32] && g.registered[uint32(pair)] {
		g.requests -= f.best().calls
	}
	*f = figure{tracks: f.tracks}
	g.edges.marks[e] &^= markObserved | markLearnedSticky
	g.dirty = true
}

// When an edge is learned to be sticky: its callee was down or replaced, is ready again,
// and later than stickyAfter the caller's calls still fail that did not before.
const (
	stickyAfter  = 30 * time.Second // after the callee was ready
	stickyLook   = 30 * time.Second // then, for so long
	stickyBefore = time.Minute      // before it went down
)

// recovery is what is known of the last time a service was down.
type recovery struct {
	down, ready int64         // Unix seconds; ready is 0 while it is down
	instances   []incarnation // when it was last seen, sorted
}

type incarnation struct {
	uid   mesh.UID
	count uint64
}

// watch notes which services went down or came back with the world, which holds at the
// time of the last Advance.
func (g *Graph) watch(world *mesh.World) {
	now := g.series.clock
	was := g.recoveries
	g.recoveries = make(map[mesh.Service]*recovery, len(world.Services))
	for i := range world.Services {
		service := &world.Services[i]
		present, ready := incarnations(service)
		r := was[service.Name]
		if r == nil {
			r = &recovery{instances: present, ready: 1, down: 1}
		}
		switch {
		case !ready && r.ready != 0:
			r.down, r.ready = now, 0
		case ready && r.ready == 0:
			r.ready = now
		case ready && !slices.Equal(r.instances, present): // too quick to be seen
			r.down, r.ready = now, now
		}
		r.instances = present
		g.recoveries[service.Name] = r
	}
}

// incarnations returns the instances of a service, sorted, and whether all are ready.
func incarnations(service *mesh.ServiceState) (present []incarnation, ready bool) {
	ready = true
	for i := range service.Instances {
		instance := &service.Instances[i]
		ready = ready && instance.State == mesh.Ready
		present = append(present, incarnation{instance.UID, instance.Incarnation})
	}
	slices.SortFunc(present, func(a, b incarnation) int { return strings.Compare(string(a.uid), string(b.uid)) })
	return present, ready
}

// learn marks the edges whose errors outlived their callee's readiness. It looks once a
// recovery, when the time to look is over.
func (g *Graph) learn(now time.Time) {
	const wait = int64((stickyAfter + stickyLook) / time.Second)
	for service, r := range g.recoveries {
		if r.ready <= 1 || r.down <= 1 || now.Unix() < r.ready+wait {
			continue
		}
		for _, caller := range g.series.callers[service] {
			down, ready := time.Unix(r.down, 0), time.Unix(r.ready, 0)
			before := g.series.EdgeWindow(caller, service, down.Add(-stickyBefore), down)
			after := g.series.EdgeWindow(caller, service, ready.Add(stickyAfter), ready.Add(stickyAfter+stickyLook))
			floor := max(errorFloor, g.registry.objectives[service].Errors)
			if before.Requests >= minBaseline && before.ErrorShare() <= floor &&
				after.Errors >= minBad && after.ErrorShare() > errorGrowth*floor {
				g.MarkSticky(caller, service)
			}
		}
		r.down = 1 // looked at
	}
}
