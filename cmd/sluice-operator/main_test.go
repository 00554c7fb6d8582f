package main

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/sluicemesh/sluice/mesh/kube"
	"github.com/sluicemesh/sluice/microkernel"
)

func TestFlags(t *testing.T) {
	for _, c := range []struct {
		args string
		says string // "" = right
	}{
		{"--identity a", ""},
		{"--identity a --mode enforce", "--mode"},
		{"--identity a --api 0.0.0.0:8090", "--api-listen"},
		{"--identity a --namespace Sluice", "--namespace"},
		{"--identity a --xds-listen :15010", "--xds-cert"},
		{"--identity a --xds-listen :15010 --workload-api unix:///a", ""},
		{"--identity a --xds-cert c", "--xds-listen"},
		{"--identity a --api-listen :8443", "come together"},
		{"--identity a --api-listen :8443 --api-cert c --api-key k", ""},
	} {
		var stderr strings.Builder
		_, err := parse(strings.Fields(c.args), &stderr)
		if (err == nil) != (c.says == "") || !strings.Contains(stderr.String(), c.says) {
			t.Errorf("%s: %v, want %q in\n%s", c.args, err, c.says, stderr.String())
		}
	}
}

// reviewer answers reviews as an API server would that knows ann, who may do what is listed.
func reviewer(may ...string) (*fake.Clientset, *int) {
	client, asked := fake.NewClientset(), new(int)
	client.PrependReactor("create", "tokenreviews", func(a clienttesting.Action) (bool, runtime.Object, error) {
		*asked++
		review := a.(clienttesting.CreateAction).GetObject().(*authenticationv1.TokenReview)
		review.Status = authenticationv1.TokenReviewStatus{
			Authenticated: review.Spec.Token == "anns", User: authenticationv1.UserInfo{Username: "ann"},
		}
		return true, review, nil
	})
	client.PrependReactor("create", "subjectaccessreviews", func(a clienttesting.Action) (bool, runtime.Object, error) {
		review := a.(clienttesting.CreateAction).GetObject().(*authorizationv1.SubjectAccessReview)
		for _, m := range may {
			r := review.Spec.ResourceAttributes
			if review.Spec.User == "ann" && r.Namespace == "sluice-system" && m == r.Verb+" "+r.Resource {
				review.Status.Allowed = true
			}
		}
		return true, review, nil
	})
	return client, asked
}

func TestRolesFollowRBAC(t *testing.T) {
	for _, c := range []struct {
		may  []string
		want microkernel.Role
	}{
		{nil, ""},
		{[]string{"list recoveryplans"}, microkernel.Viewer},
		{[]string{"list recoveryplans", "create recoveryplans"}, microkernel.Proposer},
		{[]string{"create recoveryapprovals"}, microkernel.Approver},
		{[]string{"update recoverypolicies", "create recoveryplans"}, microkernel.Admin},
	} {
		client, _ := reviewer(c.may...)
		b := &bearers{client: client, namespace: "sluice-system", log: slog.New(slog.DiscardHandler), now: time.Now}
		got, ok := b.Authenticate("anns")
		if ok != (c.want != "") || got.Role != c.want || ok && got.Name != "ann" {
			t.Errorf("%v: got %+v, %v, want role %q", c.may, got, ok, c.want)
		}
		if _, ok := b.Authenticate("eves"); ok {
			t.Error("a token that nobody bears is somebody's")
		}
	}
}

func TestBearersAreRememberedForAWhile(t *testing.T) {
	client, asked := reviewer("create recoveryplans")
	now := time.Unix(1_700_000_000, 0)
	b := &bearers{client: client, namespace: "sluice-system", log: slog.New(slog.DiscardHandler), now: func() time.Time { return now }}
	for _, c := range []struct {
		after time.Duration
		want  int
	}{{0, 1}, {time.Second, 1}, {rememberFor, 2}} {
		now = now.Add(c.after)
		if _, ok := b.Authenticate("anns"); !ok || *asked != c.want {
			t.Errorf("after %s: %v, asked %d times, want %d", c.after, ok, *asked, c.want)
		}
	}
}

// What is not permitted turns its action off; without what everything rests on nothing starts.
func TestPermissions(t *testing.T) {
	denying := func(denied string) *fake.Clientset {
		client := fake.NewClientset()
		client.PrependReactor("create", "selfsubjectaccessreviews", func(a clienttesting.Action) (bool, runtime.Object, error) {
			review := a.(clienttesting.CreateAction).GetObject().(*authorizationv1.SelfSubjectAccessReview)
			r := review.Spec.ResourceAttributes
			review.Status.Allowed = denied != strings.TrimSuffix(r.Verb+" "+r.Resource+"/"+r.Subresource, "/")
			return true, review, nil
		})
		return client
	}
	for _, c := range []struct {
		denied         string
		fails          bool
		scale, configs bool
		without        kube.Optional
	}{
		{denied: ""},
		{denied: "list pods", fails: true},
		{denied: "list poddisruptionbudgets", fails: true},
		{denied: "list nodes", without: kube.Nodes},
		{denied: "list horizontalpodautoscalers", without: kube.Autoscalers, scale: true},
		{denied: "update deployments/scale", scale: true},
		{denied: "patch deployments", configs: true},
	} {
		got, err := permitted(t.Context(), denying(c.denied), "")
		if (err != nil) != c.fails {
			t.Errorf("%s: %v", c.denied, err)
			continue
		}
		if err != nil {
			continue
		}
		without := kube.Optional("")
		if len(got.without) > 0 {
			without = got.without[0]
		}
		if got.scale != c.scale || got.configs != c.configs || without != c.without || (len(got.reasons) > 0) != (c.denied != "") {
			t.Errorf("%s: got %+v", c.denied, got)
		}
	}
}

// A role that the API server learns of a moment late turns nothing off; one that is not there
// does.
func TestPermissionsMayBeLate(t *testing.T) {
	for _, c := range []struct {
		late time.Duration
		off  int
	}{{2 * time.Second, 0}, {time.Minute, 1}} {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			client := fake.NewClientset()
			client.PrependReactor("create", "selfsubjectaccessreviews", func(a clienttesting.Action) (bool, runtime.Object, error) {
				review := a.(clienttesting.CreateAction).GetObject().(*authorizationv1.SelfSubjectAccessReview)
				review.Status.Allowed = review.Spec.ResourceAttributes.Resource != "nodes" || time.Since(began) >= c.late
				return true, review, nil
			})
			got, err := settled(t.Context(), client, "")
			if err != nil || len(got.reasons) != c.off || time.Since(began) > patience {
				t.Errorf("%s late: %+v, %v after %s", c.late, got, err, time.Since(began))
			}
		})
	}
}

// Only the chart's own policies, as they are, prove who created an object.
func TestIdentityIsProvedByThePolicies(t *testing.T) {
	made := func(at int) metav1.ObjectMeta {
		return metav1.ObjectMeta{CreationTimestamp: metav1.NewTime(time.Unix(int64(at), 0))}
	}
	for _, c := range []struct {
		name   string
		change func(*admissionv1.ValidatingAdmissionPolicy, *admissionv1.ValidatingAdmissionPolicyBinding)
		proved bool
	}{
		{"as they are", func(*admissionv1.ValidatingAdmissionPolicy, *admissionv1.ValidatingAdmissionPolicyBinding) {}, true},
		{"another expression", func(p *admissionv1.ValidatingAdmissionPolicy, _ *admissionv1.ValidatingAdmissionPolicyBinding) {
			p.Spec.Validations[0].Expression = "true"
		}, false},
		{"not when it fails", func(p *admissionv1.ValidatingAdmissionPolicy, _ *admissionv1.ValidatingAdmissionPolicyBinding) {
			ignore := admissionv1.Ignore
			p.Spec.FailurePolicy = &ignore
		}, false},
		{"on a condition", func(p *admissionv1.ValidatingAdmissionPolicy, _ *admissionv1.ValidatingAdmissionPolicyBinding) {
			p.Spec.MatchConditions = []admissionv1.MatchCondition{{Name: "x", Expression: "false"}}
		}, false},
		{"only audited", func(_ *admissionv1.ValidatingAdmissionPolicy, b *admissionv1.ValidatingAdmissionPolicyBinding) {
			b.Spec.ValidationActions = []admissionv1.ValidationAction{admissionv1.Audit}
		}, false},
		{"bound to some", func(_ *admissionv1.ValidatingAdmissionPolicy, b *admissionv1.ValidatingAdmissionPolicyBinding) {
			b.Spec.MatchResources = &admissionv1.MatchResources{}
		}, false},
	} {
		var objects []runtime.Object
		for i, field := range []string{"proposer", "approver"} {
			policy := &admissionv1.ValidatingAdmissionPolicy{ObjectMeta: made(10 + i)}
			policy.Name = "sluice-" + field
			policy.Spec.Validations = []admissionv1.Validation{{Expression: "object.spec." + field + " == request.userInfo.username"}}
			binding := &admissionv1.ValidatingAdmissionPolicyBinding{ObjectMeta: made(20 + i)}
			binding.Name, binding.Spec.PolicyName = policy.Name, policy.Name
			binding.Spec.ValidationActions = []admissionv1.ValidationAction{admissionv1.Deny}
			if field == "proposer" {
				c.change(policy, binding)
			}
			objects = append(objects, policy, binding)
		}
		o := &operator{client: fake.NewClientset(objects...)}
		since, err := o.proved(t.Context())
		if (err == nil) != c.proved || c.proved && since.Unix() != 21 {
			t.Errorf("%s: since %v, %v", c.name, since, err)
		}
	}
	if _, err := (&operator{client: fake.NewClientset()}).proved(t.Context()); err == nil {
		t.Error("without policies identities are proved")
	}
}

func TestExitCodes(t *testing.T) {
	if got := code(&missingError{errors.New("no cluster")}); got != exitMissing {
		t.Errorf("got %d, want %d", got, exitMissing)
	}
	if got := code(context.DeadlineExceeded); got != exitFailed {
		t.Errorf("got %d, want %d", got, exitFailed)
	}
}
