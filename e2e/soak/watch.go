package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// sample is what the process said of itself at one moment.
type sample struct {
	Seconds    float64 `json:"seconds"`   // since the load began
	Taken      float64 `json:"taken"`     // spans so far: calls, served, existence, ignored
	Refused    float64 `json:"refused"`   // spans so far
	Shed       float64 `json:"shed"`      // exports so far
	Malformed  float64 `json:"malformed"` // exports so far
	Entries    float64 `json:"entries"`   // of access logs, so far
	RSS        float64 `json:"rss_mib"`
	Heap       float64 `json:"heap_mib"`
	Goroutines float64 `json:"goroutines"`
	Open       int64   `json:"flood_connections"`
}

// metrics asks a sluiced for its metrics.
type metrics struct {
	url, token string
	client     http.Client
}

// newMetrics reads the viewer's token in the state directory.
func newMetrics(api, token string) (*metrics, error) {
	text, err := os.ReadFile(token)
	if err != nil {
		return nil, fmt.Errorf("viewer's token: %w", err)
	}
	return &metrics{url: api + "/metrics", token: strings.TrimSpace(string(text)), client: http.Client{Timeout: exportBound}}, nil
}

// read takes a sample.
func (m *metrics) read(ctx context.Context) (sample, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, m.url, http.NoBody)
	if err != nil {
		return sample{}, fmt.Errorf("metrics: %w", err)
	}
	request.Header.Set("Authorization", "Bearer "+m.token)
	response, err := m.client.Do(request)
	if err != nil {
		return sample{}, fmt.Errorf("metrics: %w", err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return sample{}, fmt.Errorf("metrics: %s", response.Status)
	}
	var s sample
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		s.take(lines.Text())
	}
	if err := errors.Join(lines.Err(), ctx.Err()); err != nil {
		return sample{}, fmt.Errorf("metrics: %w", err)
	}
	return s, nil
}

// take takes one line of the Prometheus text format if it matters.
func (s *sample) take(line string) {
	const mib = 1 << 20
	series, text, found := strings.Cut(line, " ")
	value, err := strconv.ParseFloat(text, 64)
	if !found || err != nil {
		return
	}
	name, labels, _ := strings.Cut(series, "{")
	switch name {
	case "process_resident_memory_bytes":
		s.RSS = value / mib
	case "go_memstats_heap_alloc_bytes":
		s.Heap = value / mib
	case "go_goroutines":
		s.Goroutines = value
	case "sluice_accesslog_entries_total":
		s.Entries += value
	case "sluice_otlp_spans_total":
		s.spans(labels, value)
	}
}

// spans takes the counter of one result.
func (s *sample) spans(labels string, value float64) {
	switch {
	case strings.Contains(labels, `"shed"`):
		s.Shed += value
	case strings.Contains(labels, `"malformed"`):
		s.Malformed += value
	case strings.Contains(labels, `"call"`), strings.Contains(labels, `"served"`),
		strings.Contains(labels, `"existence"`), strings.Contains(labels, `"ignored"`):
		s.Taken += value
	case strings.Contains(labels, `"joined"`): // a part of call
	default:
		s.Refused += value
	}
}

// line says what happened since before.
func (s *sample) line(before *sample) string {
	seconds := s.Seconds - before.Seconds
	return fmt.Sprintf("%5.0f s  %8.0f spans/s  %6.1f exports shed/s  %6.0f log entries/s  RSS %6.1f MiB  heap %6.1f MiB  %4.0f goroutines  flood of %d",
		s.Seconds, (s.Taken-before.Taken)/seconds, (s.Shed-before.Shed)/seconds, (s.Entries-before.Entries)/seconds,
		s.RSS, s.Heap, s.Goroutines, s.Open)
}

// pace is the time between two samples; a line is printed for every linesEvery.
const (
	pace       = time.Second
	linesEvery = 10
)
