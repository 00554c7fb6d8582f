package main

import (
	_ "embed"
	"fmt"
	"html/template"
	"os"
	"strings"
	"time"

	"github.com/sluicemesh/sluice/e2e/load"
	"github.com/sluicemesh/sluice/e2e/rig"
)

//go:embed page.html
var pageSource string

// page is what the template gets.
type page struct {
	Report   report
	Envoy    string
	Headline string
	Good     bool
	Charts   []chart
	Plan     *gantt
}

// chart is the timeline of one arm.
type chart struct {
	Name     string
	Says     string
	SVG      template.HTML
	Restarts []string
}

// writePage writes the report as one self-contained file.
func writePage(path string, r report, arms []*arm) error {
	funcs := template.FuncMap{"s": number, "cut": cutSessions, "join": func(list []string) string { return strings.Join(list, ", ") }}
	source, err := template.New("report").Funcs(funcs).Parse(pageSource)
	if err != nil {
		return fmt.Errorf("demo-report.html: %w", err)
	}
	var text strings.Builder
	if err := source.Execute(&text, newPage(r, arms)); err != nil {
		return fmt.Errorf("demo-report.html: %w", err)
	}
	if err := os.WriteFile(path, []byte(text.String()), 0o644); err != nil {
		return fmt.Errorf("demo-report.html: %w", err)
	}
	return nil
}

func newPage(r report, arms []*arm) page {
	p := page{Report: r, Envoy: "unknown", Headline: "No arm of Sluice was run."}
	end, peak := 0, 1
	for _, a := range arms {
		for _, s := range load.Seconds(a.log.Records, a.timeline) {
			end, peak = max(end, s.At+1), max(peak, s.Counts.Sent)
		}
	}
	for i, a := range arms {
		p.Envoy = a.envoy
		c := chart{Name: a.name, Says: describe(r.Arms[i]), SVG: drawArm(a, end, peak)}
		for _, step := range a.restarts {
			c.Restarts = append(c.Restarts, fmt.Sprintf("%s in %.2f s", step.service, (step.end-step.began).Seconds()))
		}
		p.Charts = append(p.Charts, c)
		if a.name != armSluice {
			continue
		}
		p.Headline, p.Good = headline(r.Arms[i])
		p.Plan = newGantt(a)
	}
	return p
}

// headline says in one sentence what Sluice did.
func headline(a armReport) (string, bool) {
	switch {
	case a.Recover == nil:
		return "Sluice did not recover the application.", false
	case a.Requests.FailedRecovery > 0 || a.Requests.Unfinished > 0:
		return fmt.Sprintf("Sluice recovered the application in %.1f s; the recovery failed %d of %d requests.",
			*a.Recover, a.Requests.FailedRecovery+a.Requests.Unfinished, a.Requests.Sent), false
	}
	return fmt.Sprintf("Sluice recovered the application in %.1f s. The recovery failed 0 of %d requests.",
		*a.Recover, a.Requests.Sent), true
}

func describe(a armReport) string {
	end := "did not recover"
	if a.Recover != nil {
		end = fmt.Sprintf("recovered after %.1f s", *a.Recover)
	}
	return fmt.Sprintf("%s; failed by the fault %d, failed by the recovery %d", end, a.Requests.FailedFault, a.Requests.FailedRecovery)
}

func cutSessions(sessions map[string]load.Sessions) int {
	cut := 0
	for _, kind := range sessions {
		cut += kind.Cut
	}
	return cut
}

// gantt is the plan, step by step, in percent of its width.
type gantt struct {
	ID, Phase, Harm string
	Length          float64 // seconds
	Rows            []ganttRow
}

type ganttRow struct {
	Action, Target, State  string
	From, Acked, Width     float64 // percent; Acked counts from From
	Gated                  bool    // has a moment of ACKs, so the rest is the gate
	Began, Took            string
	Acks, InFlight, Proofs string
}

// newGantt lays out the plan of an arm, nil if there was none.
func newGantt(a *arm) *gantt {
	if a.plan == nil {
		return nil
	}
	g := &gantt{ID: a.plan.GetId(), Phase: a.plan.GetPhase(), Harm: a.plan.GetHarm()}
	proposed := rig.At(a.plan.GetProposed())
	for _, step := range a.plan.GetSteps() {
		if ended := offset(proposed, rig.At(step.GetEnded())); ended != nil {
			g.Length = max(g.Length, *ended)
		}
	}
	for _, step := range a.plan.GetSteps() {
		row := ganttRow{Action: step.GetAction(), Target: step.GetTarget(), State: step.GetState()}
		began, ended := offset(proposed, rig.At(step.GetStarted())), offset(proposed, rig.At(step.GetEnded()))
		if began != nil && ended != nil && g.Length > 0 {
			row.From, row.Width = 100**began/g.Length, max(100*(*ended-*began)/g.Length, 0.4)
			row.Began, row.Took = number(began), fmt.Sprintf("%.0f ms", 1000*(*ended-*began))
			if acked := offset(proposed, rig.At(step.GetAcked())); acked != nil && *ended > *began {
				row.Gated, row.Acked = true, 100*(*acked-*began)/(*ended-*began)
			}
		}
		if step.GetProofGrade() != "" {
			row.Acks = fmt.Sprintf("%d of %d", step.GetAcks(), step.GetRequired())
			row.InFlight, row.Proofs = fmt.Sprint(step.GetInFlightAtGate()), step.GetProofGrade()
		}
		g.Rows = append(g.Rows, row)
	}
	return g
}

// Size of a chart, in its own units.
const (
	chartWidth  = 960.0
	chartHeight = 170.0
	chartLeft   = 44.0
	chartTop    = 46.0
	chartBottom = 22.0
)

// drawArm draws requests a second by class, and the moments of the arm. end and peak
// are the same for all arms, so that they can be compared.
func drawArm(a *arm, end, peak int) template.HTML {
	var svg strings.Builder
	x := func(s float64) float64 { return chartLeft + s*(chartWidth-chartLeft)/float64(max(end, 1)) }
	scale := (chartHeight - chartTop - chartBottom) / float64(peak)
	base := chartHeight - chartBottom
	fmt.Fprintf(&svg, `<svg viewBox="0 0 %g %g" role="img" aria-label="requests a second in arm %s">`, chartWidth, chartHeight, a.name)
	for i := range 3 {
		value := float64(peak) * float64(i) / 2
		y := base - value*scale
		fmt.Fprintf(&svg, `<line class="grid" x1="%g" x2="%g" y1="%.1f" y2="%.1f"/>`, chartLeft, chartWidth, y, y)
		fmt.Fprintf(&svg, `<text class="tick" x="%g" y="%.1f" text-anchor="end">%.0f</text>`, chartLeft-6, y+4, value)
	}
	for second := 0; second <= end; second += 10 {
		fmt.Fprintf(&svg, `<text class="tick" x="%.1f" y="%g" text-anchor="middle">%d s</text>`, x(float64(second)), chartHeight-6, second)
	}
	width := max(x(1)-x(0)-0.6, 0.5)
	for _, s := range load.Seconds(a.log.Records, a.timeline) {
		y := base
		c := s.Counts
		for _, part := range []struct {
			class string
			n     int
		}{{"ok", c.OK}, {"fault", c.FailedFault}, {"bad", c.FailedRecovery + c.Unfinished}} {
			if part.n == 0 {
				continue
			}
			y -= float64(part.n) * scale
			fmt.Fprintf(&svg, `<rect class="%s" x="%.1f" y="%.1f" width="%.1f" height="%.1f"><title>second %d: %d ok, %d failed by the fault, %d by the recovery</title></rect>`,
				part.class, x(float64(s.At)), y, width, float64(part.n)*scale, s.At, c.OK, c.FailedFault, c.FailedRecovery)
		}
	}
	for i, mark := range a.marks() {
		at, y := x(mark.at.Seconds()), 10+i*11
		fmt.Fprintf(&svg, `<line class="mark" x1="%.1f" x2="%.1f" y1="%d" y2="%g"/><text class="label" x="%.1f" y="%d">%s</text>`,
			at, at, y-8, base, at+4, y, mark.text)
	}
	svg.WriteString(`</svg>`)
	return template.HTML(svg.String()) //nolint:gosec // made of numbers and of words of this file
}

// moment is a mark in a chart.
type moment struct {
	at   time.Duration
	text string
}

// marks are the moments of an arm, in order.
func (a *arm) marks() []moment {
	injected := a.timeline.Injected
	list := []moment{{injected, "fault"}}
	if a.notice != nil && a.name == armSluice {
		list = append(list, moment{injected + *a.notice, "noticed"})
	}
	if a.timeline.Acted != load.Never {
		list = append(list, moment{a.timeline.Acted, "acts"})
	}
	if a.recovered != nil {
		list = append(list, moment{injected + *a.recovered, "recovered"})
	}
	return list
}
