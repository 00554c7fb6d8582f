package otlp

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	_ "google.golang.org/grpc/encoding/gzip" // exporters may compress what they send over gRPC
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
)

// Path is where OTLP over HTTP is served.
const Path = "/v1/traces"

// Bounds of the receiver as a whole.
const (
	MaxWaiting = 32          // exports under way or waiting, over gRPC and HTTP; more are shed
	retryAfter = time.Second // what an exporter that was shed is asked to wait
	protobuf   = "application/x-protobuf"
)

// shed is the answer to an export that is one too many; exporters send it again later.
func shed() error {
	said := status.New(codes.Unavailable, fmt.Sprintf("%d exports are waiting; send again in %s", MaxWaiting, retryAfter))
	if full, err := said.WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(retryAfter)}); err == nil {
		said = full
	}
	return said.Err() //nolint:wrapcheck // the status is the answer
}

// enter takes a place among the exports under way, and reports whether there was one.
func (s *Server) enter() bool {
	if s.waiting.Add(1) <= MaxWaiting {
		return true
	}
	s.waiting.Add(-1)
	s.spans.WithLabelValues("shed").Inc()
	return false
}

func (s *Server) exit() { s.waiting.Add(-1) }

// buffer holds what the handling of one request needs, for the next one.
type buffer struct {
	body bytes.Buffer
	gzip gzip.Reader
}

// ServeHTTP implements OTLP over HTTP with binary protobuf, plain or gzip. An error is
// answered with a google.rpc.Status; 503 alone is to be sent again.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	code, fault := acceptable(r)
	if fault != "" {
		if code == http.StatusMethodNotAllowed {
			w.Header().Set("Allow", http.MethodPost)
		}
		answer(w, code, status.New(codes.InvalidArgument, fault).Proto())
		return
	}
	if !s.enter() {
		w.Header().Set("Retry-After", strconv.Itoa(int(retryAfter.Seconds())))
		answer(w, http.StatusServiceUnavailable, status.Convert(shed()).Proto())
		return
	}
	defer s.exit()
	scratch, _ := s.buffers.Get().(*buffer)
	if scratch == nil {
		scratch = new(buffer)
	}
	defer s.buffers.Put(scratch)
	if err := scratch.read(w, r); err != nil {
		code = http.StatusBadRequest
		if large := (*http.MaxBytesError)(nil); errors.As(err, &large) {
			code = http.StatusRequestEntityTooLarge
		}
		s.spans.WithLabelValues("malformed").Inc()
		answer(w, code, status.New(codes.InvalidArgument, err.Error()).Proto())
		return
	}
	response, err := s.take(withPeer(r), scratch.body.Bytes())
	if err != nil {
		answer(w, http.StatusBadRequest, status.Convert(err).Proto())
		return
	}
	answer(w, http.StatusOK, response)
}

// acceptable says why a request is none that is served here, "" if it is.
func acceptable(r *http.Request) (code int, fault string) {
	if r.Method != http.MethodPost {
		return http.StatusMethodNotAllowed, "use POST"
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != protobuf {
		return http.StatusUnsupportedMediaType, "Content-Type must be " + protobuf + ": set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf"
	}
	switch r.Header.Get("Content-Encoding") {
	case "", "identity", "gzip":
		return http.StatusOK, ""
	}
	return http.StatusUnsupportedMediaType, "Content-Encoding must be gzip or absent: set OTEL_EXPORTER_OTLP_COMPRESSION=gzip"
}

// read reads the body of r, at most MaxBatch bytes as sent and as unpacked.
func (b *buffer) read(w http.ResponseWriter, r *http.Request) error {
	b.body.Reset()
	body := io.Reader(http.MaxBytesReader(w, r.Body, MaxBatch))
	if r.Header.Get("Content-Encoding") == "gzip" {
		if err := b.gzip.Reset(body); err != nil {
			return fmt.Errorf("read gzip header: %w", err)
		}
		body = io.LimitReader(&b.gzip, MaxBatch+1)
	}
	n, err := b.body.ReadFrom(body)
	if err != nil {
		return fmt.Errorf("read body: %w", err)
	}
	if n > MaxBatch {
		return fmt.Errorf("unpacked body: %w", &http.MaxBytesError{Limit: MaxBatch})
	}
	return nil
}

// answer writes message as the protocol has it.
func answer(w http.ResponseWriter, code int, message proto.Message) {
	data, err := proto.Marshal(message)
	if err != nil {
		code = http.StatusInternalServerError
	}
	w.Header().Set("Content-Type", protobuf)
	w.WriteHeader(code)
	_, _ = w.Write(data) // the exporter has gone
}
