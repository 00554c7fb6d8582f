// Command inference is `make topology`: it replays recorded traces of faults whose
// culprit is known, infers the call graph from them, asks for the group of the symptom
// at the entry of the application, and compares its culprit and restart set with the
// label. It is not for live systems, and the labels take no part in what is inferred.
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
}

func main() {
	flags := flag.NewFlagSet("inference", flag.ContinueOnError)
	data := flags.String("data", "", "`FOLDER` of spans and cases*.json")
	out := flags.String("out", "topology.json", "report `FILE`")
	if err := flags.Parse(os.Args[1:]); err != nil {
		os.Exit(exitUsage)
	}
	if *data == "" || flags.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "inference: want -data FOLDER; usage: make topology DATA=FOLDER [OUT=FILE]")
		os.Exit(exitUsage)
	}
	if err := run(*data, *out, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "inference:", err)
		if errors.Is(err, os.ErrNotExist) {
			os.Exit(exitMissing)
		}
		os.Exit(exitFailed)
	}
}

// run measures all cases of folder, writes the report to out and a table to w.
func run(folder, out string, w, progress io.Writer) error {
	started := time.Now()
	faults, normal, err := readCases(folder)
	if err != nil {
		return err
	}
	r := report{
		Schema: "sluice.inference/1", Version: version, Commit: commit, Started: started.UTC().Format(time.RFC3339), Data: folder,
	}
	for i := range faults {
		recorded, err := load(folder, &faults[i], normal)
		if err != nil {
			return err
		}
		r.Cases = append(r.Cases, infer(&faults[i], recorded))
		if (i+1)%10 == 0 {
			fmt.Fprintf(progress, "%d of %d cases\n", i+1, len(faults))
		}
	}
	r.Summary = summarise(r.Cases)
	r.Seconds = time.Since(started).Round(time.Millisecond).Seconds()
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	if err := os.WriteFile(out, append(data, '\n'), 0o644); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	r.print(w)
	return nil
}
