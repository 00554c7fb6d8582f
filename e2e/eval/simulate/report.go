package simulate

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/sluicemesh/sluice/e2e/eval/oracle"
)

// Build names what measured.
type Build struct{ Version, Commit, Command string }

// Report is what of eval.json is the offline evaluation's.
type Report struct {
	Schema  string  `json:"schema"`
	Version string  `json:"version"`
	Commit  string  `json:"commit"`
	Started string  `json:"started"`
	Seconds float64 `json:"seconds"`
	Result
	Settings Settings `json:"offline_settings"`
}

// Settings say how the offline rows were made.
type Settings struct {
	Command     string             `json:"command"`
	Commit      string             `json:"commit"`
	Seed        uint64             `json:"seed"`
	PerService  int                `json:"per_service"`
	Sample      int                `json:"sample"`
	RecordedS   float64            `json:"recorded_s"`
	Traffic     float64            `json:"traffic"`
	Graphs      []Shape            `json:"graphs"`
	Paper       []Published        `json:"published"`
	Assumptions map[string]float64 `json:"assumptions"`
}

// Shape is what a graph came out as.
type Shape struct {
	Name       string `json:"name"`
	Services   int    `json:"services"`
	Edges      int    `json:"edges"`
	Sticky     int    `json:"sticky"`
	FanIn      int    `json:"fan_in"`
	FanOut     int    `json:"fan_out"`
	InCycles   int    `json:"services_in_cycles"`
	LargestSCC int    `json:"largest_component"`
}

// Published is a figure of the paper, for comparison: its worlds are not these.
type Published struct {
	What     string  `json:"what"`
	Harm     float64 `json:"harm"`
	Baseline bool    `json:"baseline"`
}

// paper lists what is published of harm in simulation on Alibaba-shaped graphs.
func paper() []Published {
	return []Published{
		{"arXiv 2604.09963, untyped actuation", 0.77, true},
		{"arXiv 2604.09963, typed actuation", 0.04, false},
	}
}

// NewReport joins a result with how it was made.
func NewReport(c *Config, result *Result, build Build, started time.Time, seconds float64) *Report {
	r := &Report{
		Schema: "sluice.eval/1", Version: build.Version, Commit: build.Commit,
		Started: started.UTC().Format(time.RFC3339), Seconds: seconds, Result: *result,
		Settings: Settings{
			Command: build.Command, Commit: build.Commit, Seed: c.Seed, PerService: c.PerService, Sample: c.Sample,
			RecordedS: c.Recorded.Seconds(), Traffic: c.Traffic, Paper: paper(), Assumptions: assumptions(),
		},
	}
	for _, g := range c.Graphs {
		r.Settings.Graphs = append(r.Settings.Graphs, g.shape())
	}
	return r
}

// assumptions lists the constants of truth.go.
func assumptions() map[string]float64 {
	return map[string]float64{
		"rarest_call_per_minute": rarest, "busiest_call_per_minute": busiest, "one_instance": oneInstance,
		"two_instances": twoInstances, "three_instances": threeInstances, "leaf_is_store": store, "load_median": loadMedian,
		"load_sigma": loadSigma, "start_median_s": startMedian, "start_sigma": startSigma, "patience_s": defaultPatience,
		"impatient": impatient, "bypass_of_hidden": bypassOfHidden, "grey_share": grey, "notice_s": oracle.Notice,
		"tolerated_s": oracle.Tolerated,
	}
}

// shape counts what g came out as.
func (g *Graph) shape() Shape {
	s := Shape{Name: g.Name, Services: len(g.Services), Edges: len(g.Edges)}
	of := index(g)
	for v := range g.Services {
		s.FanIn, s.FanOut = max(s.FanIn, len(of.in[v])), max(s.FanOut, len(of.out[v]))
	}
	calls := make([]oracle.Call, len(g.Edges))
	for i, e := range g.Edges {
		calls[i] = oracle.Call{Caller: e.Caller, Callee: e.Callee}
		if e.Sticky {
			s.Sticky++
		}
	}
	world := oracle.NewWorld(make([]oracle.Service, len(g.Services)), calls)
	for v := range g.Services {
		if n := world.ComponentSize(int32(v)); n > 1 {
			s.InCycles++
			s.LargestSCC = max(s.LargestSCC, n)
		}
	}
	return s
}

// Write puts the report into eval.json of a folder. What others have put there (live, and
// the rest of the contract) stays; what nobody has yet is empty.
func (r *Report) Write(folder string) error {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	path := filepath.Join(folder, "eval.json")
	all := map[string]json.RawMessage{}
	switch old, err := os.ReadFile(path); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return fmt.Errorf("write report: %w", err)
	default:
		if err := json.Unmarshal(old, &all); err != nil {
			return fmt.Errorf("%s is there and is no report: %w; move it away", path, err)
		}
	}
	for _, name := range []string{"live", "recovery", "trials", "comparisons"} {
		if _, there := all[name]; !there {
			all[name] = json.RawMessage("[]")
		}
	}
	if _, there := all["false_alarms"]; !there {
		all["false_alarms"] = json.RawMessage("null")
	}
	own, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	if err := json.Unmarshal(own, &all); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	data, err := json.MarshalIndent(all, "", " ")
	if err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	if err := os.WriteFile(path, append(data, '\n'), 0o644); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return r.writePage(filepath.Join(folder, "eval.html"))
}

// Print writes tables for people.
func (r *Report) Print(w io.Writer) {
	for _, part := range []struct {
		title string
		rows  []*Row
	}{{"offline, raw commands in their best reading", r.Offline}, {"raw commands in their worst reading", r.Readings}, {"changes", r.Ablations}} {
		if len(part.rows) == 0 {
			continue
		}
		fmt.Fprintf(w, "\n%s:\n", part.title)
		tabs := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintln(tabs, "GRAPH\tEVIDENCE\tARM\tTRIALS\tHARM\t95 %\tLASTING\tUSEFUL\tUSEFUL REFUSED\tHELD\tSET\tBOUND COVERS")
		for _, row := range part.rows {
			fmt.Fprintf(tabs, "%s\t%s\t%s\t%d\t%s\t%s-%s\t%s\t%s\t%s\t%d\t%.2f\t%s\n", row.Graph, row.label(), row.Arm, row.Trials,
				percent(share(row.Harmful, row.Trials)), percent(row.CI95[0]), percent(row.CI95[1]),
				percent(share(row.Lasting, row.Trials)), percent(share(row.Useful, row.Trials)),
				percent(row.UsefulRefusedShare), row.UsefulHeld, row.Sizes.Mean, row.covers())
		}
		_ = tabs.Flush()
	}
}

// label names the evidence and what is changed.
func (r *Row) label() string {
	if r.Change != Unchanged {
		return r.Evidence + ", " + string(r.Change)
	}
	return r.Evidence
}

func (r *Row) covers() string {
	if r.Missed == nil {
		return "-"
	}
	return percent(r.Missed.Covered)
}

func percent(share float64) string { return fmt.Sprintf("%.1f%%", 100*share) }
