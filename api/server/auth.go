package server

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"connectrpc.com/connect"

	"github.com/sluicemesh/sluice/api/sluice/v1/sluicev1connect"
	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/microkernel"
)

// Authenticator knows who bears a token.
type Authenticator interface {
	// Authenticate returns the bearer of token, false if there is none.
	Authenticate(token string) (microkernel.Principal, bool)
}

// Token is a secret and who bears it.
type Token struct {
	Secret string
	Bearer microkernel.Principal
}

// Tokens is a fixed set of tokens.
type Tokens struct {
	hashes  [][sha256.Size]byte
	bearers []microkernel.Principal
}

// LeastSecret is the least length of a token, in bytes.
const LeastSecret = 20

// NewTokens returns the set of tokens. A short or repeated secret is an error.
func NewTokens(tokens ...Token) (*Tokens, error) {
	set := &Tokens{}
	for _, token := range tokens {
		if len(token.Secret) < LeastSecret {
			return nil, fmt.Errorf("token of %s: %d bytes long, at least %d are needed",
				token.Bearer.Name, len(token.Secret), LeastSecret)
		}
		hash := sha256.Sum256([]byte(token.Secret))
		if slices.Contains(set.hashes, hash) {
			return nil, fmt.Errorf("token of %s: somebody else has the same", token.Bearer.Name)
		}
		set.hashes = append(set.hashes, hash)
		set.bearers = append(set.bearers, token.Bearer)
	}
	return set, nil
}

// Authenticate implements Authenticator. Its time does not depend on the secrets: it
// compares hashes, all of them.
func (t *Tokens) Authenticate(token string) (microkernel.Principal, bool) {
	hash := sha256.Sum256([]byte(token))
	found := -1
	for i := range t.hashes {
		if subtle.ConstantTimeCompare(hash[:], t.hashes[i][:]) == 1 {
			found = i
		}
	}
	if found < 0 {
		return microkernel.Principal{}, false
	}
	return t.bearers[found], true
}

// mayCall says which roles may call a procedure. A procedure that is not listed may
// be called by nobody. A proposer is no approver and the other way round, but an
// approver may propose: the kernel keeps anybody from approving their own plan.
func mayCall(procedure string, role microkernel.Role) bool {
	var least []microkernel.Role
	switch procedure {
	case sluicev1connect.SluiceServiceGetStatusProcedure,
		sluicev1connect.SluiceServiceGetTopologyProcedure,
		sluicev1connect.SluiceServiceGetStatisticsProcedure,
		sluicev1connect.SluiceServiceGetGroupProcedure,
		sluicev1connect.SluiceServiceListSymptomsProcedure,
		sluicev1connect.SluiceServiceListProxiesProcedure,
		sluicev1connect.SluiceServiceListPlansProcedure,
		sluicev1connect.SluiceServiceGetPlanProcedure,
		sluicev1connect.SluiceServiceWatchPlanProcedure,
		sluicev1connect.SluiceServiceCheckPlanProcedure,
		sluicev1connect.SluiceServiceGetReportProcedure,
		sluicev1connect.SluiceServiceExportAuditProcedure:
		least = []microkernel.Role{
			microkernel.Viewer, microkernel.Proposer, microkernel.Approver, microkernel.Admin,
		}
	case sluicev1connect.SluiceServiceProposePlanProcedure:
		least = []microkernel.Role{microkernel.Proposer, microkernel.Approver, microkernel.Admin}
	case sluicev1connect.SluiceServiceApprovePlanProcedure,
		sluicev1connect.SluiceServiceAbortPlanProcedure,
		sluicev1connect.SluiceServicePauseProcedure,
		sluicev1connect.SluiceServiceResumeProcedure:
		least = []microkernel.Role{microkernel.Approver, microkernel.Admin}
	}
	return slices.Contains(least, role)
}

type principalKey struct{}

// principal returns who calls; the gate has put it there.
func principal(ctx context.Context) microkernel.Principal {
	by, _ := ctx.Value(principalKey{}).(microkernel.Principal)
	return by
}

// gate authenticates, authorises and bounds every call.
type gate struct {
	tokens Authenticator
	limits *limits
}

func newGate(config Config) *gate {
	return &gate{tokens: config.Tokens, limits: newLimits(config.Now)}
}

// admit checks the bearer's token and right to call procedure, and takes one from the
// bearer's rate.
func (g *gate) admit(ctx context.Context, procedure string, header http.Header) (context.Context, error) {
	by, err := g.authenticate(header)
	if err != nil {
		return nil, err
	}
	if !mayCall(procedure, by.Role) {
		return nil, connect.NewError(connect.CodePermissionDenied,
			fmt.Errorf("authz: role %s may not call %s", by.Role, procedure[strings.LastIndex(procedure, "/")+1:]))
	}
	if wait := g.limits.take(by.Name); wait > 0 {
		return nil, throttled(wait)
	}
	return context.WithValue(ctx, principalKey{}, by), nil
}

func (g *gate) authenticate(header http.Header) (microkernel.Principal, error) {
	scheme, token, _ := strings.Cut(header.Get("Authorization"), " ")
	by, known := microkernel.Principal{}, false
	if strings.EqualFold(scheme, "Bearer") && token != "" {
		by, known = g.tokens.Authenticate(token)
	}
	if !known {
		err := connect.NewError(connect.CodeUnauthenticated,
			errors.New("authn: send a valid token in the header Authorization: Bearer TOKEN"))
		err.Meta().Set("WWW-Authenticate", `Bearer realm="sluice"`)
		return by, err
	}
	return by, nil
}

// WrapUnary implements connect.Interceptor.
func (g *gate) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, request connect.AnyRequest) (connect.AnyResponse, error) {
		ctx, err := g.admit(ctx, request.Spec().Procedure, request.Header())
		if err != nil {
			return nil, err
		}
		ctx, cancel := context.WithTimeout(ctx, CallDeadline)
		defer cancel()
		return next(ctx, request)
	}
}

// WrapStreamingClient implements connect.Interceptor.
func (g *gate) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

// WrapStreamingHandler implements connect.Interceptor.
func (g *gate) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, conn connect.StreamingHandlerConn) error {
		ctx, err := g.admit(ctx, conn.Spec().Procedure, conn.RequestHeader())
		if err != nil {
			return err
		}
		by := principal(ctx)
		if !g.limits.open(by.Name) {
			return connect.NewError(connect.CodeResourceExhausted,
				fmt.Errorf("%s has %d streams open already: close one", by.Name, MaxWatches))
		}
		defer g.limits.close(by.Name)
		ctx, cancel := context.WithTimeout(ctx, WatchDeadline)
		defer cancel()
		return next(ctx, conn)
	}
}

// front refuses callers without a token before their message is read or decompressed.
func (g *gate) front(next http.Handler) http.Handler {
	refuse := connect.NewErrorWriter()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := g.authenticate(r.Header); err != nil && refuse.IsSupported(r) {
			_ = refuse.Write(w, r, err)
			return
		}
		if err := bound(r); err != nil && refuse.IsSupported(r) {
			_ = refuse.Write(w, r, err)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// bound reads the body of a unary JSON request, and refuses one that is too large by the
// documented code, also when it is compressed. Other protocols have their own bounds.
func bound(r *http.Request) error {
	if r.ContentLength > MaxMessage {
		return tooLarge()
	}
	if !strings.HasPrefix(r.Header.Get("Content-Type"), "application/json") {
		return nil
	}
	body, err := io.ReadAll(r.Body) // no more than MaxMessage bytes: see New
	if over := (*http.MaxBytesError)(nil); errors.As(err, &over) || err == nil && r.Header.Get("Content-Encoding") == "gzip" && bomb(body) {
		return tooLarge()
	}
	r.Body = io.NopCloser(io.MultiReader(bytes.NewReader(body), r.Body))
	return nil
}

// bomb reports whether data grows over the limit when it is decompressed; it keeps none
// of it.
func bomb(data []byte) bool {
	zip, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return false // refused by whoever wants to read it
	}
	n, _ := io.Copy(io.Discard, io.LimitReader(zip, MaxMessage+1)) // as far as it goes
	return n > MaxMessage
}

func tooLarge() error {
	return connect.NewError(connect.CodeResourceExhausted,
		fmt.Errorf("%s: a request may have %d bytes", isa.CodeTooLarge, MaxMessage))
}

// viewers lets everybody with a token read next.
func (g *gate) viewers(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := g.authenticate(r.Header); err != nil {
			w.Header().Set("WWW-Authenticate", `Bearer realm="sluice"`)
			http.Error(w, "authn: a token is needed", http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}
