package scenario

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sluicemesh/sluice/e2e/cluster/chart"
)

// release is what the chart is installed as.
const release = "sluice"

// control is what the chart installs, by the time at which it is applied.
type control struct{ definitions, rest, tests []chart.Object }

// values are what is said to the chart: two replicas in the one mode that acts.
const values = `
mode: Enforce
image: {registry: %q, tag: %q, pullPolicy: Never}
replicas: 2
identity: {secretName: sluice-operator-tls, trustDomain: %q}
accounts: [admin]
`

// control renders the chart.
func (m *meshed) control() (control, error) {
	registry, tag, found := strings.Cut(m.settings.Images.Operator, "/sluice-operator:")
	if !found {
		return control{}, fmt.Errorf("the operator's image is %q, want REGISTRY/sluice-operator:TAG", m.settings.Images.Operator)
	}
	objects, err := chart.Render(m.settings.Chart, chart.Release{Name: release, Namespace: system},
		fmt.Sprintf(values, registry, tag, trustDomain))
	if err != nil {
		return control{}, fmt.Errorf("chart: %w", err)
	}
	var c control
	for _, o := range objects {
		meta, _ := o["metadata"].(chart.Object)
		annotations, _ := meta["annotations"].(chart.Object)
		switch {
		case annotations["helm.sh/hook"] != nil:
			c.tests = append(c.tests, o)
		case o["kind"] == "CustomResourceDefinition":
			c.definitions = append(c.definitions, o)
		default:
			c.rest = append(c.rest, o)
		}
	}
	return c, nil
}

// install installs the chart as Helm would, into a namespace that lets in only restricted
// pods, and waits for the operator.
func (m *meshed) install(ctx context.Context) error {
	if m.settings.Images.Operator == "" || m.settings.Sluice == "" || m.settings.Chart == "" {
		return errSkipped{"there is no sluice-operator in this build"}
	}
	s := &stage{Settings: m.settings, namespace: system, started: time.Now()}
	var err error
	if m.issuer, err = newIssuer(); err != nil {
		return err
	}
	if m.installed, err = m.control(); err != nil {
		return err
	}
	if err := s.put(ctx, m.installed.definitions...); err != nil {
		return err
	}
	if err := s.kubectl(ctx, "wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"); err != nil {
		return err
	}
	if err := s.put(ctx, restrictedNamespace()); err != nil {
		return err
	}
	if err := m.issuer.secret(ctx, s, "sluice-operator-tls", "/sluice/control-plane"); err != nil {
		return err
	}
	if err := s.put(ctx, m.installed.rest...); err != nil {
		return err
	}
	if err := s.rolledOut(ctx, "deployment/sluice-operator"); err != nil {
		s.describe(context.WithoutCancel(ctx))
		return fmt.Errorf("operator: %w", err)
	}
	return nil
}

func restrictedNamespace() chart.Object {
	return chart.Object{"apiVersion": "v1", "kind": "Namespace", "metadata": chart.Object{
		"name": system, "labels": chart.Object{"pod-security.kubernetes.io/enforce": "restricted"}}}
}

// put applies objects; a field that the API server does not know is an error.
func (s *stage) put(ctx context.Context, objects ...chart.Object) error {
	text, err := json.Marshal(chart.Object{"apiVersion": "v1", "kind": "List", "items": objects})
	if err != nil {
		return err
	}
	_, err = s.ask(ctx, string(text), "apply", "--server-side", "-f", "-")
	return err
}

// chartInstalled: the API server has taken the chart's objects without a warning, `helm test`
// passes, and what the definitions and the admission policies forbid is refused.
func chartInstalled(ctx context.Context, s *stage) error {
	if err := s.typeChecked(ctx, "sluice-proposer", "sluice-approver"); err != nil {
		return err
	}
	s.say("the admission policies are sound")
	control := &stage{Settings: s.Settings, namespace: system, started: s.started}
	if err := control.put(ctx, s.mesh.installed.tests...); err != nil {
		return err
	}
	if err := control.kubectl(ctx, "wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/sluice-test-ready",
		"--timeout=60s"); err != nil {
		return fmt.Errorf("helm test: %w", err)
	}
	s.say("helm test passes")
	return s.refusals(ctx)
}

// typeChecked waits until the API server has looked at the expressions of admission
// policies; what it finds is an error.
func (s *stage) typeChecked(ctx context.Context, policies ...string) error {
	return poll(ctx, 30*time.Second, func(ctx context.Context) error {
		out, err := s.ask(ctx, "", append([]string{"get", "validatingadmissionpolicies", "-o", "json"}, policies...)...)
		if err != nil {
			return err
		}
		var list struct {
			Items []struct {
				Metadata struct{ Name string }
				Status   struct {
					TypeChecking *struct{ ExpressionWarnings []any }
				}
			}
		}
		if err := json.Unmarshal([]byte(out), &list); err != nil {
			return fmt.Errorf("policies: %w", err)
		}
		for _, item := range list.Items {
			switch found := item.Status.TypeChecking; {
			case found == nil:
				return fmt.Errorf("policy %s was not looked at yet", item.Metadata.Name)
			case len(found.ExpressionWarnings) > 0:
				return fmt.Errorf("policy %s: %v", item.Metadata.Name, found.ExpressionWarnings)
			}
		}
		return nil
	})
}

// refusals tries what must be refused. Alice may propose, Bob may approve, and Mallory
// nothing.
func (s *stage) refusals(ctx context.Context) error {
	if err := errors.Join(s.allow(ctx, "alice", "proposer"), s.allow(ctx, "bob", "approver")); err != nil {
		return err
	}
	approval := func(approver string) chart.Object {
		return s.object("RecoveryApproval", "a1", chart.Object{"plan": "p1", "hash": "h", "approver": approver})
	}
	for _, c := range []struct {
		what, user string
		object     chart.Object
		says       string
	}{
		{"a plan in another's name", "alice", s.plan("p1", "p1", "bob", s.restart()), "must be your own user name: alice"},
		{"a plan whose id is not its name", "alice", s.plan("p1", "p2", "alice", s.restart()), "must be the program's id"},
		{"a plan without steps", "alice", s.plan("p1", "p1", "alice"), "at least 1 items"},
		{"a plan of somebody who may not propose", "mallory", s.plan("p1", "p1", "mallory", s.restart()), "forbidden"},
		{"an approval by somebody who may only propose", "alice", approval("alice"), "forbidden"},
		{"an approval in another's name", "bob", approval("alice"), "must be your own user name: bob"},
	} {
		switch err := s.create(ctx, c.user, c.object); {
		case err == nil:
			return fmt.Errorf("%s was let in", c.what)
		case !strings.Contains(err.Error(), c.says):
			return fmt.Errorf("%s: %w; want %q", c.what, err, c.says)
		}
	}
	s.say("what must be refused is refused")
	return nil
}
