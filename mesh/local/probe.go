package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
)

// prober asks one application whether it is ready, at its own port.
type prober struct {
	probe   Probe
	address netip.AddrPort
	client  *http.Client
}

// newProber returns a prober of the application at address.
func newProber(probe Probe, address netip.AddrPort) *prober {
	return &prober{probe: probe, address: address, client: &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// check returns nil if the application is ready: it answers 2xx or 3xx, as a
// kubelet judges, or takes a TCP connection.
func (p *prober) check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, p.probe.Timeout)
	defer cancel()
	if p.probe.HTTP == "" {
		var dialer net.Dialer
		conn, err := dialer.DialContext(ctx, "tcp", p.address.String())
		if err != nil {
			return fmt.Errorf("probe: %w", err)
		}
		return conn.Close()
	}
	return get(ctx, p.client, "http://"+p.address.String()+p.probe.HTTP)
}

// get returns nil if url answers 2xx or 3xx.
func get(ctx context.Context, client *http.Client, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return fmt.Errorf("probe: %w", err)
	}
	request.Header.Set("User-Agent", "sluice-probe")
	answer, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("probe: %w", err)
	}
	defer answer.Body.Close()
	if _, err := io.CopyN(io.Discard, answer.Body, 64<<10); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("probe: %w", err)
	}
	if answer.StatusCode < 200 || answer.StatusCode > 399 {
		return fmt.Errorf("probe: answered %s", answer.Status)
	}
	return nil
}
