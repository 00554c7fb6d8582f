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
	settings  *Settings
	issuer    *issuer
	installed control
	err       error
	tried     bool
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

// rolloutInMesh is the control of restartOf: `kubectl rollout restart` of the same
// application behind the same sidecars. Failed requests are counted, not judged.
func rolloutInMesh(ctx context.Context, s *stage) error {
	if err := s.shop(ctx, "Deployment", 3); err != nil {
		return err
	}
	return s.rolloutUnderLoad(ctx, gateway())
}

// restartOf: `sluice restart` replaces the carts of a workload one by one under load, each
// drained and proved before; no request fails.
func restartOf(kind string, replicas int, mode string) func(context.Context, *stage) error {
	return func(ctx context.Context, s *stage) error {
		if err := s.shop(ctx, kind, replicas); err != nil {
			return err
		}
		return s.restartUnderLoad(ctx, func(ctx context.Context) error {
			api, err := s.api(ctx)
			if err != nil {
				return err
			}
			defer api.close()
			out, err := api.sluice(ctx, "restart", s.namespace+"/cart", "--mode", mode, "-o", "json", "--timeout", "4m")
			if err != nil {
				err = fmt.Errorf("%w\n%.4000s", err, out)
			}
			return err
		})
	}
}

// restartUnderLoad puts load on the gateway while restart replaces the carts; every one must
// be another afterwards, and no request may fail.
func (s *stage) restartUnderLoad(ctx context.Context, restart func(context.Context) error) error {
	before, err := s.uids(ctx, "app=cart")
	if err != nil {
		return err
	}
	l, err := s.load(ctx, gateway(), 240)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := restart(ctx); err != nil {
		return err
	}
	s.say("the restart took %.1f s", time.Since(began).Seconds())
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
