package main

import (
	"fmt"
	"slices"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/ext"

	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/microkernel"
)

// celRules are the rules of a verdict as the Common Expression Language can say them, each
// true for what may pass. It has no loops that carry a value and no graphs: each step
// comes with the names of all steps before it, and each service with its place in the
// orders. What remains unsaid is all to its favour: the leases against the longest chain
// of deadlines, conflicts between steps, cycles, the expansion, and everything of the
// kernel that concerns other plans.
func celRules() []string {
	return []string{
		`plan.id.matches('^[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?$')`,
		`size(plan.steps) >= 1 && size(plan.steps) <= 64`,
		`plan.steps.all(s, size(s.id) >= 1 && size(s.id) <= 64 && s.id.matches('^[a-z0-9-]+$'))`,
		`plan.steps.all(s, plan.steps.exists_one(o, o.id == s.id))`,
		`plan.steps.all(s, s.after.all(a, a != s.id && plan.steps.exists(o, o.id == a)))`,
		`plan.steps.all(s, s.kind == 'restoreTraffic' || s.service in services)`,
		`plan.steps.all(s, s.kind == 'restoreTraffic' || !(services[s.service].namespace in policy.protected))`,
		`plan.steps.all(s, s.kind == 'restoreTraffic' || !(s.service in policy.self) && !services[s.service].protected)`,
		`plan.steps.all(s, s.kind != 'drain' || s.share >= 1 && s.share <= 100)`,
		`plan.steps.all(s, s.kind != 'drain' || s.deadline <= policy.maxDrainDeadline && s.lease <= policy.maxLease)`,
		`plan.steps.all(s, s.kind != 'drain' ||
			plan.steps.exists_one(o, o.kind == 'restoreTraffic' && o.drain == s.id && s.id in o.before))`,
		`plan.steps.all(s, s.kind != 'restoreTraffic' || plan.steps.exists(o, o.id == s.drain && o.kind == 'drain'))`,
		`plan.steps.all(s, s.kind != 'restart' || (s.drain == '' ? !services[s.service].takes : s.drain in s.before &&
			plan.steps.exists(o, o.id == s.drain && o.kind == 'drain' && o.service == s.service && o.share == 100) &&
			plan.steps.exists(o, o.kind == 'restoreTraffic' && o.drain == s.drain && s.id in o.before)))`,
		`plan.steps.all(s, s.kind != 'restart' || s.drain != '' || services[s.service].fanIn <= policy.fanInMustDrain)`,
		`view.restartSet.all(m, plan.steps.exists(s, s.kind == 'restart' && s.service == m))`,
		`size(view.restartSet) <= policy.maxGroupSize`,
		`plan.steps.all(a, a.kind != 'restart' || plan.steps.all(b, b.kind != 'restart' || a.service == b.service ||
			!(b.service in services[a.service].reaches) || b.id in a.before))`,
		`plan.steps.all(a, a.kind != 'drain' || plan.steps.all(b, b.kind != 'drain' || a.service == b.service ||
			!(b.service in services[a.service].reaches) || a.id in b.before))`,
		`plan.steps.all(a, a.kind != 'restoreTraffic' || plan.steps.all(b, b.kind != 'restoreTraffic' ||
			a.service == b.service || !(b.service in services[a.service].reaches) || b.id in a.before))`,
		`plan.steps.all(s, s.kind != 'drain' || services[s.service].capability.drain &&
			(s.onEmpty != 'hold' || services[s.service].capability.hold) &&
			services[s.service].capability.grade == policy.leastGrade)`,
		`plan.steps.all(s, s.kind != 'drain' || s.onEmpty != '' ||
			services[s.service].instances.exists(i, i.state == 'ready'))`,
		`plan.steps.all(s, s.kind != 'drain' || s.onEmpty != 'hold' ||
			double(size(view.restartSet)) * services[s.service].restart <= services[s.service].callerDeadline)`,
		`plan.steps.all(s, s.kind != 'rateLimit' || services[s.service].capability.limit &&
			s.perSecond >= policy.limitShare * services[s.service].rate && s.burst * 10.0 >= policy.limitShare * services[s.service].rate)`,
		`plan.verify.all(v, v.service in services && v.seconds > 0.0 && v.seconds <= 86400.0)`,
	}
}

// celProgram is the rules, ready to run.
type celProgram []cel.Program

// compileRules compiles them once, with what cel-go offers for speed: constants folded,
// regular expressions compiled beforehand, sets of constants hashed.
func compileRules() (celProgram, error) {
	env, err := cel.NewEnv(ext.Strings(), ext.Sets(),
		cel.Variable("plan", cel.MapType(cel.StringType, cel.DynType)),
		cel.Variable("services", cel.MapType(cel.StringType, cel.DynType)),
		cel.Variable("view", cel.MapType(cel.StringType, cel.DynType)),
		cel.Variable("policy", cel.MapType(cel.StringType, cel.DynType)))
	if err != nil {
		return nil, err
	}
	folding, err := cel.NewConstantFoldingOptimizer()
	if err != nil {
		return nil, err
	}
	optimizer, err := cel.NewStaticOptimizer(folding)
	if err != nil {
		return nil, err
	}
	var out celProgram
	for _, rule := range celRules() {
		ast, issues := env.Compile(rule)
		if issues.Err() != nil {
			return nil, fmt.Errorf("rule %s: %w", rule, issues.Err())
		}
		if ast, issues = optimizer.Optimize(env, ast); issues.Err() != nil {
			return nil, fmt.Errorf("rule %s: %w", rule, issues.Err())
		}
		program, err := env.Program(ast, cel.EvalOptions(cel.OptOptimize))
		if err != nil {
			return nil, fmt.Errorf("rule %s: %w", rule, err)
		}
		out = append(out, program)
	}
	return out, nil
}

// admit returns the first rule that input breaks as an error.
func (c celProgram) admit(input map[string]any) error {
	for i, program := range c {
		value, _, err := program.Eval(input)
		if err != nil {
			return fmt.Errorf("rule %d: %w", i, err)
		}
		if value.Value() != true {
			return fmt.Errorf("rule %d: %s", i, celRules()[i])
		}
	}
	return nil
}

// celInput is a proposal as decoded JSON would be: maps and lists.
func celInput(ev *microkernel.Submitted) map[string]any {
	policy := microkernel.DefaultPolicy()
	services := map[string]any{}
	for i := range ev.View.Services {
		services[string(ev.View.Services[i].Name)] = celService(&ev.View, i)
	}
	return map[string]any{
		"plan": celPlan(&ev.Program), "services": services,
		"view": map[string]any{"restartSet": texts(ev.View.RestartSet)},
		"policy": map[string]any{
			"protected": policy.ProtectedNamespaces, "self": texts(policy.Self), "maxGroupSize": policy.MaxGroupSize,
			"fanInMustDrain": policy.FanInMustDrain, "leastGrade": string(policy.LeastGrade),
			"limitShare": policy.LimitShareOfLoad, "maxLease": policy.MaxLease.Seconds(),
			"maxDrainDeadline": policy.MaxDrainDeadline.Seconds(),
		},
	}
}

func celService(view *microkernel.View, i int) map[string]any {
	s := &view.Services[i]
	var instances []any
	for _, instance := range s.Instances {
		instances = append(instances, map[string]any{"uid": string(instance.UID), "state": string(instance.State)})
	}
	at := slices.Index(view.DrainOrder, s.Name)
	var reaches []mesh.Service
	if at >= 0 {
		reaches = view.DrainOrder[at+1:]
	}
	return map[string]any{
		"namespace": s.Name.Namespace(), "protected": s.Protected, "fanIn": s.FanIn, "takes": s.Takes, "rate": s.Rate,
		"restart": s.RestartP99.Seconds(), "callerDeadline": s.CallerDeadline.Seconds(), "instances": instances,
		"reaches": texts(reaches), "capability": map[string]any{
			"drain": s.Capability.Drain, "hold": s.Capability.Hold, "limit": s.Capability.Limit, "grade": string(s.Capability.Grade),
		},
	}
}

func celPlan(p *isa.Program) map[string]any {
	before := map[isa.StepID][]string{}
	service := map[isa.StepID]string{}
	var steps, verify []any
	for _, step := range p.Steps {
		for _, id := range step.After {
			before[step.ID] = append(append(before[step.ID], before[id]...), string(id))
		}
		s := map[string]any{
			"id": string(step.ID), "after": texts(step.After), "before": before[step.ID], "kind": string(step.Action.Kind()),
		}
		switch a := step.Action.(type) {
		case isa.Drain:
			service[step.ID] = string(a.Target.Service)
			s["service"], s["share"], s["onEmpty"] = string(a.Target.Service), a.Share, string(a.OnEmpty)
			s["deadline"], s["lease"] = a.Deadline.Seconds(), a.Lease.Seconds()
		case isa.Restart:
			s["service"], s["drain"] = string(a.Target.Service), string(a.Drain)
		case isa.RestoreTraffic:
			s["service"], s["drain"] = service[a.Drain], string(a.Drain)
		case isa.RateLimit:
			s["service"], s["perSecond"], s["burst"] = string(a.Target.Service), a.PerSecond, float64(a.Burst)
		}
		steps = append(steps, s)
	}
	for _, check := range p.Verify {
		verify = append(verify, map[string]any{"service": string(check.Service), "seconds": check.For.Seconds()})
	}
	return map[string]any{"id": p.ID, "steps": steps, "verify": verify}
}

func texts[T ~string](values []T) []string {
	out := make([]string, len(values))
	for i, v := range values {
		out[i] = string(v)
	}
	return out
}
