package server_test

import (
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/sluicemesh/sluice/api/server"
	sluicev1 "github.com/sluicemesh/sluice/api/sluice/v1"
	"github.com/sluicemesh/sluice/internal/fakeplane"
	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/topology"
)

// past has a snapshot and a registry, and nothing else.
type past struct{ snapshot *topology.Snapshot }

func (p past) Snapshot() *topology.Snapshot { return p.snapshot }
func (p past) World() *mesh.World           { return &mesh.World{} }

func TestStatisticsBySecond(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	graph := topology.NewGraph()
	graph.Register(&mesh.World{Services: []mesh.ServiceState{{Name: "shop/cart"}, {Name: "shop/front"}}})
	for back := int64(1); back <= 100; back++ {
		for i := range 3 {
			graph.Observe(topology.Call{
				Caller: "shop/front", Callee: "shop/cart", At: time.Unix(now.Unix()-back, 0), Latency: time.Duration(i+1) * time.Millisecond,
				Failed: i == 0 && back == 10, Source: topology.AccessLog,
			})
		}
	}
	at := past{graph.Snapshot(now)}
	evidence := &server.Evidence{Snapshots: at, Registry: at}
	answer := evidence.Statistics(&sluicev1.GetStatisticsRequest{From: now.Unix() - 20, Edges: true})
	if answer.GetFrom() != now.Unix()-20 || answer.GetSeconds() != 18 || len(answer.GetTracks()) != 2 {
		t.Fatalf("answer from %d, %d s, %d tracks", answer.GetFrom(), answer.GetSeconds(), len(answer.GetTracks()))
	}
	for i, caller := range []string{"", "shop/front"} {
		track := answer.GetTracks()[i]
		if track.GetCaller() != caller || track.GetCallee() != "shop/cart" || len(track.GetTicks()) != 18 {
			t.Errorf("track %q -> %q of %d ticks", track.GetCaller(), track.GetCallee(), len(track.GetTicks()))
		}
		tick := track.GetTicks()[10]
		if tick.GetSecond() != 10 || tick.GetRequests() != 3 || tick.GetErrors() != 1 || len(tick.GetLatencies()) != 3 || len(tick.GetCounts()) != 3 {
			t.Errorf("tick %+v", tick)
		}
	}
	oldest := evidence.Statistics(&sluicev1.GetStatisticsRequest{Seconds: 5})
	if oldest.GetSeconds() != 5 || oldest.GetFrom() >= now.Unix()-590 {
		t.Errorf("the oldest: from %d s ago, %d s", now.Unix()-oldest.GetFrom(), oldest.GetSeconds())
	}
	if late := evidence.Statistics(&sluicev1.GetStatisticsRequest{From: now.Unix() + 50}); late.GetSeconds() != 0 {
		t.Errorf("%d s of the future", late.GetSeconds())
	}
}

func TestStatisticsAreBounded(t *testing.T) {
	_, url := serve(t)
	api := dial(t, url, fakeplane.ViewerToken)
	for name, question := range map[string]*sluicev1.GetStatisticsRequest{
		"from": {From: -1}, "seconds": {Seconds: server.MaxSeconds + 1}, "also seconds": {Seconds: -1},
	} {
		if _, err := api.GetStatistics(t.Context(), connect.NewRequest(question)); connect.CodeOf(err) != connect.CodeInvalidArgument {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := api.GetStatistics(t.Context(), connect.NewRequest(&sluicev1.GetStatisticsRequest{})); err != nil {
		t.Error(err)
	}
}
