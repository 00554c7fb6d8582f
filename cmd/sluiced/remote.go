package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/sluicemesh/sluice/mesh/identity"
	xdsserver "github.com/sluicemesh/sluice/xds/server"
)

// remoteOptions is how proxies on other machines reach sluiced.
type remoteOptions struct {
	listen   string // address, "" = the Unix socket only
	paths    identity.Paths
	workload string // SPIFFE Workload API, instead of paths
	domain   string
}

// register adds the flags.
func (o *remoteOptions) register(flags *flag.FlagSet) {
	flags.StringVar(&o.listen, "xds-listen", "",
		"address where proxies connect over mutual TLS, beside --xds (default: not served)")
	flags.StringVar(&o.paths.Cert, "xds-cert", "",
		"own certificate (PEM), of spiffe://TRUST-DOMAIN"+identity.ControlPlane+"; read again when it changes")
	flags.StringVar(&o.paths.Key, "xds-key", "", "private key of --xds-cert (PEM)")
	flags.StringVar(&o.paths.CA, "xds-ca", "", "authorities of the trust domain (PEM); read again when they change")
	flags.StringVar(&o.workload, "workload-api", "",
		"SPIFFE Workload API to have certificate and authorities from, as unix:///run/agent.sock, instead of files")
	flags.StringVar(&o.domain, "trust-domain", "", "SPIFFE trust domain of the proxies' certificates")
}

// validate returns all faults joined. With several replicas there must be an identity, too.
func (o *remoteOptions) validate(several bool) error {
	files := o.paths != identity.Paths{}
	whole := o.paths.Cert != "" && o.paths.Key != "" && o.paths.CA != ""
	if o.listen == "" && !several {
		if files || o.workload != "" || o.domain != "" {
			return errors.New("--xds-cert, --xds-key, --xds-ca, --workload-api and --trust-domain need --xds-listen, --follow or --replica")
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
		faults = append(faults, errors.New("--xds-listen, --follow and --replica need --xds-cert, --xds-key and --xds-ca, or --workload-api"))
	}
	return errors.Join(faults...)
}

// credentials is the control plane's own identity.
type credentials struct {
	source identity.Source
	domain spiffeid.TrustDomain
	done   func() // closes what was opened
}

// open returns the control plane's identity, nil if it needs none.
func (o *remoteOptions) open(ctx context.Context, log *slog.Logger) (*credentials, error) {
	if o.domain == "" {
		return nil, nil //nolint:nilnil // there is none, which is no error
	}
	domain, err := spiffeid.TrustDomainFromString(o.domain)
	if err != nil {
		return nil, err
	}
	source, done, err := o.source(ctx, domain, log)
	if err != nil {
		return nil, &missingError{fmt.Errorf("identity of the control plane: %w", err)}
	}
	return &credentials{source: source, domain: domain, done: done}, nil
}

// remote is the listener for proxies on other machines, nil if there is to be none.
func (o *remoteOptions) remote(own *credentials) *xdsserver.Remote {
	if o.listen == "" || own == nil {
		return nil
	}
	return &xdsserver.Remote{
		Address: o.listen,
		TLS:     identity.ServerConfig(own.source, own.domain),
		Allow:   identity.Allow(own.domain, identity.ServiceRule),
	}
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
