package scenario

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"time"
)

// Settings are what the suite runs with.
type Settings struct {
	Kubectl  []string // command line of the administrator's kubectl, to be continued
	Prefix   []string // what runs a program in kubectl's network, to be continued; may be empty
	Sluice   string   // path of the program sluice, "" = scenarios that need it are skipped
	Images   Images
	Chart    string // directory of the chart that installs the operator
	Progress io.Writer

	mesh *meshed
}

// Images are the images that the cluster has. Without Operator there is no mesh: scenarios
// that need it are skipped.
type Images struct{ App, Load, Envoy, Netinit, Operator string }

// Result is one row of e2e.json.
type Result struct {
	Name     string  `json:"name"`
	Passed   bool    `json:"passed"`
	Seconds  float64 `json:"seconds"`
	Requests int     `json:"requests"`
	Failed   int     `json:"failed_requests"`
	Skipped  *string `json:"skipped_reason"`
	Reason   *string `json:"failed_reason"`
}

// Report is e2e.json.
type Report struct {
	Schema    string   `json:"schema"`
	Version   string   `json:"version"`
	Commit    string   `json:"commit"`
	Started   string   `json:"started"`
	Seconds   float64  `json:"seconds"`
	Scenarios []Result `json:"scenarios"`
}

// Scenario is one story. Its steps end it by an error.
type Scenario struct {
	Name  string
	Smoke bool // part of make test
	Mesh  bool // needs the operator and the sidecars
	run   func(ctx context.Context, s *stage) error
}

// All returns the scenarios in the order in which they run.
func All() []Scenario {
	return []Scenario{
		{Name: "rollout-control", Smoke: true, run: rolloutControl},
		{Name: "mesh-ready", Smoke: true, Mesh: true, run: meshReady},
		{Name: "chart-installed", Mesh: true, run: chartInstalled},
		{Name: "rollout-in-mesh", Mesh: true, run: rolloutInMesh},
		{Name: "restart-deployment", Smoke: true, Mesh: true, run: restartOf("Deployment", 3, "rolling")},
		{Name: "replace-deployment", Mesh: true, run: restartOf("Deployment", 3, "replace")},
		{Name: "restart-statefulset", Mesh: true, run: restartOf("StatefulSet", 3, "rolling")},
		{Name: "restart-by-object", Mesh: true, run: restartByObject},
		{Name: "restart-approved", Mesh: true, run: restartApproved},
	}
}

// errSkipped says why a scenario cannot be run.
type errSkipped struct{ reason string }

func (e errSkipped) Error() string { return "skipped: " + e.reason }

// limit of one scenario.
const limit = 8 * time.Minute

// Run runs the scenarios that match, one after the other, and reports each.
func Run(ctx context.Context, settings Settings, match *regexp.Regexp) []Result {
	var results []Result
	m := &meshed{settings: &settings}
	for _, scenario := range All() {
		if match != nil && !match.MatchString(scenario.Name) {
			continue
		}
		if ctx.Err() != nil {
			break
		}
		results = append(results, settings.one(ctx, m, scenario))
	}
	return results
}

// one runs one scenario in a namespace of its own.
func (settings *Settings) one(ctx context.Context, m *meshed, scenario Scenario) Result {
	started := time.Now()
	fmt.Fprintf(settings.Progress, "--- %s\n", scenario.Name)
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	s := &stage{Settings: settings, namespace: scenario.Name, started: started}
	err := s.play(ctx, m, scenario)
	r := Result{Name: scenario.Name, Passed: err == nil, Seconds: time.Since(started).Seconds(),
		Requests: s.requests, Failed: s.failed}
	var skipped errSkipped
	if errors.As(err, &skipped) {
		r.Skipped = &skipped.reason
	} else if err != nil {
		text := err.Error()
		r.Reason = &text
		s.say("FAILED: %s", text)
	}
	s.say("%d requests, %d failed", s.requests, s.failed)
	return r
}

// play makes the namespace, runs the scenario in it and removes it.
func (s *stage) play(ctx context.Context, m *meshed, scenario Scenario) error {
	if scenario.Mesh {
		if err := m.up(ctx); err != nil {
			return err
		}
	}
	if err := s.kubectl(ctx, "create", "namespace", s.namespace); err != nil {
		return err
	}
	err := scenario.run(ctx, s)
	if err != nil {
		s.describe(context.WithoutCancel(ctx))
	}
	return errors.Join(err, s.kubectl(context.WithoutCancel(ctx), "delete", "namespace", s.namespace, "--wait=false"))
}

// Write writes the report to a file.
func (r *Report) Write(path string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	if err := os.WriteFile(path, append(text, '\n'), 0o644); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return nil
}

// Table prints the report for people.
func (r *Report) Table(w io.Writer) {
	for _, row := range r.Scenarios {
		state := "failed"
		switch {
		case row.Skipped != nil:
			state = "skipped: " + *row.Skipped
		case row.Passed:
			state = "passed"
		}
		fmt.Fprintf(w, "%-20s %7.1f s  %6d requests, %4d failed  %s\n", row.Name, row.Seconds, row.Requests, row.Failed, state)
	}
}

// Verdict returns nil if every scenario passed and none was skipped.
func Verdict(results []Result) error {
	failed, skipped := 0, 0
	for _, r := range results {
		switch {
		case r.Skipped != nil:
			skipped++
		case !r.Passed:
			failed++
		}
	}
	switch {
	case len(results) == 0:
		return errors.New("no scenario matches")
	case failed+skipped > 0:
		return fmt.Errorf("of %d scenarios %d failed and %d were skipped", len(results), failed, skipped)
	}
	return nil
}
