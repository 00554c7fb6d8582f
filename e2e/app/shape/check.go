package shape

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
)

// Bounds of a topology.
const (
	maxInstances = 64
	maxWork      = 10 * time.Second
)

// check returns every fault of t, joined.
func (t *Topology) check() error {
	var faults []error
	if t.Name == "" {
		faults = append(faults, errors.New("name is missing"))
	}
	faults = append(faults, t.checkNames()...)
	for i := range t.Services {
		faults = append(faults, t.checkService(&t.Services[i])...)
	}
	faults = append(faults, t.checkMix(), t.checkLoops())
	faults = append(faults, t.checkFaults()...)
	return errors.Join(faults...)
}

func (t *Topology) checkNames() []error {
	var faults []error
	seen := map[string]bool{}
	instances := 0
	for _, service := range t.Services {
		if service.Name == "" || seen[service.Name] {
			faults = append(faults, fmt.Errorf("service %q: the name is empty or used twice", service.Name))
		}
		seen[service.Name] = true
		instances += service.Instances
		if service.Instances < 1 {
			faults = append(faults, fmt.Errorf("service %s: instances is negative", service.Name))
		}
	}
	if instances > maxInstances {
		faults = append(faults, fmt.Errorf("%d instances, at most %d are allowed", instances, maxInstances))
	}
	return faults
}

func (t *Topology) checkService(service *Service) []error {
	var faults []error
	fault := func(format string, args ...any) {
		faults = append(faults, fmt.Errorf("service "+service.Name+": "+format, args...))
	}
	if service.Kind != Handler && service.Kind != Store {
		fault("kind %q: want %s or %s", service.Kind, Handler, Store)
	}
	if service.Kind == Store && len(service.Operations) > 0 {
		fault("a store has no operations of its own")
	}
	if min(service.Work, service.Startup) < 0 || max(service.Work, service.Startup) > maxWork {
		fault("work and startup lie between 0 and %s", maxWork)
	}
	stores := slices.Clone(service.ReadsOnce)
	if service.Session != "" {
		stores = append(stores, service.Session)
	}
	for _, store := range stores {
		if found, ok := t.Find(store); !ok || found.Kind != Store {
			fault("%q is not a store of this topology", store)
		}
	}
	for operation, steps := range service.Operations {
		for i, step := range steps {
			if err := t.checkStep(step); err != nil {
				fault("operation %s, step %d: %w", operation, i+1, err)
			}
		}
	}
	return faults
}

func (t *Topology) checkStep(step Step) error {
	if (step.To != "") == (len(step.Parallel) > 0) {
		return errors.New("want either to or parallel")
	}
	for _, call := range step.Calls() {
		if err := t.checkCall(call); err != nil {
			return err
		}
	}
	return nil
}

func (t *Topology) checkCall(call Call) error {
	callee, ok := t.Find(call.To)
	if !ok {
		return fmt.Errorf("calls %q, which is not a service of this topology", call.To)
	}
	if !(call.Chance >= 0 && call.Chance <= 1) || call.Timeout <= 0 {
		return fmt.Errorf("call of %s: chance lies in 0..1, timeout is positive", call.To)
	}
	if callee.Kind == Store {
		if call.Via != TCP || (call.Op != "get" && call.Op != "set") {
			return fmt.Errorf("call of store %s: want op get or set, via tcp", call.To)
		}
		return nil
	}
	if call.Via != HTTP && call.Via != GRPC && call.Via != Stream {
		return fmt.Errorf("call of %s: via %q: want http, grpc or stream", call.To, call.Via)
	}
	if _, ok := callee.Operations[call.Op]; !ok {
		return fmt.Errorf("%s has no operation %q", call.To, call.Op)
	}
	return nil
}

func (t *Topology) checkMix() error {
	entry, ok := t.Find(t.Entry)
	if !ok {
		return fmt.Errorf("entry %q is not a service of this topology", t.Entry)
	}
	sum := 0.0
	for _, part := range t.Mix {
		if _, ok := entry.Operations[part.Operation]; !ok {
			return fmt.Errorf("mix: %s has no operation %q", t.Entry, part.Operation)
		}
		if !(part.Share > 0) {
			return fmt.Errorf("mix: share of %s is not positive", part.Operation)
		}
		sum += part.Share
	}
	if math.Abs(sum-1) > 1e-6 {
		return fmt.Errorf("mix: the shares sum to %g, want 1", sum)
	}
	return nil
}

// checkLoops reports an operation that reaches itself: a request would never end.
func (t *Topology) checkLoops() error {
	const visiting, done = 1, 2
	state := map[[2]string]int{}
	var visit func(at [2]string) error
	visit = func(at [2]string) error {
		switch state[at] {
		case visiting:
			return fmt.Errorf("operation %s of %s reaches itself", at[1], at[0])
		case done:
			return nil
		}
		state[at] = visiting
		service, _ := t.Find(at[0])
		if service == nil {
			return nil
		}
		for _, step := range service.Operations[at[1]] {
			for _, call := range step.Calls() {
				if err := visit([2]string{call.To, call.Op}); err != nil {
					return err
				}
			}
		}
		state[at] = done
		return nil
	}
	for _, service := range t.Services {
		for operation := range service.Operations {
			if err := visit([2]string{service.Name, operation}); err != nil {
				return err
			}
		}
	}
	return nil
}

func (t *Topology) checkFaults() []error {
	var faults []error
	for kind, target := range t.Faults {
		names := append([]string{target.Service}, target.Callers...)
		if target.Store != "" {
			names = append(names, target.Store)
		}
		for _, name := range names {
			if _, ok := t.Find(name); !ok {
				faults = append(faults, fmt.Errorf("fault %s: %q is not a service of this topology", kind, name))
			}
		}
	}
	return faults
}
