package microkernel

import (
	"reflect"
	"testing"
)

// A field that is added to the state must be added to its snapshot. (What it is for is
// tested by the scripts, which go on from a snapshot after every event.)
func TestASnapshotHasEveryFieldOfTheState(t *testing.T) {
	for _, pair := range []struct {
		live, kept any
		less       int // fields that are not kept
	}{
		{State{}, Snapshot{}, 0},
		{plan{}, PlanSnapshot{}, 1}, // edited: which step cloned it
		{step{}, StepSnapshot{}, 0},
		{timer{}, TimerSnapshot{}, 0},
		{act{}, ActSnapshot{}, 0},
		{bucket{}, BucketSnapshot{}, 0},
	} {
		live, kept := reflect.TypeOf(pair.live), reflect.TypeOf(pair.kept)
		if live.NumField() != kept.NumField()+pair.less {
			t.Errorf("%s has %d fields, %s %d", live, live.NumField(), kept, kept.NumField())
		}
	}
}

func TestOldFactsOfFinalPlansAreNotKept(t *testing.T) {
	s := New(DefaultPolicy())
	for range keptViews + 3 {
		s.done = append(s.done, &plan{Record: Record{Phase: Committed, View: View{Epoch: "e", GraphSize: 7}}})
	}
	kept := 0
	for _, p := range s.Compact().Done {
		if p.Record.View.Epoch != "e" {
			t.Error("the epoch is gone")
		}
		if p.Record.View.GraphSize == 7 {
			kept++
		}
	}
	if kept != keptViews {
		t.Errorf("%d views are kept, want %d", kept, keptViews)
	}
}
