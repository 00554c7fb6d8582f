package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
)

// printTable prints one row an arm.
func printTable(out io.Writer, r report) {
	envoy := "unknown"
	if len(r.Arms) > 0 {
		envoy = r.Arms[0].EnvoyVersion
	}
	fmt.Fprintf(out, "topology %s, fault %s at %s, %g requests a second, Envoy %s\n\n", r.Topology, r.Fault, r.Service, r.RPS, envoy)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, strings.Join([]string{"arm", "sent", "ok", "failed: fault", "failed: recovery", "unfinished",
		"cut streams", "p50 s", "p99 s", "notice s", "decide s", "drain s", "gate s", "restart s", "restore s",
		"recover s", "harm", ""}, "\t"))
	for _, a := range r.Arms {
		cut := 0
		for _, kind := range a.Sessions {
			cut += kind.Cut
		}
		cells := []string{a.Name}
		for _, n := range []int{a.Requests.Sent, a.Requests.OK, a.Requests.FailedFault, a.Requests.FailedRecovery,
			a.Requests.Unfinished, cut} {
			cells = append(cells, strconv.Itoa(n))
		}
		for _, s := range []*float64{a.P50, a.P99, a.Notice, a.Decide, a.Drain, a.Gate, a.Restart, a.Restore, a.Recover} {
			cells = append(cells, number(s))
		}
		harm := "-"
		if a.Harm != nil {
			harm = *a.Harm
		}
		fmt.Fprintln(w, strings.Join(append(cells, harm, ""), "\t"))
	}
	_ = w.Flush() // what the terminal does not take is lost anyway
}

// number prints seconds to the millisecond, "-" if they are not known.
func number(s *float64) string {
	if s == nil {
		return "-"
	}
	return strconv.FormatFloat(*s, 'f', 3, 64)
}
