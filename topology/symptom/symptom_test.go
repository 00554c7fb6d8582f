package symptom

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/topology"
)

const zero = 1_700_000_000

func second(s int) time.Time { return time.Unix(zero+int64(s), 0) }

// bench is a service with traffic and a detector that looks at it every second.
type bench struct {
	world    *mesh.World
	series   *topology.Series
	detector *Detector
	log      []string
	present  bool
}

func newBench() *bench {
	instances := []mesh.Instance{
		{Ref: mesh.Ref{Service: "shop/cart", UID: "u0", Incarnation: 1}, Name: "cart-0", State: mesh.Ready},
		{Ref: mesh.Ref{Service: "shop/cart", UID: "u1", Incarnation: 1}, Name: "cart-1", State: mesh.Ready},
	}
	return &bench{
		world: &mesh.World{Services: []mesh.ServiceState{
			{Name: "shop/cart", Objective: mesh.Objective{P99: 50 * time.Millisecond, Errors: 0.01}, Instances: instances},
			{Name: "shop/quiet", Objective: mesh.Objective{Errors: 0.01}},
		}},
		series: topology.NewSeries(), detector: New(Defaults()),
	}
}

// run gives n requests a second in [from, to), errors of them failed and slow of them
// slower than the objective, and ticks at the end of each second.
func (b *bench) run(from, to, n, errors, slow int) {
	for at := from; at < to; at++ {
		for i := range n {
			call := topology.Call{
				Caller: "outside/ingress", Callee: "shop/cart", At: second(at), Source: topology.AccessLog,
				Latency: 5 * time.Millisecond, Failed: i < errors,
			}
			if n-i <= slow {
				call.Latency = time.Second
			}
			b.series.Record(call)
		}
		b.tick(at + 1)
	}
}

// tick logs when the symptom begins and ends.
func (b *bench) tick(at int) {
	b.series.Advance(second(at))
	found := b.detector.Tick(second(at), b.world, b.series)
	if len(found) > 1 {
		b.log = append(b.log, fmt.Sprintf("%d symptoms at %d", len(found), at))
	}
	switch {
	case len(found) == 1 && !b.present:
		b.log = append(b.log, fmt.Sprintf("%d: %s since %d: %s", at, found[0].Service, found[0].Onset.Unix()-zero, found[0].Evidence))
	case len(found) == 0 && b.present:
		b.log = append(b.log, fmt.Sprintf("%d: healthy", at))
	}
	b.present = len(found) > 0
}

func (b *bench) expect(t *testing.T, want ...string) {
	t.Helper()
	if got := strings.Join(b.log, "\n"); got != strings.Join(want, "\n") {
		t.Errorf("log:\n%s\nwant:\n%s", got, strings.Join(want, "\n"))
	}
}

func TestErrorsAreNoticedWithinASecondAndEndAfterTen(t *testing.T) {
	b := newBench()
	b.run(0, 30, 100, 0, 0)
	b.run(30, 40, 100, 50, 0)
	b.run(40, 70, 100, 0, 0)
	b.expect(t,
		"31: shop/cart since 30: errors 16.67% of 300 requests in 3s (objective 1.00%)",
		"52: healthy")
}

func TestSlowRequestsAreNoticed(t *testing.T) {
	b := newBench()
	b.run(0, 30, 100, 0, 0)
	b.run(30, 40, 100, 0, 30)
	b.expect(t, "32: shop/cart since 30: 20.0% of 300 requests slower than 50ms in 3s")
}

func TestABlipIsNoSymptom(t *testing.T) {
	b := newBench()
	b.run(0, 30, 100, 0, 0)
	b.run(30, 31, 100, 5, 0) // 5 % for a second: above the objective in the short window alone
	b.run(31, 60, 100, 0, 4) // 4 % slow is below the share
	b.run(60, 61, 4, 4, 0)
	b.expect(t)
}

func TestTwoErrorsOfAnIdleServiceAreNoSymptom(t *testing.T) {
	b := newBench()
	for at := 0; at < 60; at += 5 {
		b.run(at, at+1, 2, 2, 0)
	}
	b.expect(t)
}

func TestFlappingIsOneSymptom(t *testing.T) {
	b := newBench()
	b.run(0, 30, 100, 0, 0)
	for at := 30; at < 90; at += 10 {
		b.run(at, at+3, 100, 50, 0)
		b.run(at+3, at+10, 100, 0, 0)
	}
	b.run(90, 110, 100, 0, 0)
	if len(b.log) != 2 || !strings.HasSuffix(b.log[1], "healthy") {
		t.Errorf("log %q, want one symptom and its end", b.log)
	}
}

func TestAStoppedInstanceIsASymptomWhileTrafficFlows(t *testing.T) {
	b := newBench()
	b.run(0, 30, 10, 0, 0)
	b.world.Services[0].Instances[1].State = mesh.Stopped
	b.run(30, 40, 10, 0, 0)
	b.world.Services[0].Instances[1].State = mesh.Ready
	b.run(40, 60, 10, 0, 0)
	b.expect(t, "33: shop/cart since 31: instance cart-1 stopped", "50: healthy")
}

func TestAnInstanceRestartedOnPurposeIsNoSymptom(t *testing.T) {
	b := newBench()
	b.run(0, 30, 10, 0, 0)
	b.world.Services[0].Instances[1].State = mesh.Stopped
	b.detector.Expect([]mesh.Service{"shop/cart"})
	b.run(30, 60, 10, 0, 0)
	b.expect(t)
}

func TestAStoppedInstanceWithoutTrafficIsNoSymptom(t *testing.T) {
	b := newBench()
	b.world.Services[0].Instances[1].State = mesh.Stopped
	for at := range 60 {
		b.tick(at)
	}
	b.expect(t)
}

func TestServicesThatLeaveAreForgotten(t *testing.T) {
	b := newBench()
	b.run(0, 30, 100, 50, 0)
	b.world.Services = nil
	b.tick(31)
	if len(b.detector.services) != 0 || len(b.detector.down) != 0 {
		t.Errorf("%d services and %d instances remembered, want none", len(b.detector.services), len(b.detector.down))
	}
}

func TestHealthyNoiseGivesNoFalseAlarm(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	b := newBench()
	for at := range 400 { // log-normal, p99 about 40 ms; 0.3 % errors
		for range 100 {
			b.series.Record(topology.Call{
				Caller: "outside/ingress", Callee: "shop/cart", At: second(at), Source: topology.AccessLog,
				Latency: time.Duration(10e6 * math.Exp(0.6*rng.NormFloat64())), Failed: rng.Float64() < 0.003,
			})
		}
		b.tick(at + 1)
	}
	b.expect(t)
}
