// Command inference is `make topology`: it replays recorded traces of faults whose
// culprit is known, infers the call graph from them, asks for the group of the symptom
// at the entry of the application, and compares its culprit and restart set with the
// label. With -bounds it also learns planted graphs from generated recordings and tells
// whether the printed bounds cover what happens in others. It is not for live systems,
// and the labels take no part in what is inferred.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"time"
)

// version and commit are set by the linker.
var (
	version = "devel"
	commit  = "unknown"
)

// Exit codes: not achieved, wrong usage, something needed is missing.
const (
	exitFailed  = 1
	exitUsage   = 2
	exitMissing = 3
)

// report is topology.json.
type report struct {
	Schema  string   `json:"schema"`
	Version string   `json:"version"`
	Commit  string   `json:"commit"`
	Started string   `json:"started"`
	Seconds float64  `json:"seconds"`
	Data    string   `json:"data"`
	Cases   []result `json:"cases"`
	Summary summary  `json:"summary"`
	Bounds  *bounds  `json:"bounds,omitempty"`
}

// options are what the command line says.
type options struct {
	data, out   string
	repetitions int // 0 = no bounds
}

func main() {
	flags := flag.NewFlagSet("inference", flag.ContinueOnError)
	var o options
	flags.StringVar(&o.data, "data", "", "`FOLDER` of spans and cases*.json")
	flags.StringVar(&o.out, "out", "topology.json", "report `FILE`")
	flags.IntVar(&o.repetitions, "bounds", 0, "also judge the bounds, on `N` generated recordings")
	if err := flags.Parse(os.Args[1:]); err != nil {
		os.Exit(exitUsage)
	}
	if o.data == "" && o.repetitions <= 0 || flags.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "inference: want -data FOLDER or -bounds N; usage: make topology [DATA=FOLDER] [OUT=FILE]")
		os.Exit(exitUsage)
	}
	if err := run(o, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "inference:", err)
		if errors.Is(err, os.ErrNotExist) {
			os.Exit(exitMissing)
		}
		os.Exit(exitFailed)
	}
}

// run measures all cases of the folder and the bounds, writes the report to a file and
// tables to w.
func run(o options, w, progress io.Writer) error {
	started := time.Now()
	r := report{
		Schema: "sluice.inference/1", Version: version, Commit: commit, Started: started.UTC().Format(time.RFC3339), Data: o.data,
		Cases: []result{},
	}
	if o.data != "" {
		if err := r.replay(progress); err != nil {
			return err
		}
	}
	r.Summary = summarise(r.Cases)
	if o.repetitions > 0 {
		measured := measureBounds(o.repetitions, progress)
		r.Bounds = &measured
	}
	r.Seconds = time.Since(started).Round(time.Millisecond).Seconds()
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	if err := os.WriteFile(o.out, append(data, '\n'), 0o644); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	if o.data != "" {
		r.print(w)
	}
	if r.Bounds != nil {
		r.Bounds.print(w)
	}
	return nil
}

// replay infers all cases of the folder.
func (r *report) replay(progress io.Writer) error {
	faults, normal, err := readCases(r.Data)
	if err != nil {
		return err
	}
	for i := range faults {
		recorded, err := load(r.Data, &faults[i], normal)
		if err != nil {
			return err
		}
		r.Cases = append(r.Cases, infer(&faults[i], recorded))
		if (i+1)%10 == 0 {
			fmt.Fprintf(progress, "%d of %d cases\n", i+1, len(faults))
		}
	}
	return nil
}
