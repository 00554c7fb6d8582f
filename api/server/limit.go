package server

import (
	"fmt"
	"math"
	"strconv"
	"sync"
	"time"

	"connectrpc.com/connect"
)

// Calls of one principal: a page polls five methods a second. The kernel has a limit
// of its own on plans.
const (
	callsPerSecond = 100
	callsBurst     = 200
)

// limits bounds the calls and streams of each principal. Its tables hold one entry for
// each authenticated name, so their size is bounded by the number of tokens.
type limits struct {
	now func() time.Time

	mu      sync.Mutex
	buckets map[string]bucket
	streams map[string]int
}

type bucket struct {
	level float64
	at    time.Time
}

func newLimits(now func() time.Time) *limits {
	return &limits{now: now, buckets: map[string]bucket{}, streams: map[string]int{}}
}

// take takes one call of name; it returns 0, or how long to wait before the next try.
func (l *limits) take(name string) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	b, known := l.buckets[name]
	if !known {
		b.level = callsBurst
	} else {
		b.level = min(callsBurst, b.level+now.Sub(b.at).Seconds()*callsPerSecond)
	}
	b.at = now
	wait := time.Duration(0)
	if b.level >= 1 {
		b.level--
	} else {
		wait = time.Duration((1 - b.level) / callsPerSecond * float64(time.Second))
	}
	l.buckets[name] = b
	return wait
}

// open counts a stream of name, false if it has too many.
func (l *limits) open(name string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.streams[name] >= MaxWatches {
		return false
	}
	l.streams[name]++
	return true
}

func (l *limits) close(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.streams[name]--
}

func throttled(wait time.Duration) error {
	seconds := int(math.Ceil(wait.Seconds()))
	err := connect.NewError(connect.CodeResourceExhausted,
		fmt.Errorf("rate: more than %d calls a second: retry after %d s", callsPerSecond, seconds))
	err.Meta().Set("Retry-After", strconv.Itoa(seconds))
	return err
}
