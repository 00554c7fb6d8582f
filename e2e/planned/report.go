package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/sluicemesh/sluice/e2e/load"
)

// report is planned.json.
type report struct {
	Schema       string    `json:"schema"`
	Version      string    `json:"version"`
	Commit       string    `json:"commit"`
	Started      string    `json:"started"`
	Seconds      float64   `json:"seconds"`
	Seed         uint64    `json:"seed"`
	RPS          float64   `json:"rps"`
	Kill         string    `json:"kill"`
	Workers      int       `json:"workers"` // of each Envoy
	Limits       []string  `json:"limits"`  // of the policy that are not its defaults
	Envoys       int       `json:"envoys"`
	EnvoyVersion string    `json:"envoy_version"`
	Services     []row     `json:"services"`
	Totals       []total   `json:"totals"`
	Kills        *killSum  `json:"kills,omitempty"` // with -kills
	bad          []restart // restarts by Sluice that were not achieved
}

// row is one restart of one service: the requests from its begin to the begin of the
// next one.
type row struct {
	Service  string      `json:"service"`
	Arm      string      `json:"arm"`
	Run      int         `json:"run"`
	Requests load.Counts `json:"requests"`
	Took     float64     `json:"restart_s"` // of the plan, or of the naive restart
	P99      *float64    `json:"p99_s"`
	Phase    string      `json:"phase"`
	With     []string    `json:"restarted"` // services restarted, in order
	Killed   bool        `json:"control_plane_killed"`
	Death    *deathRow   `json:"kill,omitempty"` // with -kills
}

// total is one arm of one run, the requests before the first restart included.
type total struct {
	Arm      string      `json:"arm"`
	Run      int         `json:"run"`
	Requests load.Counts `json:"requests"`
	P50      *float64    `json:"p50_s"`
	P99      *float64    `json:"p99_s"`
	Restarts int         `json:"restarts"`
}

// add adds one arm.
func (r *report) add(a *arm) {
	r.Envoys, r.EnvoyVersion = a.envoys, a.envoy
	for i, done := range a.restarts {
		until := load.Never
		if i+1 < len(a.restarts) {
			until = a.restarts[i+1].began
		}
		part := load.Between(a.log.Records, done.began, until)
		r.Services = append(r.Services, row{Service: done.service, Arm: a.name, Run: a.run, Requests: a.counts(part),
			Took: done.took, P99: percentile(part, 0.99), Phase: done.phase, With: done.order, Killed: done.killed,
			Death: r.death(&done, a.log.Records, until)})
		if a.name == armSluice && done.phase != "committed" && !done.killed {
			r.bad = append(r.bad, done)
		}
	}
	r.Totals = append(r.Totals, total{Arm: a.name, Run: a.run, Requests: a.counts(a.log.Records),
		P50: percentile(a.log.Records, 0.50), P99: percentile(a.log.Records, 0.99), Restarts: len(a.restarts)})
}

// verdict is nil if Sluice restarted every service and failed no request.
func (r *report) verdict() error {
	var faults []error
	for _, t := range r.Totals {
		if t.Arm == armSluice && t.Requests.OK != t.Requests.Sent {
			faults = append(faults, fmt.Errorf("run %d: %d of %d requests failed, %d unfinished",
				t.Run, t.Requests.FailedRecovery, t.Requests.Sent, t.Requests.Unfinished))
		}
	}
	for _, done := range r.bad {
		faults = append(faults, fmt.Errorf("restart %s was not achieved (%s)", done.service, done.phase))
	}
	return errors.Join(append(faults, r.Kills.verdict())...)
}

func (r *report) write(path string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err == nil {
		err = os.WriteFile(path, append(text, '\n'), 0o644)
	}
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return nil
}

// print prints the restarts and the totals.
func (r *report) print(out io.Writer) {
	fmt.Fprintf(out, "planned restarts under %g requests a second, %d Envoys %s of %d workers\n", r.RPS, r.Envoys, r.EnvoyVersion, r.Workers)
	if len(r.Limits) > 0 {
		fmt.Fprintf(out, "limits raised: %s\n", strings.Join(r.Limits, " "))
	}
	fmt.Fprintln(out)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	if r.Kills != nil {
		r.printDeaths(w)
		r.Kills.print(w)
		_ = w.Flush()
		return
	}
	fmt.Fprintln(w, "run\tarm\tservice\tphase\trestart s\tp99 s\tsent\tok\tfailed\tunfinished")
	for _, s := range r.Services {
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%.2f\t%s\t%d\t%d\t%d\t%d\n", s.Run, s.Arm, s.Service, s.Phase, s.Took,
			number(s.P99), s.Requests.Sent, s.Requests.OK, s.Requests.FailedRecovery, s.Requests.Unfinished)
	}
	for _, t := range r.Totals {
		fmt.Fprintf(w, "%d\t%s\tall\t%d restarts\t\t%s\t%d\t%d\t%d\t%d\n", t.Run, t.Arm, t.Restarts,
			number(t.P99), t.Requests.Sent, t.Requests.OK, t.Requests.FailedRecovery, t.Requests.Unfinished)
	}
	_ = w.Flush() // into a terminal or a pipe; the report is in the file
}

func percentile(records []load.Record, q float64) *float64 {
	d, ok := load.Percentile(records, q)
	if !ok {
		return nil
	}
	s := d.Seconds()
	return &s
}

func number(s *float64) string {
	if s == nil {
		return "-"
	}
	return fmt.Sprintf("%.3f", *s)
}
