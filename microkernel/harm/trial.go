package harm

import (
	"fmt"
	"time"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/microkernel"
	"github.com/sluicemesh/sluice/topology/sequential"
)

// Grace is for how many seconds after the beginning, or a disturbance, latency and
// breaches do not count; see Subject.Calm.
const Grace = 5

// Times of a trial, in ticks of a second.
const (
	grace      = Grace
	persistent = 30 // a breach that lasts longer is harm
	missing    = 5  // seconds without any report that are harm
	patience   = 25 // how much longer than asked for a trial may go on to see a breach end
)

// wellAgain is the share of failures at which a service that was broken may be called well
// whatever its objective and its past: one failure in a window must not deny it.
const wellAgain = 0.01

// Subject is a service under watch, with what it was like before.
type Subject struct {
	Service   mesh.Service
	Objective mesh.Objective
	Broken    bool  // it was not healthy before
	Disturbed bool  // expected to be slow: latency does not trigger
	Checked   bool  // the plan's verification names it
	Before    Level // the 60 s before the action; of a broken service, since its onset
	Healthy   Level // of a broken service: before its onset, if that is known
	// Shape is how the latencies of Before were spread; nil = not known, and not tested.
	Shape sequential.Ladder
	// Unrest is how much the seconds of Before varied beyond what their requests explain.
	Unrest Unrest
	// Calm is for how many seconds nothing has disturbed it, as far as that is known: the
	// trigger has no more grace then than is left of it.
	Calm int
}

// Report is one second of a service. Missing says that nothing was reported at all,
// which is not the same as a report of no request. Disturbed says that it was expected to
// be slow in this second, say because requests were held below it: until the grace after
// the last such second the trigger counts no latency, nor remembers any. Shed of the
// Errors were brought about on purpose: such requests do not count at all.
type Report struct {
	Tick
	Missing   bool
	Disturbed bool
	Shed      uint64
}

// Settings of a trial.
type Settings struct {
	Window int // least seconds of the window, 1-30
	Length int // seconds until the verdict falls, 0 = only harm is a verdict
	// Controls are the levels, of when the subjects' were taken, of services that the plan
	// cannot have hurt; see Compare.
	Controls []Level
}

// Trial watches the services of one plan. It is fed one Report of each subject a second.
type Trial struct {
	settings Settings
	seconds  int
	services []*service
	controls []control
}

// service is a subject with what was seen of it.
type service struct {
	Subject
	bounds    Bounds // above them it is in breach; if it was broken, worse than it was
	recovered Bounds // of a broken service: within them it is well again
	trigger   trigger
	history   history
	breach    int  // seconds in breach without a break, after grace
	calm      int  // seconds since the last disturbance, or the beginning
	shaken    bool // there was a disturbance, and its grace is not over
	silent    int  // seconds without a report
	reported  bool
	requests  uint64
}

// NewTrial returns a trial of subjects that begins with the next tick.
func NewTrial(subjects []Subject, settings Settings) *Trial {
	t := &Trial{settings: settings}
	t.settings.Window = min(max(settings.Window, 1), maxWindow)
	for _, level := range settings.Controls {
		t.controls = append(t.controls, control{before: level})
	}
	for i := range subjects {
		s := &service{Subject: subjects[i], calm: subjects[i].Calm}
		s.trigger = newTrigger(&s.Subject, len(subjects))
		s.bounds = BoundsOf(s.Objective, s.Before)
		if s.Broken {
			s.recovered = BoundsOf(s.Objective, s.Healthy)
			s.recovered.Errors = max(s.recovered.Errors, wellAgain)
		}
		if s.Broken && !s.Before.Known() { // how bad it was is not known, so nor is what is worse
			s.bounds = Bounds{P99: -1, Errors: -1}
		}
		t.services = append(t.services, s)
	}
	return t
}

// Next takes one second: reports has one entry for each subject, in their order. The
// second result is true when the verdict has fallen; Next must not be called again then.
func (t *Trial) Next(reports []Report) (microkernel.HarmVerdict, bool) {
	t.seconds++
	for i, s := range t.services {
		if evidence := s.next(reports[i], t); evidence != "" {
			return microkernel.HarmVerdict{Label: microkernel.Harm, Service: s.Service, Evidence: evidence}, true
		}
	}
	if t.settings.Length == 0 || t.seconds < t.settings.Length {
		return microkernel.HarmVerdict{}, false
	}
	if t.seconds < t.settings.Length+patience && t.unsettled() {
		return microkernel.HarmVerdict{}, false
	}
	return t.conclude(), true
}

// next takes one second of a service and says how it is harmed, "" if it is not.
func (s *service) next(r Report, t *Trial) string {
	s.settle(r.Disturbed)
	if r.Missing {
		s.silent++
		if s.reported && s.silent >= missing {
			return fmt.Sprintf("no report for %d s", s.silent)
		}
		return ""
	}
	s.silent, s.reported = 0, true
	r.Errors -= min(r.Shed, r.Errors)
	r.Requests -= min(r.Shed, r.Requests)
	s.requests += r.Requests
	s.history.add(r.Tick)
	if evidence := s.alarm(r.Tick, t); evidence != "" {
		return evidence
	}
	if t.seconds <= grace {
		return ""
	}
	breach := s.bounds.Breach(s.history.window(t.settings.Window))
	if breach == "" {
		s.breach = 0
		return ""
	}
	s.breach++
	if s.breach > persistent {
		return fmt.Sprintf("for %d s: %s", s.breach, breach)
	}
	return ""
}

// settle counts the seconds since a disturbance. Windows begin anew when its grace is
// over: what is left of the backlog says nothing of how the service is now.
func (s *service) settle(disturbed bool) {
	if disturbed {
		s.calm, s.shaken = 0, true
		s.trigger.forgetLatency()
		return
	}
	s.calm++
	if s.shaken && s.calm > grace {
		s.history, s.shaken = history{}, false
	}
}

// alarm asks the trigger.
func (s *service) alarm(tick Tick, t *Trial) string {
	if s.Broken {
		return ""
	}
	if s.trigger.errorAlarm(tick) && s.trigger.failing(s.history.window(t.settings.Window)) {
		level := s.history.window(1)
		return fmt.Sprintf("failures rose: %.2f%% of %d requests, %.2f%% before",
			100*level.Errors, level.Requests, 100*s.Before.Errors)
	}
	if s.Disturbed || s.calm <= grace {
		return ""
	}
	tail, shift := s.trigger.slowAlarms(tick)
	if (tail || shift) && s.slowed(tail, shift, t) {
		level := s.history.window(1)
		return fmt.Sprintf("latency rose: p99 %s of %d requests, %s before",
			round(level.P99), level.Requests, round(s.Before.P99))
	}
	return ""
}

// slowed reports whether the service is slow by more than the controls are. If they
// explain it, the trigger forgets what it has counted.
func (s *service) slowed(tail, shift bool, t *Trial) bool {
	now := s.slowness(t.settings.Window)
	if !now.large(s, tail, shift) {
		return false
	}
	slowdown := t.slowdown()
	now.p99, now.factor = time.Duration(float64(now.p99)/slowdown), now.factor/slowdown
	if now.large(s, tail, shift) {
		return true
	}
	s.trigger.forgetLatency()
	return false
}

// unsettled reports whether some service is in breach, or not well again, at this moment,
// or has had some requests but too few to say.
func (t *Trial) unsettled() bool {
	for _, s := range t.services {
		if s.breach > t.settings.Window && !s.Broken { // longer than one bad request explains
			return true
		}
		if (s.Broken || s.Checked) && s.requests > 0 && s.requests < LeastRequests {
			return true
		}
		if s.Broken && s.recovered.Breach(s.history.window(t.settings.Window)) != "" {
			return true
		}
	}
	return false
}

// conclude labels a trial that went to its end without harm. A service that was broken
// before must be well again; one that was healthy is never "not recovered": a breach of
// it that did not last is no harm. Those that were broken and those that the plan checks,
// or without any all services together, must have had enough requests to say.
func (t *Trial) conclude() microkernel.HarmVerdict {
	all, short := uint64(0), (*service)(nil)
	for _, s := range t.services {
		if s.Broken {
			if breach := s.recovered.Breach(s.history.window(t.settings.Window)); breach != "" {
				return microkernel.HarmVerdict{Label: microkernel.NotRecovered, Service: s.Service, Evidence: breach}
			}
		}
		all += s.requests
		if (s.Broken || s.Checked) && s.requests < LeastRequests && short == nil {
			short = s
		}
	}
	switch {
	case short != nil:
		return inconclusive(short.Service, short.requests)
	case all < LeastRequests:
		return inconclusive("", all)
	}
	evidence := fmt.Sprintf("%d services, %d requests in %d s", len(t.services), all, t.seconds)
	return microkernel.HarmVerdict{Label: microkernel.Clean, Evidence: evidence}
}

func inconclusive(service mesh.Service, requests uint64) microkernel.HarmVerdict {
	return microkernel.HarmVerdict{
		Label: microkernel.Inconclusive, Service: service,
		Evidence: fmt.Sprintf("%d requests, %d are needed", requests, LeastRequests),
	}
}
