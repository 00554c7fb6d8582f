package identity

import (
	"crypto/tls"
	"errors"
	"fmt"
	"strings"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"

	"github.com/sluicemesh/sluice/mesh"
)

// ControlPlane is the path of the identity of every replica of sluiced.
const ControlPlane = "/sluice/control-plane"

// ErrForeign says that an identity does not cover a proxy.
var ErrForeign = errors.New("the identity is not this proxy's")

// Rule returns nil if the holder of the SPIFFE path may speak as proxy p; the error wraps
// ErrForeign. Whoever runs another naming of workloads writes another Rule.
type Rule func(path string, p *mesh.Proxy) error

// ServiceRule is the Rule of paths /ns/NAMESPACE/svc/NAME, which cover all proxies of the
// service, and /ns/NAMESPACE/svc/NAME/instance/UID, which cover one. A gateway's namespace
// is "outside".
func ServiceRule(path string, p *mesh.Proxy) error {
	parts := strings.Split(strings.TrimPrefix(path, "/"), "/")
	plain := len(parts) == 4
	exact := len(parts) == 6 && parts[4] == "instance"
	if !plain && !exact || parts[0] != "ns" || parts[2] != "svc" {
		return fmt.Errorf("path %q is not /ns/NAMESPACE/svc/NAME[/instance/UID]: %w", path, ErrForeign)
	}
	if service := mesh.Service(parts[1] + "/" + parts[3]); service != p.Service {
		return fmt.Errorf("it is of %s, the proxy stands beside %s: %w", service, p.Service, ErrForeign)
	}
	if exact && (p.Instance == "" || mesh.UID(parts[5]) != p.Instance) {
		return fmt.Errorf("it is of instance %q, the proxy stands beside %q: %w", parts[5], p.Instance, ErrForeign)
	}
	return nil
}

// AccountRule returns the Rule of paths /ns/NAMESPACE/sa/ACCOUNT, as Kubernetes and Istio
// name workloads: account says under which service account a proxy runs, "" if that is not
// known (refused).
func AccountRule(account func(*mesh.Proxy) string) Rule {
	return func(path string, p *mesh.Proxy) error {
		parts := strings.Split(strings.TrimPrefix(path, "/"), "/")
		if len(parts) != 4 || parts[0] != "ns" || parts[2] != "sa" {
			return fmt.Errorf("path %q is not /ns/NAMESPACE/sa/ACCOUNT: %w", path, ErrForeign)
		}
		want := account(p)
		if want == "" || parts[1] != p.Service.Namespace() || parts[3] != want {
			return fmt.Errorf("it is of account %s/%s, the proxy runs as %s/%s: %w",
				parts[1], parts[3], p.Service.Namespace(), want, ErrForeign)
		}
		return nil
	}
}

// Allow returns the check of a verified connection by rule: its peer must be of the trust
// domain, and be covered.
func Allow(domain spiffeid.TrustDomain, rule Rule) func(tls.ConnectionState, *mesh.Proxy) error {
	return func(state tls.ConnectionState, p *mesh.Proxy) error {
		id, err := Peer(state)
		if err != nil {
			return err
		}
		if id.TrustDomain() != domain {
			return fmt.Errorf("%s is not of trust domain %s: %w", id, domain, ErrForeign)
		}
		if err := rule(id.Path(), p); err != nil {
			return fmt.Errorf("%s: %w", id, err)
		}
		return nil
	}
}

// Peer returns the SPIFFE identity of a connection's other end. Whether its certificate is
// to be trusted the handshake has decided: see ServerConfig and ClientConfig.
func Peer(state tls.ConnectionState) (spiffeid.ID, error) {
	if len(state.PeerCertificates) == 0 {
		return spiffeid.ID{}, errors.New("the peer showed no certificate")
	}
	return x509svid.IDFromCert(state.PeerCertificates[0])
}
