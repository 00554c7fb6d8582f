package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"runtime"
	"time"
)

// defaultRuns is an odd number, so that the median is a figure that was had.
const defaultRuns = 5

// options are the flags that concern the measuring.
type options struct {
	wanted *regexp.Regexp
	runs   int    // 0 = each bench's own
	dir    string // where benches may write
}

// measureAll measures every bench. What could not be measured is in the error; the rest
// is in the report all the same.
func (o *options) measureAll(ctx context.Context, todo []Bench) (*report, error) {
	started := time.Now()
	r := newReport(started)
	var failed []error
	for i := range todo {
		rows, err := o.measure(ctx, &todo[i])
		if err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", todo[i].Rows[0].Name, err))
		}
		r.Rows = append(r.Rows, rows...)
	}
	r.Seconds = time.Since(started).Seconds()
	return r, errors.Join(failed...)
}

// measure opens one bench and runs it as often as it needs.
func (o *options) measure(ctx context.Context, b *Bench) (out []figure, err error) {
	dir, err := os.MkdirTemp(o.dir, ".bench-")
	if err != nil {
		return nil, err
	}
	env := &Env{Dir: dir, Note: func(format string, args ...any) { fmt.Fprintf(os.Stderr, "  "+format+"\n", args...) }}
	env.Defer(func() error { return os.RemoveAll(dir) })
	defer func() { err = errors.Join(err, env.close()) }()
	fmt.Fprintf(os.Stderr, "%s: preparing\n", b.Rows[0].Name)
	once, err := b.Open(ctx, env)
	if err != nil {
		return nil, err
	}
	pairs := make([][]Pair, len(b.Rows))
	for n := range cmp.Or(o.runs, b.Runs, defaultRuns) {
		runtime.GC() // nobody pays for the garbage of the one before
		got, err := once(ctx)
		if err = errors.Join(err, ctx.Err()); err != nil {
			return nil, err
		}
		if len(got) != len(b.Rows) {
			return nil, fmt.Errorf("%d figures for %d rows", len(got), len(b.Rows))
		}
		for i, p := range got {
			pairs[i] = append(pairs[i], p)
			fmt.Fprintf(os.Stderr, "%s: run %d: %.4g %s, reference %.4g\n", b.Rows[i].Name, n+1, p.Ours, b.Rows[i].Unit, p.Reference)
		}
	}
	for i, row := range b.Rows {
		if o.wanted.MatchString(row.Name) {
			out = append(out, newFigure(row, pairs[i]))
		}
	}
	return out, nil
}
