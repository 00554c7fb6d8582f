package load

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"
)

// Never is a moment that did not come.
const Never time.Duration = math.MaxInt64

// Timeline is what happened during a run besides its requests; moments count from
// the start of the run, as in Record.
type Timeline struct {
	Injected  time.Duration // the fault; Never = none
	Acted     time.Duration // first effect of the plan, or of any other recovery; Never = none
	Confirmed time.Duration // first step of the plan confirmed by all ACKs; 0 without a plan
	Silent    string        // service in which no process answers since Injected (crash, hang), or ""
}

// Class is what a request counts as.
type Class int

// Classes. Their counts sum to the requests sent.
const (
	OK Class = iota
	FailedFault
	FailedRecovery
	Unfinished
)

// Counts are the requests of a run by class.
type Counts struct {
	Sent           int `json:"sent"`
	OK             int `json:"ok"`
	FailedFault    int `json:"failed_fault"`
	FailedRecovery int `json:"failed_recovery"`
	Unfinished     int `json:"unfinished"`
}

// Classify counts records.
func Classify(records []Record, t Timeline) Counts {
	var c Counts
	for _, r := range records {
		c.add(t.Class(r))
	}
	return c
}

func (c *Counts) add(class Class) {
	c.Sent++
	switch class {
	case OK:
		c.OK++
	case FailedFault:
		c.FailedFault++
	case FailedRecovery:
		c.FailedRecovery++
	case Unfinished:
		c.Unfinished++
	}
}

// Class decides what one request counts as.
//
// An answer that carries the mark of the fault failed by the fault. Without a mark, a
// failure belongs to the recovery if the request was sent after its first effect or was
// in flight then; but not if it failed at a service in which no process answers and was
// sent before the first step was confirmed, since until then nothing could hold it.
// A failure that was over before the fault can be nobody's but the mesh's: it counts as
// the recovery's too, so that it cannot hide.
func (t Timeline) Class(r Record) Class {
	switch {
	case r.Ended == 0:
		return Unfinished
	case r.OK():
		return OK
	case r.Fault != "":
		return FailedFault
	case r.Ended < t.Injected:
		return FailedRecovery
	case r.Ended < t.Acted:
		return FailedFault
	case t.Silent != "" && r.FailedAt == t.Silent && r.Started < t.Confirmed:
		return FailedFault
	}
	return FailedRecovery
}

// Failure is a kind of failed request and how often it came.
type Failure struct {
	Count     int
	Class     Class
	Operation string
	Status    int
	FailedAt  string
	Fault     string
	Err       string
}

// Failures groups the failed records, most frequent first.
func Failures(records []Record, t Timeline) []Failure {
	count := map[Failure]int{}
	for _, r := range records {
		class := t.Class(r)
		if class != OK {
			count[Failure{Class: class, Operation: r.Operation, Status: r.Status, FailedAt: r.FailedAt, Fault: r.Fault, Err: r.Err}]++
		}
	}
	list := make([]Failure, 0, len(count))
	for kind, n := range count {
		kind.Count = n
		list = append(list, kind)
	}
	slices.SortFunc(list, func(a, b Failure) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.String(), b.String()))
	})
	return list
}

// String says it in a line.
func (f Failure) String() string {
	class := [...]string{"ok", "fault", "recovery", "unfinished"}[f.Class]
	return fmt.Sprintf("%d %s: %s status %d at %q mark %q %s", f.Count, class, f.Operation, f.Status, f.FailedAt, f.Fault, f.Err)
}

// Between returns the records intended in [from, to).
func Between(records []Record, from, to time.Duration) []Record {
	var part []Record
	for _, r := range records {
		if r.Intended >= from && r.Intended < to {
			part = append(part, r)
		}
	}
	return part
}

// Percentile returns the latency that share q (0..1) of the successful records do not
// exceed; false if none was successful.
func Percentile(records []Record, q float64) (time.Duration, bool) {
	var latencies []time.Duration
	for _, r := range records {
		if r.OK() {
			latencies = append(latencies, r.Latency())
		}
	}
	if len(latencies) == 0 {
		return 0, false
	}
	slices.Sort(latencies)
	rank := int(math.Ceil(q * float64(len(latencies))))
	return latencies[min(max(rank, 1), len(latencies))-1], true
}

// Second is one second of a run, by the intended time of its requests.
type Second struct {
	At     int // since the start of the run
	Counts Counts
	P99    time.Duration // of the successful ones, 0 = none
}

// Seconds divides a run into whole seconds, also those without requests.
func Seconds(records []Record, t Timeline) []Second {
	var parts [][]Record
	for _, r := range records {
		at := int(r.Intended / time.Second)
		for len(parts) <= at {
			parts = append(parts, nil)
		}
		parts[at] = append(parts[at], r)
	}
	seconds := make([]Second, len(parts))
	for i, part := range parts {
		p99, _ := Percentile(part, 0.99)
		seconds[i] = Second{At: i, Counts: Classify(part, t), P99: p99}
	}
	return seconds
}

// Objective is what the load's client was promised.
type Objective struct {
	P99    time.Duration // 0 = no promise
	Errors float64       // share of requests, 0..1
}

// Good reports whether r was answered with success and in time.
func (o Objective) Good(r Record) bool {
	return r.OK() && (o.P99 == 0 || r.Latency() <= o.P99)
}

// share of good requests among records, and how many were judged.
func (o Objective) share(records []Record) (float64, int) {
	good := 0
	for _, r := range records {
		if o.Good(r) {
			good++
		}
	}
	return float64(good) / float64(max(len(records), 1)), len(records)
}

// Met reports whether records keep the objective: a share of 1 - Errors was good.
// No record keeps no objective.
func (o Objective) Met(records []Record) bool {
	share, n := o.share(records)
	return n > 0 && share >= 1-o.Errors
}

// Recovered returns the first moment, in whole seconds after from, from which on the
// load of the next span keeps the objective; false if there is none before until.
func Recovered(records []Record, o Objective, from, until, span time.Duration) (time.Duration, bool) {
	for at := from; at+span <= until; at += time.Second {
		first, window := Between(records, at, at+time.Second), Between(records, at, at+span)
		if share, n := o.share(first); n > 0 && share >= 0.9 && o.Met(window) {
			return at - from, true
		}
	}
	return 0, false
}
