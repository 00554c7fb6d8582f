package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"
)

// report is bench.json.
type report struct {
	Schema  string   `json:"schema"`
	Version string   `json:"version"`
	Commit  string   `json:"commit"`
	Started string   `json:"started"`
	Seconds float64  `json:"seconds"`
	Rows    []figure `json:"rows"`
}

func newReport(started time.Time) *report {
	return &report{
		Schema: "sluice.bench/1", Version: version, Commit: commit, Started: started.UTC().Format(time.RFC3339),
		Rows: []figure{},
	}
}

func write(path string, r *report) error {
	data, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return fmt.Errorf("encode the report: %w", err)
	}
	if err := os.WriteFile(path, append(data, '\n'), 0o644); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}

// table prints a line for each figure.
func table(w io.Writer, r *report) {
	out := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(out, "ROW\tOURS\tUNIT\tREFERENCE\tRATIO\tFLOOR\tREACH\tRESULT\tRUNS\tSPREAD\tREFERENCE IS")
	for i := range r.Rows {
		f := &r.Rows[i]
		reference, ratio, of := "-", "-", "-"
		if f.Reference != nil {
			reference, of = fmt.Sprintf("%.4g", *f.Reference), *f.ReferenceName
		}
		if f.Ratio != nil {
			ratio = fmt.Sprintf("%.3g", *f.Ratio)
		}
		fmt.Fprintf(out, "%s\t%.4g\t%s\t%s\t%s\t%s\t%s\t%s\t%d\t%.0f %%\t%s\n", f.Name, f.Ours, f.Unit, reference, ratio,
			f.row.demand(f.Floor), f.row.demand(f.Reach), f.result(), f.Runs, 100*f.Spread, of)
	}
	if err := out.Flush(); err != nil {
		fmt.Fprintln(os.Stderr, "bench: print the table:", err)
	}
}

func (f *figure) result() string {
	switch {
	case f.Reached:
		return "reach"
	case f.Met:
		return "floor"
	}
	return "MISSED"
}

// markdown prints the report at path as a table for a page.
func markdown(w io.Writer, path string) int {
	data, err := os.ReadFile(path)
	var r report
	if err == nil {
		err = json.Unmarshal(data, &r)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench: read the report:", err)
		return exitUsage
	}
	rows := map[string]Row{}
	for _, b := range benches() {
		for _, row := range b.Rows {
			rows[row.Name] = row
		}
	}
	fmt.Fprintln(w, "| row | ours | reference | ratio | floor | reach | spread |\n|---|---|---|---|---|---|---|")
	for i := range r.Rows {
		f := &r.Rows[i]
		f.row = rows[f.Name]
		reference, ratio := "-", "-"
		if f.Reference != nil {
			reference = fmt.Sprintf("%.4g: %s", *f.Reference, *f.ReferenceName)
		}
		if f.Ratio != nil {
			ratio = fmt.Sprintf("%.3g", *f.Ratio)
		}
		fmt.Fprintf(w, "| `%s` | %.4g %s, %s | %s | %s | %s | %s | %.0f %% |\n", f.Name, f.Ours, f.Unit, f.result(), reference,
			ratio, f.row.demand(f.Floor), f.row.demand(f.Reach), 100*f.Spread)
	}
	return 0
}
