package server_test

import (
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sluicemesh/sluice/api/server"
	sluicev1 "github.com/sluicemesh/sluice/api/sluice/v1"
	"github.com/sluicemesh/sluice/internal/fakeplane"
)

// With a bound that the evidence cannot meet, all that the symptom reaches is in its group;
// with one that it meets, and with none, evidence chooses.
func TestGroupWidensAboveTheBound(t *testing.T) {
	plane := fakeplane.New()
	members := func(most float64) int {
		t.Helper()
		evidence := &server.Evidence{Snapshots: plane, Registry: plane, MostMissed: most}
		group, err := evidence.Group(&sluicev1.GetGroupRequest{
			Service: "hotel/frontend", Onset: timestamppb.New(plane.Start.Add(-30 * time.Second)),
		})
		if err != nil {
			t.Fatal(err)
		}
		return len(group.GetMembers())
	}
	chosen := members(0)
	if got := members(1); got != chosen {
		t.Errorf("at most 1 missed: %d members, %d where evidence chooses", got, chosen)
	}
	if got := members(1e-9); got <= chosen {
		t.Errorf("at most 1e-9 missed: %d members, want more than the %d that evidence chooses", got, chosen)
	}
}
