package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/topology"
	"github.com/sluicemesh/sluice/topology/files"
)

// importBatch is how many calls wait for their names to be registered together.
const importBatch = 1 << 14

// importFlags are the flags of `sluice topology import`.
type importFlags struct {
	format, out, origin string
	record              bool
}

// importView is the JSON of `sluice topology import --out FILE`.
type importView struct {
	header
	Out        string `json:"out"`
	Epoch      string `json:"epoch"`
	Services   int    `json:"services"`
	Edges      int    `json:"edges"`
	Records    uint64 `json:"records"`
	Calls      uint64 `json:"calls"`
	Joined     uint64 `json:"joined"`
	Served     uint64 `json:"served"`
	Orphans    uint64 `json:"orphans"`
	Unresolved uint64 `json:"unresolved"`
	Skewed     uint64 `json:"skewed"`
	Async      uint64 `json:"async"`
	Dropped    uint64 `json:"dropped"`
	Recorded   bool   `json:"recorded"`
}

func (a *app) importCommand() *cobra.Command {
	flags := importFlags{record: true}
	command := &cobra.Command{
		Use: "import --format FORMAT FILE...", Short: "Infer the call graph from recorded traces or call graphs",
		Long: `Infer the call graph from files, which may be compressed with gzip:
  otlp     OTLP JSON of traces, one object or one a line (the collector's file exporter)
  jaeger   what /api/traces of Jaeger answers
  zipkin   Zipkin v2 JSON, an array of spans or of traces
  alibaba  MSCallGraph CSV of cluster-trace-microservices v2021 and v2022
  meta     service-characteristics.csv of distributed_traces: services, no calls
  csv      trace_id,span_id,... or caller,callee,rpctype,calls

Names are taken as written. The client's and the server's span of a call count once.
Several files are one graph. The result is a file as ` + "`sluice topology export`" + ` writes it; with
the calls of its last ten minutes it also serves ` + "`sluice groups --topology`" + `.`,
		Args: cobra.MinimumNArgs(1),
		Example: `  sluice topology import --format jaeger traces.json --out mesh.json
  sluice topology import --format alibaba MSCallGraph_0.csv > mesh.json
  sluice topology import --format csv spans.csv.gz --origin 2026-11-22T18:00:00Z --out mesh.json`,
		RunE: func(c *cobra.Command, args []string) error { return a.importFiles(c.Context(), flags, args) },
	}
	command.Flags().StringVar(&flags.format, "format", "", "otlp, jaeger, zipkin, alibaba, csv or meta (required)")
	command.Flags().StringVar(&flags.out, "out", "", "write the graph to this file and a summary to stdout (default: the graph to stdout)")
	command.Flags().StringVar(&flags.origin, "origin", "", "time 0 of formats with relative times, RFC 3339 (default: 1970)")
	command.Flags().BoolVar(&flags.record, "record", flags.record, "keep the calls of the last ten minutes in the file")
	return command
}

func (a *app) importFiles(ctx context.Context, flags importFlags, paths []string) error {
	settings := files.Settings{}
	if flags.format == "" {
		return usage("--format is missing: want otlp, jaeger, zipkin, alibaba, csv or meta")
	}
	if flags.origin != "" {
		origin, err := time.Parse(time.RFC3339, flags.origin)
		if err != nil {
			return usage("--origin %q: want RFC 3339, such as 2026-11-22T18:00:00Z", flags.origin)
		}
		settings.Origin = origin
	}
	in := newImporter()
	settings.Sink, settings.Service = in.call, in.service
	var counts files.Counts
	for _, path := range paths {
		if err := ctx.Err(); err != nil {
			return err //nolint:wrapcheck // an interruption is told by itself
		}
		one, err := files.ReadFile(files.Format(flags.format), path, settings)
		if err != nil {
			return usage("%w", err)
		}
		counts.Add(one)
	}
	in.flush()
	timed := counts.Timeless == 0
	view := viewOf(a.header("topology"), in.graph.Snapshot(in.last), timed)
	if flags.record && timed {
		view.Recording = in.recorder.view()
		if in.recorder.lost {
			fmt.Fprintf(a.err, "sluice: no recording is kept: more than %d distinct calls in ten minutes; "+
				"groups of this file need --planned\n", maxRecorded)
		}
	}
	return a.imported(flags, view, counts)
}

// imported writes the graph, and where it went to a file, a summary.
func (a *app) imported(flags importFlags, view graphView, counts files.Counts) error {
	summary := importView{
		header: a.header("import"), Out: flags.out, Epoch: view.Epoch, Services: len(view.Services), Edges: len(view.Edges),
		Records: counts.Records, Calls: counts.Calls, Joined: counts.Joined, Served: counts.Served, Orphans: counts.Orphans,
		Unresolved: counts.Unresolved, Skewed: counts.Skewed, Async: counts.Async, Dropped: counts.Dropped,
		Recorded: view.Recording != nil,
	}
	if flags.out == "" {
		importTable(a.err, &summary)
		a.output = "json"
		return a.print(view, nil)
	}
	file, err := os.Create(flags.out)
	if err != nil {
		return usage("--out: %w", err)
	}
	to := *a
	to.out, to.output = file, "json"
	if err := errors.Join(to.print(view, nil), file.Close()); err != nil {
		return notAchieved("%s: %w", flags.out, err)
	}
	return a.print(summary, func(w io.Writer) { importTable(w, &summary) })
}

func importTable(w io.Writer, v *importView) {
	fmt.Fprintf(w, "epoch %s, %d services, %d edges from %d records\n", shortEpoch(v.Epoch), v.Services, v.Edges, v.Records)
	parts := []string{fmt.Sprintf("%d calls, %d seen from both sides", v.Calls, v.Joined)}
	for _, part := range []struct {
		n    uint64
		text string
	}{
		{v.Orphans, "orphans (their parent is missing)"}, {v.Unresolved, "client spans that name no callee"},
		{v.Skewed, "pairs with skewed clocks"}, {v.Async, "messages"}, {v.Dropped, "records without a caller or a callee"},
	} {
		if part.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", part.n, part.text))
		}
	}
	fmt.Fprintln(w, strings.Join(parts, "; "))
}

// importer feeds a graph whose names are found on the way.
type importer struct {
	graph    *topology.Graph
	recorder recorder
	known    map[mesh.Service]bool
	names    []mesh.Service
	fresh    bool // names grew since they were registered
	waiting  []topology.Call
	last     time.Time
}

func newImporter() *importer {
	return &importer{
		graph: topology.NewGraph(), known: map[mesh.Service]bool{}, recorder: recorder{cells: map[cell]int64{}},
		waiting: make([]topology.Call, 0, importBatch),
	}
}

func (in *importer) service(name string) { in.name(mesh.Service(name)) }

func (in *importer) name(name mesh.Service) {
	if name != "" && !in.known[name] && len(in.names) < topology.MaxServices {
		in.known[name] = true
		in.names, in.fresh = append(in.names, name), true
	}
}

func (in *importer) call(c topology.Call) {
	in.name(c.Caller)
	in.name(c.Callee)
	if in.last.IsZero() || c.At.After(in.last) {
		in.last = c.At
	}
	in.recorder.add(&c)
	if in.waiting = append(in.waiting, c); len(in.waiting) == importBatch {
		in.flush()
	}
}

// flush registers the new names, then observes the calls that wait.
func (in *importer) flush() {
	if in.fresh {
		in.graph.RegisterNames(in.names)
		in.fresh = false
	}
	in.graph.ObserveAll(in.waiting)
	in.waiting = in.waiting[:0]
}
