package local

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// controlDoor is the control interface while it is open.
type controlDoor struct{ server *http.Server }

// serve opens supervisor.sock. A socket left by a dead supervisor is replaced: the
// lock says that it is dead.
func (s *supervisor) serve() (*controlDoor, error) {
	path := Socket(s.dir)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, missing(err, "remove it", "old control socket")
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, missing(err, "name another directory with --state", "control socket")
	}
	if err := os.Chmod(path, 0o600); err != nil {
		listener.Close()
		return nil, missing(err, "name another directory with --state", "control socket")
	}
	server := &http.Server{
		Handler: s.routes(), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		IdleTimeout: 30 * time.Second, MaxHeaderBytes: 16 << 10,
	}
	s.wg.Go(func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			s.cancel(failed("", "control socket: %v", err))
		}
	})
	return &controlDoor{server: server}, nil
}

// close answers what is under way and closes the socket, which removes it.
func (d *controlDoor) close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if d.server.Shutdown(ctx) != nil {
		_ = d.server.Close() // what is still under way is cut
	}
}

// routes is the control interface.
func (s *supervisor) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/world", answer(s.getWorld))
	mux.HandleFunc("POST /v1/restart", answer(s.postRestart))
	mux.HandleFunc("POST /v1/kill", answer(s.postKill))
	mux.HandleFunc("GET /v1/ps", answer(s.getPs))
	mux.HandleFunc("POST /v1/down", answer(s.postDown))
	return mux
}

// nothing is an answer without a body.
type nothing struct{}

// answer makes a handler of a function of a request.
func answer(handle func(*http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		result, err := handle(r)
		status := http.StatusOK
		var why *RefusedError
		switch {
		case errors.As(err, &why):
			status, result = why.Status, refusal{Error: why.Reason}
		case err != nil:
			status, result = http.StatusInternalServerError, refusal{Error: err.Error()}
		case result == nothing{}:
			w.WriteHeader(http.StatusNoContent)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(result) // a client that has gone is no fault of ours
	}
}

// getWorld answers with the world, at once or when it is newer than ?after.
func (s *supervisor) getWorld(r *http.Request) (any, error) {
	if err := query(r, "after"); err != nil {
		return nil, err
	}
	text := r.URL.Query().Get("after")
	if text == "" {
		return s.world(), nil
	}
	after, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return nil, refused(http.StatusBadRequest, "after %s is not a version", quote(text))
	}
	ctx, cancel := context.WithTimeout(r.Context(), longPoll)
	defer cancel()
	// A version from another life of the directory may be above ours: that is news, too.
	if s.await(ctx, func() bool { return s.version != after }) != nil {
		return nothing{}, nil
	}
	return s.world(), nil
}

// getPs answers with what runs.
func (s *supervisor) getPs(r *http.Request) (any, error) {
	if err := query(r); err != nil {
		return nil, err
	}
	return s.listing(), nil
}

// postRestart restarts an application.
func (s *supervisor) postRestart(r *http.Request) (any, error) {
	var order restartOrder
	if err := decode(r, &order, "service", "uid", "incarnation", "grace", "mode"); err != nil {
		return nil, err
	}
	switch order.Mode {
	case "", "in-place", "rolling":
	default:
		return nil, refused(http.StatusBadRequest, "mode %s: a local process can only be restarted in place",
			quote(order.Mode))
	}
	grace := DefaultGrace
	if spec := s.options.File.Find(order.Service); spec != nil {
		grace = spec.Grace
	}
	if order.Grace != "" {
		var err error
		if grace, err = time.ParseDuration(order.Grace); err != nil || grace < 0 || grace > maxGrace {
			return nil, refused(http.StatusBadRequest, "grace %s is not a duration from 0s to %s", quote(order.Grace), maxGrace)
		}
	}
	return s.restart(r.Context(), order, grace)
}

// postKill signals a child.
func (s *supervisor) postKill(r *http.Request) (any, error) {
	var order killOrder
	if err := decode(r, &order, "name", "signal"); err != nil {
		return nil, err
	}
	return nothing{}, s.kill(order)
}

// postDown takes the mesh down and answers when no child is left.
func (s *supervisor) postDown(r *http.Request) (any, error) {
	if err := decode(r, &nothing{}); err != nil {
		return nil, err
	}
	s.cancel(errDown)
	select {
	case <-s.gone:
	case <-r.Context().Done():
	}
	return nothing{}, nil
}

// query refuses parameters other than known, and repeated ones.
func query(r *http.Request, known ...string) error {
	if r.URL.RawQuery == "" {
		return nil
	}
	values := r.URL.Query()
	for _, name := range known {
		if len(values[name]) == 1 {
			delete(values, name)
		}
	}
	if len(values) > 0 {
		return refused(http.StatusBadRequest, "query %s is not understood", quote(r.URL.RawQuery))
	}
	return nil
}

// decode reads the body of r, one JSON object with fields out of known.
func decode(r *http.Request, value any, known ...string) error {
	if err := query(r); err != nil {
		return err
	}
	data, err := io.ReadAll(io.LimitReader(r.Body, maxRequestBytes+1))
	if err != nil {
		return refused(http.StatusBadRequest, "read request: %v", err)
	}
	if len(data) > maxRequestBytes {
		return refused(http.StatusRequestEntityTooLarge, "request is larger than %d bytes", maxRequestBytes)
	}
	if err := decodeObject(data, value, known); err != nil {
		return refused(http.StatusBadRequest, "request is not understood: %v", err)
	}
	return nil
}

// decodeObject decodes one flat JSON object. Other than encoding/json it refuses
// repeated fields, fields in another case, null and trailing bytes.
func decodeObject(data []byte, value any, known []string) error {
	reader := json.NewDecoder(bytes.NewReader(data))
	if open, err := reader.Token(); err != nil || open != json.Delim('{') {
		return errors.New("want one JSON object")
	}
	seen := make(map[string]bool)
	for reader.More() {
		name, err := reader.Token()
		if err != nil {
			return fmt.Errorf("at byte %d: %w", reader.InputOffset(), err)
		}
		field, _ := name.(string)
		if !contains(known, field) || seen[field] {
			return fmt.Errorf("field %s is unknown or given twice; known are %s", quote(field), strings.Join(known, ", "))
		}
		seen[field] = true
		inner, err := reader.Token()
		if err != nil {
			return fmt.Errorf("at byte %d: %w", reader.InputOffset(), err)
		}
		if _, nested := inner.(json.Delim); nested || inner == nil {
			return fmt.Errorf("field %s is neither text nor number", field)
		}
	}
	if _, err := reader.Token(); err != nil {
		return fmt.Errorf("at byte %d: %w", reader.InputOffset(), err)
	}
	if _, err := reader.Token(); !errors.Is(err, io.EOF) {
		return errors.New("bytes follow the object")
	}
	return json.Unmarshal(data, value)
}

// contains reports whether list holds text.
func contains(list []string, text string) bool {
	for _, item := range list {
		if item == text {
			return true
		}
	}
	return false
}
