package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"
)

// options say what of the list is tried, and how.
type options struct {
	rows     []string // none = all
	variants int
	seed     uint64
	parts    int       // processes that share the work, 0 = this one does it
	progress io.Writer // where a line is printed when a row is done, nil = nowhere
}

// wanted are the attacks of the rows that were asked for.
func (o *options) wanted() []attack {
	all := slices.Concat(decodeRows(), nameRows(), staticRows(), topologyRows(), liveRows(), doorRows(),
		executionRows(), journalRows(), telemetryRows(), missingRows(), benignRows())
	all = append(all, byMCP(all)...)
	return slices.DeleteFunc(all, func(a attack) bool {
		return len(o.rows) > 0 && !slices.Contains(o.rows, a.row)
	})
}

// job is one variant to try; n counts the variants of a row.
type job struct {
	attack *attack
	n      int
}

// jobs are all variants of what is wanted.
func (o *options) jobs() []job {
	attacks := o.wanted()
	count := map[string]int{}
	var out []job
	for i := range attacks {
		variants := o.variants
		if attacks[i].run == nil {
			variants = 1
		}
		for range variants {
			count[attacks[i].row]++
			out = append(out, job{&attacks[i], count[attacks[i].row]})
		}
	}
	return out
}

// outcome is what came of one job. It is also what a part prints, as a line of JSON.
type outcome struct {
	Job     int     `json:"job"`
	Line    line    `json:"line"`
	Seconds float64 `json:"seconds"`
}

// try does every parts-th job from part on, one at a time: a plane sees by the idleness of
// its whole process that nothing happens any more. Only what waits runs beside. tell is
// called with each outcome, not concurrently.
func (o *options) try(part, parts int, tell func(outcome)) {
	var mu sync.Mutex
	var group sync.WaitGroup
	do := func(i int, j job) {
		started := time.Now()
		out := outcome{Job: i, Line: j.attack.attempt(j.n, o.seed), Seconds: time.Since(started).Seconds()}
		mu.Lock()
		defer mu.Unlock()
		tell(out)
	}
	for i, j := range o.jobs() {
		switch {
		case i%parts != part:
		case j.attack.waits:
			group.Go(func() { do(i, j) })
		default:
			do(i, j)
		}
	}
	group.Wait()
}

// spread does all jobs in processes of this same program. What a process that ended early
// had not tried is never told.
func (o *options) spread(tell func(outcome)) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	var mu sync.Mutex
	var group sync.WaitGroup
	failures := make([]error, o.parts)
	for part := range o.parts {
		group.Go(func() {
			failures[part] = o.child(self, part, func(out outcome) {
				mu.Lock()
				defer mu.Unlock()
				tell(out)
			})
		})
	}
	group.Wait()
	i := slices.IndexFunc(failures, func(err error) bool { return err != nil })
	if i < 0 {
		return nil
	}
	return fmt.Errorf("part %d of %d: %w", i, o.parts, failures[i])
}

// child runs one part in a process of its own.
func (o *options) child(self string, part int, tell func(outcome)) error {
	cmd := exec.Command(self, "-rows", strings.Join(o.rows, ","), "-variants", fmt.Sprint(o.variants),
		"-seed", fmt.Sprint(o.seed), "-part", fmt.Sprintf("%d/%d", part, o.parts))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	lines := json.NewDecoder(out)
	for {
		var next outcome
		if err = lines.Decode(&next); err != nil {
			break
		}
		tell(next)
	}
	if ended := cmd.Wait(); ended != nil {
		return ended
	}
	if !errors.Is(err, io.EOF) {
		return fmt.Errorf("read what it says: %w", err)
	}
	return nil
}

// run tries everything that is wanted and returns a line for each variant, in the order of
// the list. What could not be tried has failed.
func run(o options) []line {
	jobs := o.jobs()
	lines := make([]line, len(jobs))
	count := map[string]int{}
	for i, j := range jobs {
		failed := false
		lines[i] = line{
			Row: j.attack.row, Variant: j.n, Case: j.attack.name, Expected: j.attack.expected, Door: &j.attack.door,
			Passed: &failed, Reason: "it was not tried: its process ended",
		}
		count[j.attack.row]++
	}
	done := newProgress(o.progress, count)
	tell := func(out outcome) {
		if out.Job >= 0 && out.Job < len(lines) {
			lines[out.Job] = out.Line
			done.tell(&out)
		}
	}
	if o.parts > 0 {
		if err := o.spread(tell); err != nil {
			fmt.Fprintln(os.Stderr, "hostile:", err)
		}
	} else {
		o.try(0, 1, tell)
	}
	slices.SortStableFunc(lines, func(a, b line) int { return order(a.Row) - order(b.Row) })
	return lines
}

// order sorts rows as the list does: attacks, then benign twins.
func order(row string) int {
	n, benign := 0, strings.HasPrefix(row, "B")
	_, _ = fmt.Sscanf(strings.TrimPrefix(row, "B"), "%d", &n) // every row is a number
	if benign {
		n += 1000
	}
	return n
}
