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
	"strconv"
	"time"

	"github.com/sluicemesh/sluice/mesh"
)

// Bounds of the control interface.
const (
	maxRequestBytes = 64 << 10
	maxAnswerBytes  = 16 << 20
	longPoll        = 25 * time.Second
)

// Client speaks to a supervisor over its Unix socket. It is safe for concurrent
// use and holds no connection while idle.
type Client struct {
	socket string
	http   *http.Client
}

// Dial returns a client for the supervisor at socket. It does not connect: a
// supervisor that is not there shows in the first call.
func Dial(socket string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}
	return &Client{socket: socket, http: &http.Client{Transport: &http.Transport{
		DialContext: dial, DisableKeepAlives: true,
	}}}
}

// RefusedError is an answer by which the supervisor did not do what was asked.
type RefusedError struct {
	Status int // HTTP status: 400, 404 unknown, 409 conflict, 503 not ready, 504 too late
	Reason string
}

// Error implements error.
func (e *RefusedError) Error() string { return e.Reason }

// ExitCode is 2 for an order that is wrong in itself, else 1.
func (e *RefusedError) ExitCode() int {
	if e.Status == http.StatusBadRequest || e.Status == http.StatusNotFound {
		return exitMalformed
	}
	return exitFailed
}

// World returns the present snapshot.
func (c *Client) World(ctx context.Context) (*mesh.World, error) {
	world := new(mesh.World)
	if _, err := c.call(ctx, http.MethodGet, "/v1/world", nil, world); err != nil {
		return nil, err
	}
	return world, nil
}

// Watch calls changed with the present world and again after every change, in
// order, until ctx ends; then it returns ctx's error. A supervisor that is away is
// waited for. changed owns the world and must not block for long.
func (c *Client) Watch(ctx context.Context, changed func(*mesh.World)) error {
	const least, most = 50 * time.Millisecond, time.Second
	pause := least
	path := "/v1/world"
	for ctx.Err() == nil {
		world := new(mesh.World)
		status, err := c.call(ctx, http.MethodGet, path, nil, world)
		if err != nil {
			sleep(ctx, pause)
			pause = min(2*pause, most)
			continue
		}
		pause = least
		if status == http.StatusOK {
			path = "/v1/world?after=" + strconv.FormatUint(world.Version, 10)
			changed(world)
		}
	}
	return ctx.Err()
}

// Restart restarts the application of ref's instance and returns the instance once
// it is ready again in its next incarnation. If the instance has passed ref's
// incarnation already, no second restart happens and the answer is that of the
// present one. Mode is "", "in-place" or "rolling"; a local process knows no other.
// It takes at most until ctx ends; the supervisor goes on by itself.
func (c *Client) Restart(ctx context.Context, ref mesh.Ref, mode string) (mesh.Instance, error) {
	order := restartOrder{Service: ref.Service, UID: ref.UID, Incarnation: ref.Incarnation, Mode: mode}
	var instance mesh.Instance
	_, err := c.call(ctx, http.MethodPost, "/v1/restart", order, &instance)
	return instance, err
}

// Kill sends a signal ("KILL", "TERM", "STOP" ...) to the process group of a child.
func (c *Client) Kill(ctx context.Context, name, signal string) error {
	_, err := c.call(ctx, http.MethodPost, "/v1/kill", killOrder{Name: name, Signal: signal}, nil)
	return err
}

// Ps returns what runs.
func (c *Client) Ps(ctx context.Context) (*Listing, error) {
	listing := new(Listing)
	if _, err := c.call(ctx, http.MethodGet, "/v1/ps", nil, listing); err != nil {
		return nil, err
	}
	return listing, nil
}

// Down takes the mesh down and returns when the supervisor has gone.
func (c *Client) Down(ctx context.Context) error {
	if _, err := c.call(ctx, http.MethodPost, "/v1/down", struct{}{}, nil); err != nil {
		return err
	}
	for ctx.Err() == nil {
		conn, err := net.Dial("unix", c.socket)
		if err != nil {
			return nil
		}
		conn.Close()
		sleep(ctx, 20*time.Millisecond)
	}
	return fmt.Errorf("wait for the supervisor to end: %w", ctx.Err())
}

// restartOrder is the body of POST /v1/restart. Grace is a duration such as "5s",
// "" = the service's own.
type restartOrder struct {
	Service     mesh.Service `json:"service"`
	UID         mesh.UID     `json:"uid"`
	Incarnation uint64       `json:"incarnation"`
	Grace       string       `json:"grace,omitempty"`
	Mode        string       `json:"mode,omitempty"`
}

// killOrder is the body of POST /v1/kill.
type killOrder struct {
	Name   string `json:"name"`
	Signal string `json:"signal"`
}

// refusal is the body of every answer that is not 2xx.
type refusal struct {
	Error string `json:"error"`
}

// call sends one request and decodes the answer into result, unless that is nil or
// there is none. It returns the status of an answer of kind 2xx.
func (c *Client) call(ctx context.Context, method, path string, body, result any) (int, error) {
	request, err := newRequest(ctx, method, path, body)
	if err != nil {
		return 0, err
	}
	answer, err := c.http.Do(request)
	if err != nil {
		return 0, c.unreachable(err)
	}
	defer answer.Body.Close()
	data, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswerBytes))
	if err != nil {
		return 0, fmt.Errorf("read the supervisor's answer: %w", err)
	}
	if answer.StatusCode/100 != 2 {
		var why refusal
		if json.Unmarshal(data, &why) != nil || why.Error == "" {
			why.Error = "supervisor answered " + answer.Status
		}
		return 0, &RefusedError{Status: answer.StatusCode, Reason: why.Error}
	}
	if result != nil && answer.StatusCode == http.StatusOK {
		if err := json.Unmarshal(data, result); err != nil {
			return 0, fmt.Errorf("decode the supervisor's answer: %w", err)
		}
	}
	return answer.StatusCode, nil
}

// unreachable says what to do when there is no supervisor at the socket.
func (c *Client) unreachable(err error) error {
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		return missing(err, "start it with: sluice local up -f FILE", "no supervisor answers")
	}
	return fmt.Errorf("ask the supervisor: %w", err)
}

// newRequest encodes body, if any.
func newRequest(ctx context.Context, method, path string, body any) (*http.Request, error) {
	var reader io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return nil, fmt.Errorf("encode request: %w", err)
		}
		reader = bytes.NewReader(data)
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://supervisor"+path, reader)
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	return request, nil
}

// sleep waits for d or until ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
