package main

import (
	"context"
	"sync"
	"time"
)

// clock is the time of one plane: it stands still but for step, so that an hour of
// attack takes as long as its work. It is safe for concurrent use.
type clock struct {
	mu     sync.Mutex
	now    time.Time
	timers []*alarm // unsorted: a plane has a dozen
}

// alarm is a timer that has neither rung nor been stopped.
type alarm struct {
	due time.Time
	f   func()
}

func newClock() *clock {
	return &clock{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
}

// Now returns the present time of the plane.
func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// After is time.AfterFunc on this clock.
func (c *clock) After(d time.Duration, f func()) (stop func() bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a := &alarm{due: c.now.Add(d), f: f}
	c.timers = append(c.timers, a)
	return func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.remove(a)
	}
}

func (c *clock) remove(a *alarm) bool {
	for i := range c.timers {
		if c.timers[i] == a {
			c.timers = append(c.timers[:i], c.timers[i+1:]...)
			return true
		}
	}
	return false
}

// step moves to the next alarm and rings it; if none is due by limit it moves there and
// reports false.
func (c *clock) step(limit time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	var next *alarm
	for _, a := range c.timers {
		if next == nil || a.due.Before(next.due) {
			next = a
		}
	}
	if next == nil || next.due.After(limit) {
		if limit.After(c.now) {
			c.now = limit
		}
		return false
	}
	if next.due.After(c.now) {
		c.now = next.due
	}
	c.remove(next)
	go next.f()
	return true
}

// wait returns when d has passed on this clock, or ctx's error.
func (c *clock) wait(ctx context.Context, d time.Duration) error {
	rung := make(chan struct{})
	stop := c.After(d, func() { close(rung) })
	select {
	case <-rung:
		return nil
	case <-ctx.Done():
		stop()
		return ctx.Err()
	}
}
