package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
)

// Bounds of what counts as flat. A collected heap is a saw: its line is judged by the
// standard error of the slope, and what is left must be small beside the whole.
const (
	flatShare = 0.02 // of the mean, over the time that is judged
	flatMiB   = 4.0  // or so little
	sure      = 3    // standard errors
)

// slope is the line through what was sampled once the run was warm.
type slope struct {
	Mean   float64 `json:"mean"`
	Growth float64 `json:"growth"` // over the time that is judged
	Error  float64 `json:"error"`  // standard error of Growth
	Flat   bool    `json:"flat"`
}

// slopeOf fits a line to the values of the judged samples. Neighbours hang together, so
// that each tenth of the time counts as one observation: its mean.
func slopeOf(judged []sample, value func(*sample) float64) slope {
	const blocks = 10
	if len(judged) < 2*blocks {
		return slope{Growth: math.NaN()}
	}
	y := make([]float64, blocks)
	for b := range blocks {
		part := judged[b*len(judged)/blocks : (b+1)*len(judged)/blocks]
		for i := range part {
			y[b] += value(&part[i]) / float64(len(part))
		}
	}
	mean := 0.0
	for _, v := range y {
		mean += v / blocks
	}
	xx, xy := 0.0, 0.0
	for b, v := range y {
		x := float64(b) - (blocks-1)/2.0
		xx += x * x
		xy += x * (v - mean)
	}
	k, rest := xy/xx, 0.0
	for b, v := range y {
		off := v - mean - k*(float64(b)-(blocks-1)/2.0)
		rest += off * off
	}
	s := slope{Mean: mean, Growth: k * blocks, Error: blocks * math.Sqrt(rest/(blocks-2)/xx)}
	s.Flat = s.Growth-sure*s.Error <= 0 || s.Growth <= max(flatMiB, flatShare*mean)
	return s
}

// report is soak.json.
type report struct {
	Schema     string   `json:"schema"` // "sluice.soak/1"
	Version    string   `json:"version"`
	Commit     string   `json:"commit"`
	Run        string   `json:"run"`
	Started    string   `json:"started"`
	Seconds    float64  `json:"seconds"`
	Warm       float64  `json:"warm_seconds"` // at the start, not judged
	Envoy      string   `json:"envoy"`
	Accepted   int64    `json:"accepted_spans"` // as exporters counted
	Shed       int64    `json:"shed_exports"`   // as exporters were told
	Bare       int64    `json:"shed_without_delay"`
	Partial    int64    `json:"partial_successes"`
	Failed     int64    `json:"failed_exports"`
	LastError  string   `json:"last_error"`
	Traced     int      `json:"traced_requests"`
	Restarts   int      `json:"restarts"`
	RSS        slope    `json:"rss_mib"`
	Heap       slope    `json:"heap_mib"`
	Goroutines slope    `json:"goroutines"`
	Samples    []sample `json:"samples"`
}

// judge fits the lines and returns an error for each thing that did not hold.
func (r *report) judge() error {
	judged := r.Samples
	for len(judged) > 0 && judged[0].Seconds < r.Warm {
		judged = judged[1:]
	}
	r.RSS = slopeOf(judged, func(s *sample) float64 { return s.RSS })
	r.Heap = slopeOf(judged, func(s *sample) float64 { return s.Heap })
	r.Goroutines = slopeOf(judged, func(s *sample) float64 { return s.Goroutines })
	var end sample
	if n := len(r.Samples); n > 0 {
		end = r.Samples[n-1]
	}
	var wrong []error
	for _, held := range []struct {
		ok   bool
		said string
	}{
		{r.RSS.Flat, fmt.Sprintf("RSS grew by %.1f MiB of %.1f", r.RSS.Growth, r.RSS.Mean)},
		{r.Heap.Flat, fmt.Sprintf("the heap grew by %.1f MiB of %.1f", r.Heap.Growth, r.Heap.Mean)},
		{r.Goroutines.Flat, fmt.Sprintf("%.1f goroutines more", r.Goroutines.Growth)},
		{end.Shed > 0, "nothing was shed: the limit was not reached"},
		{r.Shed > 0, "no exporter was told that it was shed"},
		{r.Bare == 0, fmt.Sprintf("%d exports shed and not told when to send again", r.Bare)},
		{r.Failed == 0, fmt.Sprintf("%d exports failed in another way, the last: %s", r.Failed, r.LastError)},
		{end.Malformed == 0, fmt.Sprintf("%.0f exports of the SDK called malformed", end.Malformed)},
		{end.Refused == 0, fmt.Sprintf("%.0f spans refused", end.Refused)},
		{end.Entries > 0, "no access log entry arrived"},
		{r.Traced > 0, "no request went through the Envoy that traces"},
		{r.Restarts == 0, fmt.Sprintf("sluiced was restarted %d times", r.Restarts)},
	} {
		if !held.ok {
			wrong = append(wrong, errors.New(held.said))
		}
	}
	return errors.Join(wrong...)
}

// write writes the report to a file.
func (r *report) write(file string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	if err := os.WriteFile(file, append(text, '\n'), 0o644); err != nil { //nolint:gosec // a report
		return fmt.Errorf("report: %w", err)
	}
	return nil
}
