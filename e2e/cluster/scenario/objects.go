package scenario

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/sluicemesh/sluice/e2e/cluster/chart"
)

// plan is a RecoveryPlan of the stage's namespace.
func (s *stage) plan(name, id, proposer string, steps ...chart.Object) chart.Object {
	return s.object("RecoveryPlan", name, chart.Object{"proposer": proposer,
		"program": chart.Object{"id": id, "deadline": "240s", "steps": append([]chart.Object{}, steps...)}})
}

func (s *stage) object(kind, name string, spec chart.Object) chart.Object {
	return chart.Object{"apiVersion": "sluicemesh.io/v1alpha1", "kind": kind,
		"metadata": chart.Object{"name": name, "namespace": s.namespace}, "spec": spec}
}

// restart is the step that restarts the carts.
func (s *stage) restart() chart.Object {
	return chart.Object{"id": "r1", "restart": chart.Object{
		"target": chart.Object{"service": s.namespace + "/cart"}, "mode": "rolling"}}
}

// create creates an object as a user.
func (s *stage) create(ctx context.Context, user string, o chart.Object) error {
	text, err := json.Marshal(o)
	if err != nil {
		return err
	}
	_, err = s.ask(ctx, string(text), "create", "--as", user, "-f", "-")
	return err
}

// allow gives a user a role of the chart in the stage's namespace.
func (s *stage) allow(ctx context.Context, user, role string) error {
	return s.kubectl(ctx, "create", "rolebinding", user+"-"+role, "--clusterrole", "sluice-"+system+"-"+role, "--user", user)
}

// completed waits until a plan has ended, and returns an error unless it was committed.
func (s *stage) completed(ctx context.Context, plan string) error {
	err := s.kubectl(ctx, "wait", "rplan/"+plan, "--for=condition=Completed", "--timeout=4m")
	if err != nil {
		status, _ := s.ask(ctx, "", "get", "rplan/"+plan, "-o", "yaml")
		err = fmt.Errorf("%w\n%.4000s", err, status)
	}
	return err
}

// restartByObject: a RecoveryPlan that Alice creates, who may only propose, replaces the
// carts under load; no request fails, and the object says how it ended.
func restartByObject(ctx context.Context, s *stage) error {
	if err := s.shop(ctx, "Deployment", 3); err != nil {
		return err
	}
	if err := s.allow(ctx, "alice", "proposer"); err != nil {
		return err
	}
	return s.restartUnderLoad(ctx, func(ctx context.Context) error {
		if err := s.create(ctx, "alice", s.plan("cart-1", "cart-1", "alice", s.restart())); err != nil {
			return err
		}
		return s.completed(ctx, "cart-1")
	})
}

// restartApproved: Alice's plan for the only cart there is is held, since requests might have to
// wait for too long; Bob approves what he has looked at. No request fails.
func restartApproved(ctx context.Context, s *stage) error {
	if err := s.shop(ctx, "Deployment", 1); err != nil {
		return err
	}
	for user, role := range map[string]string{"alice": "proposer", "bob": "approver"} {
		if err := s.allow(ctx, user, role); err != nil {
			return err
		}
	}
	return s.restartUnderLoad(ctx, func(ctx context.Context) error {
		if err := s.create(ctx, "alice", s.plan("cart-2", "cart-2", "alice", s.restart())); err != nil {
			return err
		}
		hash, err := s.held(ctx, "cart-2")
		if err != nil {
			return err
		}
		s.say("the plan is held")
		err = s.create(ctx, "bob", s.object("RecoveryApproval", "cart-2", chart.Object{
			"plan": "cart-2", "hash": hash, "approver": "bob"}))
		if err != nil {
			return err
		}
		return s.completed(ctx, "cart-2")
	})
}

// held waits until a plan waits for an approval, and returns its hash.
func (s *stage) held(ctx context.Context, plan string) (hash string, err error) {
	err = poll(ctx, 30*time.Second, func(ctx context.Context) error {
		out, err := s.ask(ctx, "", "get", "rplan/"+plan, "-o", "jsonpath={.status.phase} {.status.hash} {.status.message}")
		if err != nil {
			return err
		}
		fields := strings.Fields(out)
		if len(fields) < 2 || fields[0] != "held" {
			return fmt.Errorf("plan %s is not held: %s", plan, out)
		}
		hash = fields[1]
		return nil
	})
	return hash, err
}
