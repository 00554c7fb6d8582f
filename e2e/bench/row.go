package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
)

// Bench measures one figure or several that come of the same work. To add one: a file
// with a function that returns it, and a line in benches.
type Bench struct {
	Rows []Row
	Runs int // how often Measure is called; 0 = 5
	// Open makes the input, once. What it must give back it gives to env.Defer.
	Open func(ctx context.Context, env *Env) (Measure, error)
}

// Measure is one run: a pair for each row of its Bench, in their order. Ours and the
// reference are measured in the same call, on the same input, in turns where they are
// short; the order of the two should not always be the same.
type Measure func(ctx context.Context) ([]Pair, error)

// Pair is a figure and its reference, in the row's unit.
type Pair struct {
	Ours, Reference float64
}

// Row is one figure of the contract.
type Row struct {
	Name          string // as the contract spells it
	Unit          string
	ReferenceName string // "" = there is none, Pair.Reference is ignored
	Higher        bool   // more is better
	Rule          Rule
	Floor, Reach  float64
}

// Rule says what a row's floor and reach bound.
type Rule int

// Rules.
const (
	Absolute Rule = iota // the figure itself, in the row's unit
	Ratio                // at least so many times better: reference / ours
	Times                // at most so many times the reference
)

// Env is what a Bench may use.
type Env struct {
	Dir   string // its own, on the disk that OUT lies on; removed afterwards
	Note  func(format string, args ...any)
	after []func() error
}

// Defer has f called when the bench is over, the last one first.
func (e *Env) Defer(f func() error) { e.after = append(e.after, f) }

func (e *Env) close() error {
	var err error
	for _, f := range slices.Backward(e.after) {
		err = errors.Join(err, f())
	}
	return err
}

func (r *Row) better() string {
	if r.Higher {
		return "higher"
	}
	return "lower"
}

// keeps reports whether a figure is within bound.
func (r *Row) keeps(ours, reference, bound float64) bool {
	switch {
	case r.Rule == Ratio:
		return ours*bound <= reference
	case r.Rule == Times:
		return ours <= bound*reference
	case r.Higher:
		return ours >= bound
	}
	return ours <= bound
}

// demand spells bound for people.
func (r *Row) demand(bound float64) string {
	switch {
	case r.Rule == Ratio:
		return fmt.Sprintf(">= %gx", bound)
	case r.Rule == Times:
		return fmt.Sprintf("<= %g x ref", bound)
	case r.Higher:
		return fmt.Sprintf(">= %g", bound)
	}
	return fmt.Sprintf("<= %g", bound)
}

// figure is a row of bench.json.
type figure struct {
	Name          string   `json:"name"`
	Unit          string   `json:"unit"`
	Better        string   `json:"better"`
	Ours          float64  `json:"ours"`
	Reference     *float64 `json:"reference"`
	ReferenceName *string  `json:"reference_name"`
	Ratio         *float64 `json:"ratio"`
	Floor         float64  `json:"floor"`
	Reach         float64  `json:"reach"`
	Met           bool     `json:"met"`
	Reached       bool     `json:"reached"`
	Runs          int      `json:"runs"`
	Spread        float64  `json:"spread"`

	row Row
}

// newFigure sums up the runs of a row: medians, and the spread of ours, which is the
// distance of its best and its worst run as a share of the median.
func newFigure(r Row, runs []Pair) figure {
	ours, reference := make([]float64, len(runs)), make([]float64, len(runs))
	for i, p := range runs {
		ours[i], reference[i] = p.Ours, p.Reference
	}
	f := figure{Name: r.Name, Unit: r.Unit, Better: r.better(), Floor: r.Floor, Reach: r.Reach, Runs: len(runs), row: r}
	f.Ours = median(ours)
	ref := median(reference)
	if r.ReferenceName != "" {
		f.Reference, f.ReferenceName = &ref, &r.ReferenceName
		if ratio := ref / f.Ours; f.Ours > 0 && !r.Higher {
			f.Ratio = &ratio
		}
	}
	f.Met, f.Reached = r.keeps(f.Ours, ref, r.Floor), r.keeps(f.Ours, ref, r.Reach)
	if f.Ours != 0 {
		f.Spread = (slices.Max(ours) - slices.Min(ours)) / math.Abs(f.Ours)
	}
	return f
}

// median of a list that is not empty; values is sorted by it.
func median(values []float64) float64 {
	slices.Sort(values)
	n := len(values)
	return (values[(n-1)/2] + values[n/2]) / 2
}
