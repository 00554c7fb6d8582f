package main

import (
	"fmt"
	"io"
	"time"
)

// progress prints a line for each row when its last variant is done.
type progress struct {
	out     io.Writer // nil = nobody listens
	started time.Time
	left    map[string]int // variants to go, by row
	spent   map[string]float64
	failed  map[string]int
	rows    int // that are done
}

// newProgress returns the progress of rows with so many variants each.
func newProgress(out io.Writer, variants map[string]int) *progress {
	return &progress{out: out, started: time.Now(), left: variants, spent: map[string]float64{}, failed: map[string]int{}}
}

// tell notes a variant. The seconds of a row are those of its variants together, though
// several run at once.
func (p *progress) tell(o *outcome) {
	row := o.Line.Row
	p.left[row]--
	p.spent[row] += o.Seconds
	if o.Line.Passed != nil && !*o.Line.Passed {
		p.failed[row]++
	}
	if p.left[row] > 0 || p.out == nil {
		return
	}
	p.rows++
	fmt.Fprintf(p.out, "%6.1f s  row %-3s done (%d of %d), %d failed; its variants took %.1f s\n",
		time.Since(p.started).Seconds(), row, p.rows, len(p.left), p.failed[row], p.spent[row])
}
