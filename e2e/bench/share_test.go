package main

import (
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	sluicev1 "github.com/sluicemesh/sluice/api/sluice/v1"
)

// Of a drain its ACK is the kernel's and the wait for requests is not; a restart is the
// process's; what lies between two steps, and the way back, is the kernel's.
func TestWhatOfAPlanIsTheKernels(t *testing.T) {
	at := func(ms int64) *timestamppb.Timestamp { return timestamppb.New(time.UnixMilli(1_000_000 + ms)) }
	plan := &sluicev1.Plan{Proposed: at(0), Steps: []*sluicev1.PlanStep{
		{Action: "restoreTraffic", Started: at(1510), Ended: at(1530)},
		{Action: "restart", Started: at(205), Ended: at(1505)},
		{Action: "drain", Started: at(4), Acked: at(24), Ended: at(200)},
	}}
	own, all := kernelTime(plan)
	if want := 54 * time.Millisecond; own != want || all != 1530*time.Millisecond {
		t.Errorf("%v of %v, want %v (4 + 20 + 5 + 5 + 20 ms) of 1.53 s", own, all, want)
	}
}
