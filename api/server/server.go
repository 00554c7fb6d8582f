package server

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"connectrpc.com/connect"

	"github.com/sluicemesh/sluice/api/sluice/v1/sluicev1connect"
	"github.com/sluicemesh/sluice/isa"
)

// Bounds of every request.
const (
	MaxMessage    = 1 << 20          // bytes of one request
	MaxProgram    = isa.MaxBytes     // bytes of one program
	MaxHeader     = 32 << 10         // bytes of all request headers
	CallDeadline  = 15 * time.Second // of a unary call
	WatchDeadline = time.Hour        // of one stream; clients open the next
	MaxWatches    = 32               // open streams of one principal
	MaxPage       = 500              // plans in one page
)

// Config says what to serve. Kernel, Topology, Registry and Tokens are needed.
type Config struct {
	Kernel   Kernel
	Topology Topology
	Symptoms Symptoms // nil: none are known
	Proxies  Proxies  // nil: none are known
	Registry Registry
	Audit    Audit // nil: nothing can be exported
	Tokens   Authenticator

	Version, Commit string
	Started         time.Time
	Hosts           []string // host names that requests may be for, besides the loopback ones
	Dashboard       http.Handler
	Metrics         http.Handler // served to viewers at /metrics; nil: none
	Ready           func() error // nil: ready from the start
	Log             *slog.Logger
	Now             func() time.Time // nil: time.Now
}

// New returns the handler of the API, of /healthz, /readyz, /metrics and of the
// dashboard at /. It starts nothing; NewHTTP makes a server with fitting bounds for it.
func New(config Config) (http.Handler, error) {
	if config.Kernel == nil || config.Topology == nil || config.Registry == nil || config.Tokens == nil {
		return nil, errors.New("api server: Kernel, Topology, Registry and Tokens must be set")
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	if config.Log == nil {
		config.Log = slog.New(slog.DiscardHandler)
	}
	gate := newGate(config)
	path, api := sluicev1connect.NewSluiceServiceHandler(&service{config: config, gate: gate},
		connect.WithInterceptors(gate),
		connect.WithReadMaxBytes(MaxMessage),
		connect.WithRecover(recovered(config.Log)),
	)
	mux := http.NewServeMux()
	mux.Handle(path, http.MaxBytesHandler(gate.front(api), MaxMessage))
	mux.HandleFunc("GET /healthz", plain(func() error { return nil }))
	mux.HandleFunc("GET /readyz", plain(config.Ready))
	if config.Metrics != nil {
		mux.Handle("GET /metrics", gate.viewers(config.Metrics))
	}
	if config.Dashboard != nil {
		mux.Handle("/", config.Dashboard)
	}
	return guard(config.Hosts, mux), nil
}

// NewHTTP returns a server for handler that speaks HTTP/1.1 and unencrypted HTTP/2 on
// one port, with bounds against slow and oversize requests. The caller listens.
func NewHTTP(handler http.Handler) *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Server{
		Handler:           handler,
		Protocols:         protocols,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       30 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    MaxHeader,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: 100},
	}
}

// plain answers 200 "ok", or 503 with the reason.
func plain(check func() error) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		if check != nil {
			if err := check(); err != nil {
				w.WriteHeader(http.StatusServiceUnavailable)
				_, _ = w.Write([]byte(err.Error() + "\n"))
				return
			}
		}
		_, _ = w.Write([]byte("ok\n"))
	}
}

// recovered turns a panic of a handler into an error without its text.
func recovered(log *slog.Logger) func(context.Context, connect.Spec, http.Header, any) error {
	return func(ctx context.Context, spec connect.Spec, _ http.Header, value any) error {
		log.ErrorContext(ctx, "handler panicked", "procedure", spec.Procedure, "panic", value)
		return connect.NewError(connect.CodeInternal, errors.New("internal error"))
	}
}
