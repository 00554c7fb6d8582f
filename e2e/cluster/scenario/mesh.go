package scenario

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// system is the namespace of the control plane.
const system = "sluice-system"

// proxySecret is the Secret of the sidecars' certificates in each namespace.
const proxySecret = "sluice-proxy"

// meshed is the control plane, brought up when the first scenario needs it.
type meshed struct {
	settings *Settings
	issuer   *issuer
	err      error
	tried    bool
}

// up brings the control plane up, once.
func (m *meshed) up(ctx context.Context) error {
	if !m.tried {
		m.tried = true
		m.err = m.install(ctx)
	}
	m.settings.mesh = m
	return m.err
}

// install installs the custom resources and the operator, and waits for it.
func (m *meshed) install(ctx context.Context) error {
	if m.settings.Images.Operator == "" || m.settings.Sluice == "" {
		return errSkipped{"there is no sluice-operator in this build"}
	}
	s := &stage{Settings: m.settings, namespace: system, started: time.Now()}
	var err error
	if m.issuer, err = newIssuer(); err != nil {
		return err
	}
	for _, definition := range m.settings.Definitions {
		if _, err := s.ask(ctx, definition, "apply", "--server-side", "-f", "-"); err != nil {
			return err
		}
	}
	if err := s.kubectl(ctx, "wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"); err != nil {
		return err
	}
	if err := s.kubectl(ctx, "create", "namespace", system); err != nil {
		return err
	}
	if err := m.issuer.secret(ctx, s, "sluice-operator-tls", "/sluice/control-plane"); err != nil {
		return err
	}
	if err := s.apply(ctx, "operator"); err != nil {
		return err
	}
	if err := s.rolledOut(ctx, "deployment/sluice-operator"); err != nil {
		s.describe(context.WithoutCancel(ctx))
		return fmt.Errorf("operator: %w", err)
	}
	return nil
}

// inject applies a manifest with a sidecar.
func (s *stage) inject(ctx context.Context, name string, words ...string) error {
	text, err := s.manifest(name, words...)
	if err != nil {
		return err
	}
	file, err := os.CreateTemp("", "sluice-inject-*.yaml")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	if _, err := file.WriteString(text); err != nil {
		return err
	}
	if err := file.Close(); err != nil {
		return err
	}
	injected, err := output(ctx, "", s.Sluice, "inject", "-f", file.Name(), "--proxy-image", s.Images.Envoy,
		"--init-image", s.Images.Netinit, "--pull-policy", "Never", "--secret", proxySecret, "--trust-domain", trustDomain)
	if err != nil {
		return err
	}
	_, err = s.ask(ctx, injected, "apply", "-f", "-")
	return err
}

// shop brings up carts, the web that calls them and a gateway to it, all behind sidecars, and
// waits until all are ready.
func (s *stage) shop(ctx context.Context, kind string, replicas int) error {
	if err := s.mesh.issuer.secret(ctx, s, proxySecret, "/ns/"+s.namespace+"/sa/default"); err != nil {
		return err
	}
	if err := s.inject(ctx, "cart", "$KIND", kind, "$REPLICAS", fmt.Sprint(replicas), "$HOST", "127.0.0.1"); err != nil {
		return err
	}
	for _, name := range []string{"web", "gateway"} {
		if err := s.inject(ctx, name); err != nil {
			return err
		}
	}
	for _, workload := range []string{strings.ToLower(kind) + "/cart", "deployment/web", "deployment/edge"} {
		if err := s.rolledOut(ctx, workload); err != nil {
			return err
		}
	}
	return nil
}

// meshReady: three carts that listen on their loopback only become ready, and answer under
// load through a gateway and injected sidecars.
func meshReady(ctx context.Context, s *stage) error {
	if err := s.shop(ctx, "Deployment", 3); err != nil {
		return err
	}
	l, err := s.load(ctx, gateway(), 10)
	if err != nil {
		return err
	}
	c, err := l.end(ctx, false)
	if err != nil {
		return err
	}
	return c.none()
}

// rolloutInMesh is the control of restartDeployment: `kubectl rollout restart` of the same
// application behind the same sidecars. Failed requests are counted, not judged.
func rolloutInMesh(ctx context.Context, s *stage) error {
	if err := s.shop(ctx, "Deployment", 3); err != nil {
		return err
	}
	return s.rolloutUnderLoad(ctx, gateway())
}

// restartDeployment: `sluice restart` replaces three carts one by one under load, each
// drained and proved before; no request fails.
func restartDeployment(ctx context.Context, s *stage) error {
	if err := s.shop(ctx, "Deployment", 3); err != nil {
		return err
	}
	before, err := s.uids(ctx, "app=cart")
	if err != nil {
		return err
	}
	l, err := s.load(ctx, gateway(), 240)
	if err != nil {
		return err
	}
	api, err := s.api(ctx)
	if err != nil {
		return err
	}
	defer api.close()
	out, err := api.sluice(ctx, "restart", s.namespace+"/cart", "--mode", "rolling", "-o", "json", "--timeout", "4m")
	if err != nil {
		return fmt.Errorf("%w\n%.2000s", err, out)
	}
	s.say("sluice restart is done")
	c, err := l.end(ctx, true)
	if err != nil {
		return err
	}
	if err := s.allReplaced(ctx, before); err != nil {
		return err
	}
	return c.none()
}

// temporary returns a new file with text, for one command.
func temporary(text string) (string, error) {
	dir, err := os.MkdirTemp("", "sluice-e2e-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "token")
	return path, os.WriteFile(path, []byte(text), 0o600)
}
