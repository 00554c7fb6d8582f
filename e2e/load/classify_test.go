package load

import (
	"testing"
	"time"
)

const ms = time.Millisecond

// A plan: fault at 1 s, first effect at 2 s, first step confirmed at 2.5 s.
var plan = Timeline{Injected: 1000 * ms, Acted: 2000 * ms, Confirmed: 2500 * ms}

func TestClass(t *testing.T) {
	silent := plan
	silent.Silent = "t/cart"
	unconfirmed := silent
	unconfirmed.Confirmed = Never
	none := Timeline{Injected: 1000 * ms, Acted: Never}
	naive := Timeline{Injected: 1000 * ms, Acted: 2000 * ms, Silent: "t/cart"}
	planned := Timeline{Injected: Never, Acted: 0}
	failed := func(started, ended time.Duration) Record {
		return Record{Started: started, Ended: ended, Status: 503}
	}
	at := func(service string, r Record) Record { r.FailedAt = service; return r }
	marked := func(r Record) Record { r.Fault = "f-1"; return r }
	for _, c := range []struct {
		name string
		t    Timeline
		r    Record
		want Class
	}{
		{"success", plan, Record{Started: 1, Ended: 2, Status: 200}, OK},
		{"redirect is success", plan, Record{Started: 1, Ended: 2, Status: 302}, OK},
		{"marked success", plan, marked(Record{Started: 1, Ended: 2, Status: 200}), OK},
		{"no end", plan, Record{Started: 1}, Unfinished},
		{"no end wins over a mark", plan, marked(Record{Started: 1}), Unfinished},
		{"marked before the plan", plan, marked(failed(1100*ms, 1200*ms)), FailedFault},
		{"marked after the first effect", plan, marked(failed(2100*ms, 2200*ms)), FailedFault},
		{"unmarked before the fault", plan, failed(100*ms, 200*ms), FailedRecovery},
		{"unmarked before the first effect", plan, failed(1100*ms, 1999*ms), FailedFault},
		{"in flight at the first effect", plan, failed(1100*ms, 2000*ms), FailedRecovery},
		{"sent after the first effect", plan, failed(2100*ms, 2200*ms), FailedRecovery},
		{"no answer at all", plan, Record{Started: 2100 * ms, Ended: 2200 * ms, Err: "reset"}, FailedRecovery},
		{"long after", plan, failed(9000*ms, 9100*ms), FailedRecovery},
		{"silent, sent before confirmation", silent, at("t/cart", failed(2400*ms, 2600*ms)), FailedFault},
		{"silent, sent after confirmation", silent, at("t/cart", failed(2500*ms, 2600*ms)), FailedRecovery},
		{"silent, failed elsewhere", silent, at("t/front", failed(2400*ms, 2600*ms)), FailedRecovery},
		{"silent, first step never confirmed", unconfirmed, at("t/cart", failed(9000*ms, 9900*ms)), FailedFault},
		{"not silent, same service", plan, at("t/cart", failed(2400*ms, 2600*ms)), FailedRecovery},
		{"none: unmarked after the fault", none, failed(9000*ms, 9100*ms), FailedFault},
		{"none: unmarked before the fault", none, failed(100*ms, 200*ms), FailedRecovery},
		{"naive: before it acted", naive, at("t/cart", failed(1100*ms, 1200*ms)), FailedFault},
		{"naive: silent after it acted", naive, at("t/cart", failed(2100*ms, 2200*ms)), FailedRecovery},
		{"planned: any failure", planned, failed(100*ms, 200*ms), FailedRecovery},
	} {
		if got := c.t.Class(c.r); got != c.want {
			t.Errorf("%s: class %d, want %d", c.name, got, c.want)
		}
	}
}

func TestCountsSumToSent(t *testing.T) {
	records := []Record{
		{Ended: 1, Status: 200}, {Ended: 1, Status: 500, Fault: "f"}, {Ended: 3000 * ms, Status: 503}, {},
	}
	got := Classify(records, plan)
	if want := (Counts{Sent: 4, OK: 1, FailedFault: 1, FailedRecovery: 1, Unfinished: 1}); got != want {
		t.Errorf("counts are %+v, want %+v", got, want)
	}
}

func TestFailuresAreGrouped(t *testing.T) {
	records := []Record{{Ended: 1, Status: 200}, {Ended: 3000 * ms, Status: 503, FailedAt: "t/cart"},
		{Ended: 1500 * ms, Status: 500, Fault: "f"}, {Ended: 1600 * ms, Status: 500, Fault: "f"}}
	got := Failures(records, plan)
	if len(got) != 2 || got[0].Count != 2 || got[0].Class != FailedFault || got[1].FailedAt != "t/cart" ||
		got[1].Class != FailedRecovery {
		t.Errorf("failures are %v", got)
	}
}

func TestPercentile(t *testing.T) {
	var records []Record
	for i := 100; i >= 1; i-- {
		records = append(records, Record{Intended: 5 * ms, Ended: 5*ms + time.Duration(i)*ms, Status: 200})
	}
	records = append(records, Record{Ended: time.Hour, Status: 503})
	for q, want := range map[float64]time.Duration{0.5: 50 * ms, 0.99: 99 * ms, 1: 100 * ms, 0: 1 * ms} {
		if got, ok := Percentile(records, q); !ok || got != want {
			t.Errorf("percentile %g is %s, want %s", q, got, want)
		}
	}
	if _, ok := Percentile(records[100:], 0.5); ok {
		t.Error("a percentile of failures only")
	}
}

// second appends n requests a second, of which bad fail.
func second(records []Record, at, n, bad int) []Record {
	for i := range n {
		r := Record{Intended: time.Duration(at)*time.Second + time.Duration(i)*ms, Status: 200}
		if i < bad {
			r.Status = 500
		}
		r.Ended = r.Intended + ms
		records = append(records, r)
	}
	return records
}

func TestRecovered(t *testing.T) {
	objective := Objective{P99: 500 * ms, Errors: 0.01}
	var records []Record
	for at := range 40 {
		switch {
		case at < 5, at >= 20:
			records = second(records, at, 100, 0)
		case at == 12: // one good second does not make a recovery
			records = second(records, at, 100, 0)
		default:
			records = second(records, at, 100, 40)
		}
	}
	got, ok := Recovered(records, objective, 5*time.Second, 40*time.Second, 10*time.Second)
	if !ok || got != 15*time.Second {
		t.Errorf("recovered %s after the fault (%t), want 15s", got, ok)
	}
	if _, ok := Recovered(records, objective, 5*time.Second, 25*time.Second, 10*time.Second); ok {
		t.Error("recovered on five good seconds, want ten")
	}
}

// An answer that comes too late is not a good one.
func TestLateIsNotRecovered(t *testing.T) {
	objective := Objective{P99: 500 * ms, Errors: 0.01}
	records := second(nil, 0, 100, 0)
	if !objective.Met(records) || objective.Met(nil) {
		t.Error("100 good requests must meet the objective, none must not")
	}
	for i := range 2 {
		records[i].Ended = records[i].Intended + time.Second
	}
	if objective.Met(records) {
		t.Error("2 % late requests meet a p99 objective")
	}
}

func TestSeconds(t *testing.T) {
	records := second(second(nil, 0, 10, 1), 2, 5, 5)
	seconds := Seconds(records, Timeline{Injected: 0, Acted: 2 * time.Second})
	if len(seconds) != 3 || seconds[0].Counts.FailedFault != 1 || seconds[1].Counts.Sent != 0 ||
		seconds[2].Counts.FailedRecovery != 5 || seconds[0].P99 != ms {
		t.Errorf("seconds are %+v", seconds)
	}
}
