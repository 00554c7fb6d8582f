package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/sluicemesh/sluice/mesh/envoy"
)

// maxManifest bounds what is read of a manifest, in bytes; mesh/envoy takes less.
const maxManifest = 16 << 20

// newInjectCommand builds `sluice inject`: it speaks to nobody.
func newInjectCommand() *cobra.Command {
	var i envoy.Injection
	var file, domain string
	cmd := &cobra.Command{
		Use: "inject -f FILE", Short: "Add the sidecar to the pods of a Kubernetes manifest", Args: cobra.NoArgs,
		Long: `Reads a manifest (YAML or JSON, - for standard input) and writes it with a sidecar in every
pod template; nothing is sent anywhere. What a template's annotations say is in
docs/kubernetes.md: sluicemesh.io/calls names what its application calls.

The sidecar reaches the control plane over mutual TLS. Its certificate comes from a
Secret of the pods' namespace with tls.crt, tls.key and ca.crt, as cert-manager writes
them, for spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/SERVICE-ACCOUNT.`,
		Example: "  sluice inject -f cart.yaml | kubectl apply -f -",
		RunE: func(cmd *cobra.Command, _ []string) error {
			i.Server = "spiffe://" + domain + "/sluice/control-plane"
			return inject(cmd, file, i)
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&file, "filename", "f", "", "manifest FILE")
	flags.StringVar(&i.ControlPlane, "control-plane", "sluice-operator.sluice-system.svc.cluster.local:15010",
		"HOST:PORT at which the operator serves sidecars")
	flags.StringVar(&domain, "trust-domain", "cluster.local", "SPIFFE trust domain")
	flags.StringVar(&i.Secret, "secret", "sluice-proxy", "Secret of the sidecar's certificate")
	flags.StringVar(&i.ProxyImage, "proxy-image", "sluicemesh/envoy:"+envoy.Version, "image of Envoy")
	flags.StringVar(&i.InitImage, "init-image", "sluicemesh/netinit:"+version, "image with iptables")
	flags.StringVar(&i.PullPolicy, "pull-policy", "", "imagePullPolicy of both: Always, IfNotPresent or Never")
	flags.BoolVar(&i.NoRedirect, "no-redirect", false,
		"without the init container, which needs NET_ADMIN: callers outside the mesh pass the sidecar by")
	return cmd
}

// inject carries the command out.
func inject(cmd *cobra.Command, file string, i envoy.Injection) error {
	if file == "" {
		return usage("name a manifest: -f FILE, or -f - for standard input")
	}
	manifest, err := readManifest(cmd.InOrStdin(), file)
	if err != nil {
		return err
	}
	out, err := envoy.Inject(manifest, i)
	if err != nil {
		return usage("%s: %w", file, err)
	}
	if _, err := cmd.OutOrStdout().Write(out); err != nil {
		return fmt.Errorf("write manifest: %w", err)
	}
	return nil
}

func readManifest(in io.Reader, name string) ([]byte, error) {
	if name != "-" {
		file, err := os.Open(name)
		if errors.Is(err, os.ErrNotExist) {
			return nil, usage("%w", err)
		}
		if err != nil {
			return nil, missing("%w", err)
		}
		defer file.Close()
		in = file
	}
	text, err := io.ReadAll(io.LimitReader(in, maxManifest))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return text, nil
}
