package main

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
)

// summary compares inference with what needs none. Shown are the cases whose recording
// shows the culprit, as labelled; all the targets are about these.
type summary struct {
	Cases   int            `json:"cases"`
	Shown   figures        `json:"shown"`
	All     figures        `json:"all"`
	ByApp   []figures      `json:"by_application"` // of the shown cases
	Targets []target       `json:"targets"`
	Beside  []figures      `json:"beside"` // of the shown cases
	Misses  map[string]int `json:"misses"` // why, of the shown cases
}

// figures are shares of cases, and sizes of restart sets.
type figures struct {
	Name       string   `json:"name"`
	Cases      int      `json:"cases"`
	InSet      float64  `json:"in_restart_set"`
	MedianSize float64  `json:"median_size"`
	MeanShare  float64  `json:"mean_share"`   // of the application
	First      *float64 `json:"ranked_first"` // null: it does not rank
	FirstThree *float64 `json:"ranked_first_three"`
}

// target is a figure that is aimed at.
type target struct {
	Name  string  `json:"name"`
	Want  string  `json:"want"`
	Value float64 `json:"value"`
	Met   bool    `json:"met"`
}

func summarise(cases []result) summary {
	var shown []result
	misses := map[string]int{}
	for i := range cases {
		if !cases[i].Shown {
			continue
		}
		shown = append(shown, cases[i])
		if why := cases[i].Why; why != nil {
			misses[*why]++
		}
	}
	s := summary{Cases: len(cases), Shown: inferred("inferred", shown), All: inferred("inferred, all cases", cases), Misses: misses}
	s.Beside = []figures{
		sets("all reachable", shown, func(r *result) []string { return r.Reachable }),
		sets("symptom alone", shown, func(r *result) []string { return []string{r.Symptom} }),
		random(shown),
	}
	for _, app := range applications(shown) {
		of := slices.DeleteFunc(slices.Clone(shown), func(r result) bool { return r.App != app })
		s.ByApp = append(s.ByApp, inferred("inferred, "+app, of))
	}
	s.Targets = targets(s.Shown)
	return s
}

// applications returns the names of the applications, sorted.
func applications(cases []result) []string {
	var names []string
	for i := range cases {
		names = append(names, cases[i].App)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// targets judges the figures of the shown cases.
func targets(f figures) []target {
	if f.Cases == 0 {
		return nil
	}
	return []target{
		{"culprit in the restart set", ">= 0.90", f.InSet, f.InSet >= 0.90},
		{"median size of the restart set", "<= 3", f.MedianSize, f.MedianSize <= 3},
		{"mean share of the application", "<= 0.25", f.MeanShare, f.MeanShare <= 0.25},
		{"ranked first", ">= 0.60", *f.First, *f.First >= 0.60},
		{"ranked in the first three", ">= 0.85", *f.FirstThree, *f.FirstThree >= 0.85},
	}
}

// inferred are the figures of what was inferred.
func inferred(name string, cases []result) figures {
	f := sets(name, cases, func(r *result) []string { return r.RestartSet })
	first, three := 0, 0
	for i := range cases {
		if rank := cases[i].Rank; rank != nil && *rank <= 3 {
			three++
			if *rank == 1 {
				first++
			}
		}
	}
	f.First, f.FirstThree = share(first, len(cases)), share(three, len(cases))
	return f
}

// sets are the figures of a way to choose the restart set.
func sets(name string, cases []result, choose func(*result) []string) figures {
	f := figures{Name: name, Cases: len(cases)}
	if len(cases) == 0 {
		return f
	}
	var sizes []int
	for i := range cases {
		set := choose(&cases[i])
		sizes = append(sizes, len(set))
		f.MeanShare += float64(len(set)) / float64(cases[i].Services) / float64(len(cases))
		if slices.Contains(set, cases[i].Root) {
			f.InSet += 1 / float64(len(cases))
		}
	}
	slices.Sort(sizes)
	f.MedianSize = float64(sizes[(len(sizes)-1)/2]+sizes[len(sizes)/2]) / 2
	return f
}

// random is what a random order of the services, and its first as many as were
// inferred, would do on average.
func random(cases []result) figures {
	f := sets("random, of the same size", cases, func(r *result) []string { return r.RestartSet })
	f.InSet = 0
	first, three := 0.0, 0.0
	for i := range cases {
		n := float64(cases[i].Services)
		f.InSet += min(1, float64(len(cases[i].RestartSet))/n) / float64(len(cases))
		first += 1 / n / float64(len(cases))
		three += min(1, 3/n) / float64(len(cases))
	}
	f.First, f.FirstThree = &first, &three
	return f
}

// share is n of all, nil of none.
func share(n, all int) *float64 {
	if all == 0 {
		return nil
	}
	value := float64(n) / float64(all)
	return &value
}

// print writes the report for people.
func (r *report) print(w io.Writer) {
	tabs := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tabs, "CASE\tSHOWN\tRANK\tRESTART SET\tMEMBERS\tWHY NOT")
	for i := range r.Cases {
		c := &r.Cases[i]
		rank, why := "-", ""
		if c.Rank != nil {
			rank = fmt.Sprint(*c.Rank)
		}
		if c.Why != nil {
			why = *c.Why
		}
		fmt.Fprintf(tabs, "%s\t%t\t%s\t%v\t%d of %d\t%s\n", c.ID, c.Shown, rank, c.RestartSet, len(c.Members), c.Services, why)
	}
	fmt.Fprintln(tabs, "\nMETHOD\tCASES\tIN RESTART SET\tMEDIAN SIZE\tMEAN SHARE\tFIRST\tFIRST THREE")
	rows := slices.Concat([]figures{r.Summary.Shown}, r.Summary.ByApp, []figures{r.Summary.All}, r.Summary.Beside)
	for _, f := range rows {
		fmt.Fprintf(tabs, "%s\t%d\t%.1f%%\t%g\t%.1f%%\t%s\t%s\n",
			f.Name, f.Cases, 100*f.InSet, f.MedianSize, 100*f.MeanShare, percent(f.First), percent(f.FirstThree))
	}
	fmt.Fprintln(tabs, "\nTARGET\tWANT\tVALUE\tMET")
	for _, t := range r.Summary.Targets {
		fmt.Fprintf(tabs, "%s\t%s\t%.3f\t%t\n", t.Name, t.Want, t.Value, t.Met)
	}
	_ = tabs.Flush()
}

func percent(share *float64) string {
	if share == nil {
		return "-"
	}
	return fmt.Sprintf("%.1f%%", 100**share)
}
