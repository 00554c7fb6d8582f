package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluicemesh/sluice/e2e/eval/simulate"
	"github.com/sluicemesh/sluice/mesh"
)

// newEvalCommand is `sluice eval`: what Sluice is worth, measured with controls.
func newEvalCommand() *cobra.Command {
	command := &cobra.Command{Use: "eval", Short: "Measure harm, with controls, trials and intervals",
		Example: "  sluice eval simulate --evidence headline --changes none"}
	command.AddCommand(newSimulateCommand())
	return command
}

// simulateFlags are what the command line says.
type simulateFlags struct {
	config     simulate.Config
	graphs     []string
	topologies []string
	evidence   string
	changes    string
	out        string
}

func newSimulateCommand() *cobra.Command {
	f := simulateFlags{config: simulate.Defaults()}
	command := &cobra.Command{
		Use:   "simulate",
		Short: "Recoveries on whole call graphs, judged at their worst",
		Long: `Faults of services of large call graphs are recovered by five arms: Sluice, the same
restarts as raw commands, all of the group at once, the symptom alone, and hostile
proposers at Sluice's door. Each knows only what sampled evidence tells; a judge that
knows everything says who is harmed. Writes eval.json and eval.html.`,
		Example: `  sluice eval simulate --sample 500 --out eval
  sluice eval simulate --graphs none --topology mesh.json --evidence headline`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return f.run(c) },
	}
	flags := command.Flags()
	flags.StringSliceVar(&f.graphs, "graphs", simulate.Names(), "graphs to make: "+strings.Join(simulate.Names(), ", ")+", or none")
	flags.StringArrayVar(&f.topologies, "topology", nil, "also the graph of `FILE`, as `sluice topology import` writes it")
	flags.StringVar(&f.evidence, "evidence", "all", "kinds of evidence: all or headline")
	flags.StringVar(&f.changes, "changes", "all", "parts of Sluice to switch off in turn: all or none")
	flags.IntVar(&f.config.PerService, "per-service", f.config.PerService, "trials of each service")
	flags.IntVar(&f.config.Sample, "sample", f.config.Sample, "of these, how many a graph and kind of evidence; 0: all")
	flags.Uint64Var(&f.config.Seed, "seed", f.config.Seed, "seed of everything that is drawn")
	flags.DurationVar(&f.config.Recorded, "recorded", f.config.Recorded, "time that evidence is gathered for")
	flags.Float64Var(&f.config.Traffic, "traffic", f.config.Traffic, "times the calls of the published trace")
	flags.IntVar(&f.config.Parallel, "parallel", 0, "how many at once (0: one a processor)")
	flags.StringVar(&f.out, "out", "eval", "`FOLDER` of eval.json and eval.html")
	return command
}

func (f *simulateFlags) run(c *cobra.Command) error {
	if err := f.choose(); err != nil {
		return err
	}
	if err := f.config.Check(); err != nil {
		return usage("%w", err)
	}
	started := time.Now()
	result, err := simulate.Run(c.Context(), f.config, c.ErrOrStderr())
	if err != nil {
		return fmt.Errorf("simulate: %w", err)
	}
	build := simulate.Build{Version: version, Commit: commit, Command: f.command()}
	report := simulate.NewReport(&f.config, result, build, started, time.Since(started).Seconds())
	if err := report.Write(f.out); err != nil {
		return fmt.Errorf("simulate: %w", err)
	}
	fmt.Fprintf(c.ErrOrStderr(), "wrote %s and eval.html\n", filepath.Join(f.out, "eval.json"))
	if output, err := c.Flags().GetString("output"); err == nil && output == "json" {
		encoder := json.NewEncoder(c.OutOrStdout())
		encoder.SetIndent("", "  ")
		return encoder.Encode(report) //nolint:wrapcheck // stdout is closed: nobody listens
	}
	report.Print(c.OutOrStdout())
	return nil
}

// choose turns names into graphs, evidence and changes.
func (f *simulateFlags) choose() error {
	f.config.Graphs = nil
	if !slices.Equal(f.graphs, []string{"none"}) {
		for _, name := range f.graphs {
			g, err := simulate.Make(name)
			if err != nil {
				return usage("--graphs: %w", err)
			}
			f.config.Graphs = append(f.config.Graphs, g)
		}
	}
	for _, path := range f.topologies {
		g, err := graphOf(path)
		if err != nil {
			return err
		}
		f.config.Graphs = append(f.config.Graphs, g)
	}
	switch f.evidence {
	case "all":
		f.config.Evidence = simulate.Cells()
	case "headline":
		f.config.Evidence = []simulate.Evidence{simulate.Headline()}
	default:
		return usage("--evidence %q: want all or headline", f.evidence)
	}
	switch f.changes {
	case "all":
		f.config.Changes = simulate.Changes()
	case "none":
		f.config.Changes = nil
	default:
		return usage("--changes %q: want all or none", f.changes)
	}
	return nil
}

// graphOf reads a topology file. Its rates are calls over the time between the first and
// the last one; without times they are drawn.
func graphOf(path string) (*simulate.Graph, error) {
	view, err := readGraph(path)
	if err != nil {
		if os.IsNotExist(err) {
			return nil, missing("--topology: %w", err)
		}
		return nil, err
	}
	g := &simulate.Graph{Name: filepath.Base(path)}
	number := map[string]int32{}
	node := func(name string) int32 {
		n, known := number[name]
		if !known {
			n = int32(len(g.Services))
			number[name] = n
			g.Services = append(g.Services, mesh.Service(fmt.Sprintf("prod/ms-%05d", n))) // plans cannot name every name
		}
		return n
	}
	for _, s := range view.Services {
		node(s.Name)
	}
	for _, e := range view.Edges {
		g.Edges = append(g.Edges, simulate.Edge{Caller: node(e.Caller), Callee: node(e.Callee), Sticky: e.Sticky})
	}
	if len(g.Edges) == 0 {
		return nil, usage("--topology %s: it has no edge; import calls, not services alone", path)
	}
	return g.Tidy(), nil
}

// command is the command that gives the same figures again.
func (f *simulateFlags) command() string {
	c := &f.config
	text := fmt.Sprintf("sluice eval simulate --graphs %s --evidence %s --changes %s --per-service %d --sample %d --seed %d --recorded %s --traffic %g",
		strings.Join(f.graphs, ","), f.evidence, f.changes, c.PerService, c.Sample, c.Seed, c.Recorded, c.Traffic)
	for _, path := range f.topologies {
		text += " --topology " + path
	}
	return text
}
