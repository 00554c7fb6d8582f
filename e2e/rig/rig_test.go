package rig

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	sluicev1 "github.com/sluicemesh/sluice/api/sluice/v1"
)

func stamp(seconds int64) *timestamppb.Timestamp { return &timestamppb.Timestamp{Seconds: seconds} }

// The first effect is the earliest step that began, whatever its place in the list.
func TestEffects(t *testing.T) {
	plan := &sluicev1.Plan{Steps: []*sluicev1.PlanStep{
		{Id: "waits"},
		{Id: "second", Started: stamp(20), Acked: stamp(21)},
		{Id: "first", Started: stamp(10), Acked: stamp(12), Ended: stamp(15)},
	}}
	first, confirmed := Effects(plan)
	if first == nil || first.Unix() != 10 || confirmed == nil || confirmed.Unix() != 12 {
		t.Errorf("effects at %v, confirmed %v; want 10 and 12", first, confirmed)
	}
	plan.Steps[2].Acked = nil
	if _, confirmed := Effects(plan); confirmed == nil || confirmed.Unix() != 15 {
		t.Errorf("a step without ACKs is confirmed at %v, want its end", confirmed)
	}
	if first, confirmed := Effects(&sluicev1.Plan{}); first != nil || confirmed != nil {
		t.Error("a plan without steps has effects")
	}
}

func TestRestartsAreServicesInOrder(t *testing.T) {
	plan := &sluicev1.Plan{Steps: []*sluicev1.PlanStep{
		{Action: "drain", Target: "h/profile"},
		{Action: "restart", Target: "h/cache#cache-0"},
		{Action: "restart", Target: "h/profile#profile-0"},
		{Action: "Restart", Target: "h/profile@6483bfdd"},
		{Action: "restoreTraffic", Target: "h/profile"},
	}}
	if got := Restarts(plan); !slices.Equal(got, []string{"h/cache", "h/profile"}) {
		t.Errorf("restarts are %v", got)
	}
}

func TestFinal(t *testing.T) {
	for phase, want := range map[string]bool{"committed": true, "compensated": true, "frozen": true, "refused": true,
		"running": false, "verifying": false, "queued": false, "held": false, "compensating": false} {
		if got := Final(&sluicev1.Plan{Phase: phase}); got != want {
			t.Errorf("%s is final: %t, want %t", phase, got, want)
		}
	}
	if !Final(&sluicev1.Plan{Phase: "later", Ended: stamp(1)}) {
		t.Error("a plan that has an end is not final")
	}
}

func TestCode(t *testing.T) {
	for want, err := range map[int]error{
		ExitDone:        nil,
		ExitNotAchieved: errors.New("no"),
		ExitMissing:     fmt.Errorf("arm: %w", &Error{Code: ExitMissing, Err: errors.New("no envoy")}),
		ExitInterrupted: fmt.Errorf("arm: %w", context.Canceled),
	} {
		if got := Code(err); got != want {
			t.Errorf("%v has code %d, want %d", err, got, want)
		}
	}
}

func TestBinNamesTheRemedy(t *testing.T) {
	t.Chdir(t.TempDir())
	_, err := Bin("sluice")
	if Code(err) != ExitMissing || !strings.Contains(err.Error(), "make build") {
		t.Errorf("error is %v (code %d), want what to do", err, Code(err))
	}
}

func TestAtKeepsUnknownUnknown(t *testing.T) {
	if At(nil) != nil {
		t.Error("no time became a time")
	}
	if at := At(stamp(5)); at == nil || !at.Equal(time.Unix(5, 0)) {
		t.Errorf("5 became %v", at)
	}
}
