package prom

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
)

// maxToken bounds the file of the bearer token.
const maxToken = 64 << 10

// transport adds the token to requests, and bounds answers.
type transport struct {
	next      http.RoundTripper
	tokenFile string
	scheme    string // with host, whom the token is for
	host      string
}

// newTransport checks what config says of the server.
func newTransport(config *Config) (*transport, error) {
	address, err := url.Parse(config.URL)
	if err != nil || address.Host == "" || address.Scheme != "http" && address.Scheme != "https" {
		return nil, fmt.Errorf("prometheus %q: want a URL such as http://127.0.0.1:9090", config.URL)
	}
	if address.User != nil {
		return nil, errors.New("prometheus: put the credential into a token file, not into the URL")
	}
	if config.TokenFile != "" && address.Scheme == "http" && !loopback(address.Hostname()) {
		return nil, fmt.Errorf("prometheus %q: the token would travel unencrypted; use https", config.URL)
	}
	base := &http.Transport{
		Proxy: http.ProxyFromEnvironment, MaxIdleConnsPerHost: 2, ResponseHeaderTimeout: config.Timeout,
		ForceAttemptHTTP2: true,
	}
	if config.CAFile != "" {
		pool, err := authorities(config.CAFile)
		if err != nil {
			return nil, err
		}
		base.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	t := &transport{next: base, tokenFile: config.TokenFile, scheme: address.Scheme, host: address.Host}
	if t.tokenFile != "" {
		if _, err := t.token(); err != nil {
			return nil, err
		}
	}
	return t, nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// authorities reads certificates.
func authorities(path string) (*x509.CertPool, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("certificates for prometheus: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("certificates for prometheus: %s holds none in PEM", path)
	}
	return pool, nil
}

// token reads the token, which may be replaced at any time.
func (t *transport) token() (string, error) {
	file, err := os.Open(t.tokenFile)
	if err != nil {
		return "", fmt.Errorf("token for prometheus: %w", err)
	}
	defer func() { _ = file.Close() }()
	text, err := io.ReadAll(io.LimitReader(file, maxToken))
	if err != nil {
		return "", fmt.Errorf("token for prometheus: %w", err)
	}
	token := strings.TrimSpace(string(text))
	if token == "" || strings.ContainsAny(token, "\r\n") {
		return "", fmt.Errorf("token for prometheus: %s must hold one line", t.tokenFile)
	}
	return token, nil
}

// RoundTrip implements http.RoundTripper. Where a redirect leads, the token does not go.
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if t.tokenFile != "" && r.URL.Host == t.host && r.URL.Scheme == t.scheme {
		token, err := t.token()
		if err != nil {
			return nil, err
		}
		r = r.Clone(r.Context())
		r.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := t.next.RoundTrip(r)
	if err != nil {
		return nil, err //nolint:wrapcheck // net/http says it well
	}
	response.Body = &bounded{response.Body, MaxResponse}
	return response, nil
}

// bounded is a body that ends in an error beyond its bound.
type bounded struct {
	io.ReadCloser
	left int64
}

// Read implements io.Reader.
func (b *bounded) Read(into []byte) (int, error) {
	if b.left < 0 {
		return 0, fmt.Errorf("the answer is larger than %d bytes", MaxResponse)
	}
	n, err := b.ReadCloser.Read(into)
	b.left -= int64(n)
	return n, err //nolint:wrapcheck // io.EOF must stay itself
}
