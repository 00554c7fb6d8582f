package identity

import (
	"crypto/tls"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

// Source is where a program's own certificate and its trusted authorities come from: Files,
// or a *workloadapi.X509Source. It is asked at every handshake.
type Source interface {
	x509svid.Source
	x509bundle.Source
}

// ServerConfig returns the configuration of a listener that any holder of a valid
// certificate of the trust domain may connect to. Nothing is resumed: a resumed session
// would skip the look at what is trusted now.
func ServerConfig(source Source, domain spiffeid.TrustDomain) *tls.Config {
	config := tlsconfig.MTLSServerConfig(source, source, tlsconfig.AuthorizeMemberOf(domain))
	return harden(config)
}

// PeerConfigs returns the configurations of replicas among themselves: both ends must be
// the control plane of the trust domain.
func PeerConfigs(source Source, domain spiffeid.TrustDomain) (server, client *tls.Config, err error) {
	id, err := spiffeid.FromPath(domain, ControlPlane)
	if err != nil {
		return nil, nil, err
	}
	only := tlsconfig.AuthorizeID(id)
	return harden(tlsconfig.MTLSServerConfig(source, source, only)),
		harden(tlsconfig.MTLSClientConfig(source, source, only)), nil
}

// ClientConfig returns the configuration of a client of the control plane of the trust
// domain.
func ClientConfig(source Source, domain spiffeid.TrustDomain) (*tls.Config, error) {
	_, client, err := PeerConfigs(source, domain)
	return client, err
}

func harden(config *tls.Config) *tls.Config {
	config.MinVersion = tls.VersionTLS12 // Envoy's default; both ends prefer 1.3
	config.SessionTicketsDisabled = true
	return config
}
