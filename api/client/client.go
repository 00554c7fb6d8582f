// Package client connects to the API of Sluice. It adds the bearer token and the
// address's spelling, nothing else: messages are those of api/sluice/v1.
package client

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"connectrpc.com/connect"

	"github.com/sluicemesh/sluice/api/sluice/v1/sluicev1connect"
)

// Client speaks the API.
type Client = sluicev1connect.SluiceServiceClient

// New returns a client of server ("host:port" or an http URL) that sends token. No
// connection is made before the first call. Redirects are not followed, so that the
// token goes to that server only.
func New(server, token string) (Client, error) {
	base, err := BaseURL(server)
	if err != nil {
		return nil, err
	}
	transport := &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return sluicev1connect.NewSluiceServiceClient(transport, base, connect.WithInterceptors(bearer(token))), nil
}

// BaseURL returns the URL of server without a trailing slash.
func BaseURL(server string) (string, error) {
	if !strings.Contains(server, "://") {
		server = "http://" + server
	}
	parsed, err := url.Parse(server)
	if err != nil {
		return "", fmt.Errorf("server address: %w", err)
	}
	if parsed.Scheme != "http" && parsed.Scheme != "https" || parsed.Host == "" {
		return "", fmt.Errorf("server address %q: want HOST:PORT or http://HOST:PORT", server)
	}
	return parsed.Scheme + "://" + parsed.Host, nil
}

// bearer is an interceptor that adds a token, if there is one.
type bearer string

// WrapUnary implements connect.Interceptor.
func (b bearer) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, request connect.AnyRequest) (connect.AnyResponse, error) {
		b.add(request.Header())
		return next(ctx, request)
	}
}

// WrapStreamingClient implements connect.Interceptor.
func (b bearer) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return func(ctx context.Context, spec connect.Spec) connect.StreamingClientConn {
		conn := next(ctx, spec)
		b.add(conn.RequestHeader())
		return conn
	}
}

// WrapStreamingHandler implements connect.Interceptor.
func (b bearer) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return next
}

func (b bearer) add(header http.Header) {
	if b != "" {
		header.Set("Authorization", "Bearer "+string(b))
	}
}
