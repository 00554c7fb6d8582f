package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/topology"
	"github.com/sluicemesh/sluice/topology/files"
)

// fault is one labelled recording, or without a fault a recording of normal work.
type fault struct {
	ID       string   `json:"id"`
	App      string   `json:"app"`
	Root     string   `json:"root_cause_service"`
	Fault    *string  `json:"fault"`
	Injected string   `json:"inject_time"`
	Window   [2]int64 `json:"window_s"`
	Baseline string   `json:"baseline"`
	File     string   `json:"file"`
	InSpans  bool     `json:"root_in_symptoms"`
	OnEdge   bool     `json:"root_on_degraded_edge"`
}

// shown reports whether the recording shows its culprit at all, as labelled.
func (f *fault) shown() bool { return f.InSpans || f.OnEdge }

// readCases reads the labels of a data folder: faults, and the normal recordings of
// each application by name.
func readCases(folder string) (faults, normal []fault, err error) {
	paths, err := filepath.Glob(filepath.Join(folder, "cases*.json"))
	if err != nil || len(paths) == 0 {
		return nil, nil, errors.Join(err, fmt.Errorf(
			"%s: no cases*.json: %w; name the folder of spans and cases with DATA=", folder, os.ErrNotExist))
	}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, nil, fmt.Errorf("read cases: %w", err)
		}
		var all []fault
		if err := json.Unmarshal(data, &all); err != nil {
			return nil, nil, fmt.Errorf("%s: %w", path, err)
		}
		for _, f := range all {
			if f.Fault == nil {
				normal = append(normal, f)
			} else {
				faults = append(faults, f)
			}
		}
	}
	return faults, normal, nil
}

// recording is what a case replays: calls, with the injection at its onset.
type recording struct {
	calls []topology.Call
	onset time.Time
	end   time.Time
	names []mesh.Service
}

// What lies between the end of a normal recording and the injection: if it stands in as
// the baseline, and if it is what was before that.
const (
	normalGap = 2 * time.Second
	earlier   = 5 * time.Minute
)

// minBefore is the least time before the injection that serves as a baseline.
const minBefore = 15 * time.Second

// load reads the recording of f. The normal recording of its application is put in front:
// earlier, or right before the injection if the recording begins with that.
func load(folder string, f *fault, normal []fault) (*recording, error) {
	r := &recording{onset: time.Date(2023, 1, 1, 0, 0, 0, 0, time.UTC)}
	calls, err := read(filepath.Join(folder, f.File), r.onset)
	if err != nil {
		return nil, err
	}
	r.calls = calls
	end := r.onset.Add(-earlier)
	if first(calls).After(r.onset.Add(-minBefore)) {
		end = r.onset.Add(-normalGap)
	}
	if err := r.prepend(folder, f, normal, end); err != nil {
		return nil, err
	}
	for i := range r.calls {
		if r.calls[i].At.After(r.end) {
			r.end = r.calls[i].At
		}
		r.names = append(r.names, r.calls[i].Callee)
		if r.calls[i].Caller != "" {
			r.names = append(r.names, r.calls[i].Caller)
		}
	}
	slices.Sort(r.names)
	r.names = slices.Compact(r.names)
	slices.SortStableFunc(r.calls, func(a, b topology.Call) int { return a.At.Compare(b.At) })
	return r, nil
}

// prepend puts the normal recording nearest in date before the onset, so that it ends at
// end.
func (r *recording) prepend(folder string, f *fault, normal []fault, end time.Time) error {
	best := -1
	for i := range normal {
		if normal[i].App == f.App && (best < 0 || sameDay(&normal[i], f)) {
			best = i
		}
	}
	if best < 0 {
		return fmt.Errorf("case %s has nothing before its onset and %s no normal recording", f.ID, f.App)
	}
	calls, err := read(filepath.Join(folder, normal[best].File), r.onset)
	if err != nil {
		return err
	}
	last := calls[0].At
	for i := range calls {
		if calls[i].At.After(last) {
			last = calls[i].At
		}
	}
	shift := end.Sub(last)
	for i := range calls {
		calls[i].At = calls[i].At.Add(shift)
	}
	r.calls = append(calls, r.calls...)
	return nil
}

// sameDay reports whether a normal recording, named by its day, is of f's day.
func sameDay(normal, f *fault) bool {
	day, _, _ := strings.Cut(f.Injected, " ")
	return day != "" && strings.Contains(normal.ID, day)
}

// first returns the end of the earliest call.
func first(calls []topology.Call) time.Time {
	at := time.Time{}
	for i := range calls {
		if at.IsZero() || calls[i].At.Before(at) {
			at = calls[i].At
		}
	}
	return at
}

// read reads one file of spans; times are relative to the onset.
func read(path string, onset time.Time) ([]topology.Call, error) {
	var calls []topology.Call
	_, err := files.ReadFile(files.CSV, path, files.Settings{
		Origin: onset, Sink: func(c topology.Call) { calls = append(calls, c) },
	})
	if err == nil && len(calls) == 0 {
		err = fmt.Errorf("%s: no calls", path)
	}
	return calls, err
}
