package scenario

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/sluicemesh/sluice/e2e/load"
)

// loaded is a load under way in a pod of its own.
type loaded struct {
	stage *stage
	pod   string
}

// counts is what the pod prints in the end (e2e/cluster/loader).
type counts struct {
	load.Counts
	P99      float64        `json:"p99_s"`
	Failures []load.Failure `json:"failures"`
}

// entry is where a load goes.
type entry struct{ address, service, operation string }

// Where loads enter: at the carts themselves, or at the mesh's gateway.
func carts() entry   { return entry{"cart:8080", "shop/cart", "add"} }
func gateway() entry { return entry{"edge:8080", "shop/web", "buy"} }

// load starts a load and returns when requests flow. It goes on for at most the seconds, or
// until it is ended.
func (s *stage) load(ctx context.Context, at entry, seconds int) (*loaded, error) {
	const name = "load"
	err := s.apply(ctx, "load", "$POD", name, "$ADDRESS", at.address, "$ENTRY", at.service,
		"$OPERATION", at.operation, "$RATE", strconv.Itoa(rate),
		"$SECONDS", strconv.Itoa(seconds), "$REQUESTS", strconv.Itoa(rate*seconds))
	if err != nil {
		return nil, err
	}
	l := &loaded{stage: s, pod: name}
	return l, poll(ctx, 90*time.Second, func(ctx context.Context) error {
		out, err := s.ask(ctx, "", "logs", name)
		if err == nil && !strings.HasPrefix(out, "started") {
			err = fmt.Errorf("no load yet: %.300s", out)
		}
		return err
	})
}

// end stops the load if asked to, waits for its last answer and returns what it counted.
func (l *loaded) end(ctx context.Context, stop bool) (counts, error) {
	s := l.stage
	if stop { // as kubelet would, but the pod's log stays
		if err := s.kubectl(ctx, "exec", l.pod, "--", "/load", "-stop"); err != nil {
			return counts{}, err
		}
	}
	err := poll(ctx, 3*time.Minute, func(ctx context.Context) error {
		phase, err := s.ask(ctx, "", "get", "pod", l.pod, "-o", "jsonpath={.status.phase}")
		if err == nil && phase != "Succeeded" && phase != "Failed" {
			err = fmt.Errorf("the load is %s", phase)
		}
		return err
	})
	if err != nil {
		return counts{}, err
	}
	out, err := s.ask(ctx, "", "logs", l.pod)
	if err != nil {
		return counts{}, err
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	var c counts
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &c); err != nil {
		return counts{}, fmt.Errorf("the load says %.300q: %w", out, err)
	}
	if c.Sent == 0 {
		return c, errors.New("the load sent nothing")
	}
	failed := c.Sent - c.OK
	s.requests, s.failed = s.requests+c.Sent, s.failed+failed
	s.say("load %s: %d sent, %d failed, p99 %.0f ms", l.pod, c.Sent, failed, c.P99*1000)
	for _, f := range c.Failures {
		s.say("  %s", f)
	}
	return c, nil
}

// none returns an error if a request failed.
func (c *counts) none() error {
	if failed := c.Sent - c.OK; failed > 0 {
		return fmt.Errorf("%d of %d requests failed", failed, c.Sent)
	}
	return nil
}

// poll looks until done succeeds, at most for d; then the error is the last.
func poll(ctx context.Context, d time.Duration, done func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	for {
		err := done(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited %s: %w", d, err)
		case <-time.After(300 * time.Millisecond):
		}
	}
}
