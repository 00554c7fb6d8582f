package main

import (
	"context"
	"crypto/sha256"
	"log/slog"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/sluicemesh/sluice/api/v1alpha1"
	"github.com/sluicemesh/sluice/microkernel"
)

// Bounds of what is remembered of bearers.
const (
	rememberFor  = 10 * time.Second // a token that is revoked works for as long
	rememberMost = 1024
	reviewIn     = 5 * time.Second
)

// bearers knows who bears a token by asking the API server: who it is by TokenReview, and
// what they may do by SubjectAccessReview on the kinds of the group, so that one set of RBAC
// rules holds for kubectl and for the API. It keeps no secret, only hashes.
type bearers struct {
	client    kubernetes.Interface
	namespace string
	log       *slog.Logger
	now       func() time.Time

	mu    sync.Mutex
	known map[[sha256.Size]byte]bearer
}

type bearer struct {
	principal microkernel.Principal
	valid     bool
	until     time.Time
}

// Authenticate implements server.Authenticator.
func (b *bearers) Authenticate(token string) (microkernel.Principal, bool) {
	hash := sha256.Sum256([]byte(token))
	b.mu.Lock()
	found, remembered := b.known[hash]
	b.mu.Unlock()
	if remembered && b.now().Before(found.until) {
		return found.principal, found.valid
	}
	ctx, cancel := context.WithTimeout(context.Background(), reviewIn)
	defer cancel()
	principal, valid, err := b.review(ctx, token)
	if err != nil {
		b.log.Error("token not reviewed", "error", err)
		return microkernel.Principal{}, false
	}
	b.remember(hash, bearer{principal: principal, valid: valid, until: b.now().Add(rememberFor)})
	return principal, valid
}

func (b *bearers) remember(hash [sha256.Size]byte, found bearer) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.known == nil || len(b.known) >= rememberMost {
		b.known = map[[sha256.Size]byte]bearer{}
	}
	b.known[hash] = found
}

// review asks who bears the token, and for their role.
func (b *bearers) review(ctx context.Context, token string) (microkernel.Principal, bool, error) {
	answer, err := b.client.AuthenticationV1().TokenReviews().Create(ctx,
		&authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token}}, metav1.CreateOptions{})
	if err != nil || !answer.Status.Authenticated {
		return microkernel.Principal{}, false, err
	}
	role, err := roleOf(ctx, b.client, b.namespace, &answer.Status.User)
	if err != nil || role == "" {
		return microkernel.Principal{}, false, err
	}
	return microkernel.Principal{Name: answer.Status.User.Username, Role: role}, true, nil
}

// right is what somebody must be allowed to have a role.
type right struct {
	role       microkernel.Role
	verb, kind string
}

// rights are looked at in this order; the first that is allowed decides.
func rights() []right {
	return []right{
		{microkernel.Admin, "update", v1alpha1.KindPolicy},
		{microkernel.Approver, "create", v1alpha1.KindApproval},
		{microkernel.Proposer, "create", v1alpha1.KindPlan},
		{microkernel.Viewer, "list", v1alpha1.KindPlan},
	}
}

// roleOf is the role of a user by what RBAC lets them do in the control plane's namespace,
// "" = none.
func roleOf(ctx context.Context, client kubernetes.Interface, namespace string, user *authenticationv1.UserInfo,
) (microkernel.Role, error) {
	extra := map[string]authorizationv1.ExtraValue{}
	for k, v := range user.Extra {
		extra[k] = authorizationv1.ExtraValue(v)
	}
	for _, r := range rights() {
		resource := v1alpha1.Resources(r.kind)
		answer, err := client.AuthorizationV1().SubjectAccessReviews().Create(ctx, &authorizationv1.SubjectAccessReview{
			Spec: authorizationv1.SubjectAccessReviewSpec{
				User: user.Username, UID: user.UID, Groups: user.Groups, Extra: extra,
				ResourceAttributes: &authorizationv1.ResourceAttributes{
					Namespace: namespace, Verb: r.verb, Group: resource.Group, Resource: resource.Resource,
				},
			},
		}, metav1.CreateOptions{})
		if err != nil {
			return "", err
		}
		if answer.Status.Allowed {
			return r.role, nil
		}
	}
	return "", nil
}
