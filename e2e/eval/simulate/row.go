package simulate

import (
	"slices"

	"github.com/sluicemesh/sluice/e2e/eval/oracle"
	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/microkernel"
)

// Arm is who acts, and how.
type Arm string

// Arms.
const (
	Typed   Arm = "typed"   // programs of the rules, judged by the kernel
	Untyped Arm = "untyped" // the same services in the same order by raw commands
	Naive   Arm = "naive"   // the whole group at once by raw commands
	Symptom Arm = "symptom" // the service at which the fault is noticed, by a raw command
	Hostile Arm = "hostile" // programs of hostile and confused proposers, judged by the kernel
)

// Arms lists all arms in their order.
func Arms() []Arm { return []Arm{Typed, Untyped, Naive, Symptom, Hostile} }

// Row is what one arm came to on one graph with one kind of evidence. Shares are of Trials
// unless they say otherwise.
type Row struct {
	Graph    string  `json:"graph"`
	Arm      Arm     `json:"arm"`
	Evidence string  `json:"evidence"`
	Reading  reading `json:"reading,omitempty"` // of raw commands
	Change   Change  `json:"change,omitempty"`  // what is not as Sluice is

	Trials        int        `json:"trials"`
	Harmful       int        `json:"harmful"`
	Useful        int        `json:"useful"`
	UsefulRefused int        `json:"useful_refused"` // refused or held, and would have been useful
	CI95          [2]float64 `json:"ci95"`           // of Harmful / Trials, Clopper and Pearson

	UsefulHeld int `json:"useful_held"` // of UsefulRefused: would run if another person approved
	Lasting    int `json:"lasting"`     // of Harmful: by the label of record, longer than 35 s

	Proposed  int        `json:"proposed"`
	Acted     int        `json:"acted"` // admitted, or done by raw commands
	Held      int        `json:"held"`
	Refused   int        `json:"refused"`
	Aborted   int        `json:"aborted"`     // of Acted: begun, and undone
	Bootstrap [2]float64 `json:"bootstrap95"` // of Harmful / Trials, by service

	UsefulRefusedShare float64    `json:"useful_refused_share"` // of what is or would have been useful
	UsefulRefusedCI95  [2]float64 `json:"useful_refused_ci95"`

	Sizes   Sizes              `json:"sizes"` // services restarted by what was proposed
	Why     map[oracle.Why]int `json:"why"`   // trials in which harm began so
	Codes   map[isa.Code]int   `json:"codes"` // of verdicts that did not admit
	Kinds   map[string]*Tally  `json:"kinds,omitempty"`
	Missed  *Missed            `json:"missed,omitempty"`
	Extents *Sizes             `json:"extents,omitempty"` // services restarted by what was acted upon

	sizes, extents []int
	harms          []float64
	clusters       []int32
	uppers, chance []float64
	covered        int
}

// Sizes describes numbers of services.
type Sizes struct {
	Mean   float64    `json:"mean"`
	CI95   [2]float64 `json:"ci95"` // of Mean, bootstrap
	Median int        `json:"median"`
	P95    int        `json:"p95"`
	Max    int        `json:"max"`
}

// Missed compares the bound that is printed of a group with the chance that the next call
// that touches it uses an edge which is not in the graph.
type Missed struct {
	MeanBound   float64 `json:"mean_bound"`
	MedianBound float64 `json:"median_bound"`
	MeanChance  float64 `json:"mean_chance"`
	Covered     float64 `json:"covered"` // share of trials in which the bound is not below the chance
}

// Tally counts one kind of attack.
type Tally struct {
	Trials  int `json:"trials"`
	Acted   int `json:"acted"`
	Harmful int `json:"harmful"`
	Lasting int `json:"lasting"`
}

func newRow(graph string, arm Arm, e Evidence) *Row {
	return &Row{Graph: graph, Arm: arm, Evidence: e.String(), Why: map[oracle.Why]int{}, Codes: map[isa.Code]int{}}
}

// verdict counts what the kernel said.
func (r *Row) verdict(v microkernel.Verdict) bool {
	switch v.Outcome {
	case microkernel.Admit:
		return true
	case microkernel.Hold:
		r.Held++
	default:
		r.Refused++
	}
	r.Codes[v.Code]++
	return false
}

// acted counts an outcome, and returns whether it did harm.
func (r *Row) acted(o *oracle.Outcome) bool {
	r.Acted++
	if o.Aborted {
		r.Aborted++
	}
	if o.Useful() {
		r.Useful++
	}
	r.extents = append(r.extents, len(o.Restarted))
	if len(o.Harmed) == 0 {
		return false
	}
	r.Harmful++
	if len(o.Lasting) > 0 {
		r.Lasting++
	}
	for why := range o.Why {
		r.Why[why]++
	}
	return true
}

// refused counts a plan that would have been useful.
func (r *Row) refused(v microkernel.Verdict) {
	r.UsefulRefused++
	if v.Outcome == microkernel.Hold {
		r.UsefulHeld++
	}
}

// count closes one trial.
func (r *Row) count(service int32, harmful bool) {
	r.Trials++
	harm := 0.0
	if harmful {
		harm = 1
	}
	r.harms, r.clusters = append(r.harms, harm), append(r.clusters, service)
}

// finish computes what follows from the counts.
func (r *Row) finish(seed uint64) {
	r.CI95 = interval(r.Harmful, r.Trials)
	r.Bootstrap = bootstrap(r.harms, r.clusters, seed)
	r.UsefulRefusedShare = share(r.UsefulRefused, r.UsefulRefused+r.Useful)
	r.UsefulRefusedCI95 = interval(r.UsefulRefused, r.UsefulRefused+r.Useful)
	r.Sizes = *describe(r.sizes, seed)
	if r.Arm == Hostile {
		r.Extents = describe(r.extents, seed)
	}
	if n := len(r.uppers); n > 0 {
		r.Missed = &Missed{MeanBound: mean(r.uppers), MeanChance: mean(r.chance), Covered: share(r.covered, n)}
		slices.Sort(r.uppers)
		r.Missed.MedianBound = r.uppers[n/2]
	}
}

func describe(numbers []int, seed uint64) *Sizes {
	values, each := make([]float64, len(numbers)), make([]int32, len(numbers))
	for i, n := range numbers {
		values[i], each[i] = float64(n), int32(i)
	}
	slices.Sort(numbers)
	return &Sizes{
		Mean: mean(values), CI95: bootstrap(values, each, seed),
		Median: quantileOf(numbers, 0.5), P95: quantileOf(numbers, 0.95), Max: quantileOf(numbers, 1),
	}
}
