// Package symptom decides once a second which services have a symptom: an objective
// that burns its budget in a short and a long window at once, or an instance that is
// down while its service takes traffic. It reads the ticks of a topology.Series and the
// registry's world; it reads no clock, and is not for finding the culprit (see
// topology.Snapshot.Group) nor for judging harm.
//
//	healthy ──bad in both windows──► symptom ──Settings.Healthy without a bad tick──► healthy
package symptom

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/topology"
)

// Settings are the knobs of a Detector; see Defaults.
type Settings struct {
	Short, Long time.Duration // windows of the burn rate
	ErrorBurn   float64       // share of errors in both windows, in multiples of the objective
	SlowShare   float64       // share of requests slower than the objective's p99, in both windows
	MinBad      uint64        // least failed or slow requests in the short window
	MinRequests uint64        // least requests in the short window
	Down        time.Duration // an instance down for longer is a symptom
	Traffic     time.Duration // a service takes traffic if it had a request within
	Healthy     time.Duration // without a bad tick before a symptom ends
}

// Defaults returns the settings of a local mesh: noticed within about two seconds.
func Defaults() Settings {
	return Settings{
		Short: 3 * time.Second, Long: 10 * time.Second,
		ErrorBurn: 2, SlowShare: 0.05, MinBad: 3, MinRequests: 5,
		Down: time.Second, Traffic: time.Minute, Healthy: 10 * time.Second,
	}
}

// Symptom is a service whose objective is broken, or an instance of which is down.
type Symptom struct {
	Service    mesh.Service
	Onset      time.Time // first bad second
	Noticed    time.Time
	Evidence   string // numbers and registered names only
	ErrorShare float64
	Succeeded  uint64 // requests in the short window
	P99        time.Duration
}

// Detector remembers what is bad since when. It is not safe for concurrent use.
type Detector struct {
	settings Settings
	services map[mesh.Service]*health
	down     map[mesh.Ref]time.Time // since when an instance has not been ready
	expected map[mesh.Service]bool
}

// health is what is remembered of one service.
type health struct {
	present *Symptom
	lastBad time.Time
}

// New returns a detector that has seen nothing.
func New(settings Settings) *Detector {
	return &Detector{settings: settings, services: map[mesh.Service]*health{}, down: map[mesh.Ref]time.Time{}}
}

// Expect names the services that are being restarted on purpose: that their instances
// are down is then no symptom. Each call replaces the last.
func (d *Detector) Expect(services []mesh.Service) {
	d.expected = make(map[mesh.Service]bool, len(services))
	for _, service := range services {
		d.expected[service] = true
	}
}

// Tick looks at the whole seconds before now and returns the present symptoms, sorted
// by service.
func (d *Detector) Tick(now time.Time, world *mesh.World, series *topology.Series) []Symptom {
	d.watchInstances(now, world)
	var present []Symptom
	known := make(map[mesh.Service]bool, len(world.Services))
	for i := range world.Services {
		service := &world.Services[i]
		known[service.Name] = true
		if found := d.update(now, service, series); found != nil {
			present = append(present, *found)
		}
	}
	for name := range d.services {
		if !known[name] {
			delete(d.services, name)
		}
	}
	slices.SortFunc(present, func(a, b Symptom) int { return strings.Compare(string(a.Service), string(b.Service)) })
	return present
}

// update takes one service through its states and returns its symptom, if any.
func (d *Detector) update(now time.Time, service *mesh.ServiceState, series *topology.Series) *Symptom {
	state := d.services[service.Name]
	found, bad := d.judge(now, service, series)
	switch {
	case bad && state == nil:
		state = &health{present: &found}
		d.services[service.Name] = state
	case state == nil:
		return nil
	}
	if bad {
		state.lastBad = now
		found.Onset, found.Noticed = state.present.Onset, state.present.Noticed
		*state.present = found
	}
	if now.Sub(state.lastBad) >= d.settings.Healthy {
		delete(d.services, service.Name)
		return nil
	}
	return state.present
}

// judge reports whether service is bad now, with the symptom as it would begin.
func (d *Detector) judge(now time.Time, service *mesh.ServiceState, series *topology.Series) (Symptom, bool) {
	short := series.Window(service.Name, now.Add(-d.settings.Short), now)
	long := series.Window(service.Name, now.Add(-d.settings.Long), now)
	found := Symptom{
		Service: service.Name, Noticed: now, Onset: now,
		ErrorShare: short.ErrorShare(), Succeeded: short.Requests - short.Errors, P99: short.P99(),
	}
	var reasons []string
	if reason := d.failing(service.Objective, short, long); reason != "" {
		reasons = append(reasons, reason)
	}
	if reason := d.slow(service.Objective, short, long); reason != "" {
		reasons = append(reasons, reason)
	}
	if len(reasons) > 0 {
		found.Onset = d.onset(now, service, series)
	}
	reason, since := d.instances(now, service, series)
	if reason != "" {
		reasons = append(reasons, reason)
		if since.Before(found.Onset) {
			found.Onset = since
		}
	}
	found.Evidence = strings.Join(reasons, "; ")
	return found, len(reasons) > 0
}

// failing says how the error objective is broken, "" if it is not.
func (d *Detector) failing(objective mesh.Objective, short, long topology.Tick) string {
	limit := objective.Errors * d.settings.ErrorBurn
	if objective.Errors <= 0 || short.Errors < d.settings.MinBad || short.Requests < d.settings.MinRequests ||
		short.ErrorShare() < min(limit, 1) || long.ErrorShare() < min(limit, 1) {
		return ""
	}
	return fmt.Sprintf("errors %.2f%% of %d requests in %s (objective %.2f%%)",
		100*short.ErrorShare(), short.Requests, d.settings.Short, 100*objective.Errors)
}

// slow says how the latency objective is broken, "" if it is not.
func (d *Detector) slow(objective mesh.Objective, short, long topology.Tick) string {
	if objective.P99 <= 0 || short.Requests < d.settings.MinRequests {
		return ""
	}
	slow := short.Hist.Above(objective.P99)
	if slow < d.settings.MinBad || share(slow, short.Requests) < d.settings.SlowShare ||
		share(long.Hist.Above(objective.P99), long.Requests) < d.settings.SlowShare {
		return ""
	}
	return fmt.Sprintf("%.1f%% of %d requests slower than %s in %s",
		100*share(slow, short.Requests), short.Requests, objective.P99, d.settings.Short)
}

// onset returns the earliest bad second of the long window.
func (d *Detector) onset(now time.Time, service *mesh.ServiceState, series *topology.Series) time.Time {
	for second := now.Add(-d.settings.Long).Unix(); second < now.Unix(); second++ {
		tick, seen := series.Service(service.Name, second)
		if !seen {
			continue
		}
		objective := service.Objective
		failing := objective.Errors > 0 && tick.ErrorShare() >= objective.Errors*d.settings.ErrorBurn
		slow := objective.P99 > 0 && share(tick.Hist.Above(objective.P99), tick.Requests) >= d.settings.SlowShare
		if failing || slow {
			return time.Unix(second, 0)
		}
	}
	return now
}

// watchInstances notes since when each instance has not been ready.
func (d *Detector) watchInstances(now time.Time, world *mesh.World) {
	seen := make(map[mesh.Ref]bool, len(d.down))
	for i := range world.Services {
		for j := range world.Services[i].Instances {
			instance := &world.Services[i].Instances[j]
			if instance.State != mesh.Stopped && instance.State != mesh.Unready {
				continue
			}
			seen[instance.Ref] = true
			if _, noted := d.down[instance.Ref]; !noted {
				d.down[instance.Ref] = now
			}
		}
	}
	for ref := range d.down {
		if !seen[ref] {
			delete(d.down, ref)
		}
	}
}

// instances says which instance has been down for too long, and since when.
func (d *Detector) instances(now time.Time, service *mesh.ServiceState, series *topology.Series) (string, time.Time) {
	if d.expected[service.Name] {
		return "", now
	}
	var names []string
	earliest := now
	for i := range service.Instances {
		instance := &service.Instances[i]
		since, down := d.down[instance.Ref]
		if !down || now.Sub(since) <= d.settings.Down {
			continue
		}
		names = append(names, fmt.Sprintf("%s %s", instance.Name, instance.State))
		if since.Before(earliest) {
			earliest = since
		}
	}
	if len(names) == 0 || !series.Took(service.Name, now.Add(-d.settings.Traffic)) {
		return "", now
	}
	return "instance " + strings.Join(names, ", "), earliest
}

// share returns part as a share of whole, 0 without any.
func share(part, whole uint64) float64 {
	if whole == 0 {
		return 0
	}
	return float64(part) / float64(whole)
}
