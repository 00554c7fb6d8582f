package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"strings"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/sluicemesh/sluice/mesh/identity"
	xdsserver "github.com/sluicemesh/sluice/xds/server"
)

// remoteOptions is how sidecars reach the operator.
type remoteOptions struct {
	listen   string // address, "" = the Unix socket only
	paths    identity.Paths
	workload string // SPIFFE Workload API, instead of paths
	domain   string
}

// register adds the flags.
func (o *remoteOptions) register(flags *flag.FlagSet) {
	flags.StringVar(&o.listen, "xds-listen", "", "address where sidecars connect over mutual TLS, such as :15010 (default: not served)")
	flags.StringVar(&o.paths.Cert, "xds-cert", "",
		"own certificate (PEM), of spiffe://TRUST-DOMAIN"+identity.ControlPlane+"; read again when it changes")
	flags.StringVar(&o.paths.Key, "xds-key", "", "private key of --xds-cert (PEM)")
	flags.StringVar(&o.paths.CA, "xds-ca", "", "authorities of the trust domain (PEM); read again when they change")
	flags.StringVar(&o.workload, "workload-api", "",
		"SPIFFE Workload API to have certificate and authorities from, as unix:///run/agent.sock, instead of files")
	flags.StringVar(&o.domain, "trust-domain", "cluster.local", "SPIFFE trust domain of the sidecars' certificates")
}

// validate returns all faults joined.
func (o *remoteOptions) validate() error {
	files := o.paths != identity.Paths{}
	whole := o.paths.Cert != "" && o.paths.Key != "" && o.paths.CA != ""
	if o.listen == "" {
		if files || o.workload != "" {
			return errors.New("--xds-cert, --xds-key, --xds-ca and --workload-api need --xds-listen")
		}
		return nil
	}
	var faults []error
	if _, err := spiffeid.TrustDomainFromString(o.domain); err != nil {
		faults = append(faults, fmt.Errorf("--trust-domain %q: %w", o.domain, err))
	}
	switch {
	case o.workload != "" && files:
		faults = append(faults, errors.New("--workload-api stands instead of --xds-cert, --xds-key and --xds-ca"))
	case o.workload == "" && !whole:
		faults = append(faults, errors.New("--xds-listen needs --xds-cert, --xds-key and --xds-ca, or --workload-api"))
	}
	return errors.Join(faults...)
}

// open returns the listener for sidecars, nil if there is to be none, which lets the holder
// of a certificate speak as rule says. What it opened is closed by the function.
func (o *remoteOptions) open(ctx context.Context, rule identity.Rule, log *slog.Logger) (*xdsserver.Remote, func(), error) {
	if o.listen == "" {
		return nil, func() {}, nil
	}
	domain, err := spiffeid.TrustDomainFromString(o.domain)
	if err != nil {
		return nil, nil, err
	}
	source, done, err := o.source(ctx, domain, log)
	if err != nil {
		return nil, nil, &missingError{fmt.Errorf("identity of the control plane: %w", err)}
	}
	return &xdsserver.Remote{
		Address: o.listen,
		TLS:     identity.ServerConfig(source, domain),
		Allow:   identity.Allow(domain, rule),
	}, done, nil
}

// source is where the certificate comes from.
func (o *remoteOptions) source(ctx context.Context, domain spiffeid.TrustDomain, log *slog.Logger,
) (identity.Source, func(), error) {
	if o.workload == "" {
		files, err := identity.Open(o.paths, domain, log, nil)
		return files, func() {}, err
	}
	source, err := identity.Workload(ctx, o.workload)
	if err != nil {
		return nil, nil, err
	}
	return source, func() { _ = source.Close() }, nil
}

// secureOptions is how the API is reached from other pods.
type secureOptions struct {
	listen, cert, key string
	hosts             string // between commas
}

// register adds the flags.
func (o *secureOptions) register(flags *flag.FlagSet) {
	flags.StringVar(&o.listen, "api-listen", "", "address of the API over TLS, such as :8443 (default: only --api)")
	flags.StringVar(&o.cert, "api-cert", "", "certificate for --api-listen (PEM)")
	flags.StringVar(&o.key, "api-key", "", "private key of --api-cert (PEM)")
	flags.StringVar(&o.hosts, "api-hosts", "", "host names that requests may be for besides the loopback ones, between commas")
}

// validate returns all faults joined.
func (o *secureOptions) validate() error {
	if (o.listen == "") != (o.cert == "") || (o.listen == "") != (o.key == "") {
		return errors.New("--api-listen, --api-cert and --api-key come together")
	}
	return nil
}

// names are the host names.
func (o *secureOptions) names() []string {
	return strings.FieldsFunc(o.hosts, func(r rune) bool { return r == ',' })
}

// open returns the listener, nil if there is to be none. The certificate is read at every
// handshake, so that one that was renewed counts at once.
func (o *secureOptions) open() (net.Listener, error) {
	if o.listen == "" {
		return nil, nil //nolint:nilnil // there is none to be
	}
	read := func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(o.cert, o.key)
		return &pair, err
	}
	if _, err := read(nil); err != nil {
		return nil, &missingError{fmt.Errorf("--api-cert: %w", err)}
	}
	listener, err := net.Listen("tcp", o.listen)
	if err != nil {
		return nil, fmt.Errorf("--api-listen: %w", err)
	}
	return tls.NewListener(listener, &tls.Config{
		GetCertificate: read, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"},
	}), nil
}
