// Package load puts an open-loop load on one HTTP address and accounts for every
// request. It is not for breaking or repairing what it loads, and shares nothing with
// the control plane.
//
// Open loop: requests are sent at times fixed in advance by the seed, whether or not
// earlier ones were answered, and latency counts from the intended time of sending; so
// a system that stalls cannot hide the requests that it delayed (no coordinated
// omission). Nothing is sent twice: the client's own retries are off.
package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Bounds of a run.
const (
	MaxRate        = 20_000 // requests a second
	MaxRequests    = 5_000_000
	DefaultTimeout = 20 * time.Second
	maxInFlight    = 16_384
	readyRequests  = 1 << 14
)

// Config says what load to put where.
type Config struct {
	Address  string        // host:port that takes all load
	Entry    string        // service behind Address; failures without an answer of it failed there
	Mix      []Part        // shares sum to 1
	Method   string        // of every request; "" = POST
	Rate     float64       // requests a second
	Constant bool          // evenly spaced; else Poisson arrivals
	Ramp     time.Duration // the rate grows to its full height during this time
	Seed     uint64        // of arrivals, operations and keys
	Requests int           // at most so many
	For      time.Duration // at most so long
	Timeout  time.Duration // of one request; 0 = DefaultTimeout
}

// Part is one operation's share of the load.
type Part struct {
	Operation string  // path of the request, without the first slash
	Share     float64 // 0..1
}

// Record is one request. Times count from the start of the run.
type Record struct {
	Operation string
	Fault     string // mark of the injected fault that caused the answer
	FailedAt  string // service that could not be reached, "" = every one answered
	Err       string // why there was no answer: timeout, reset, eof, refused or other
	Status    int    // of the answer, 0 = none
	Intended  time.Duration
	Started   time.Duration
	Ended     time.Duration // 0 = unfinished
}

// OK reports whether the request was answered with success.
func (r Record) OK() bool { return r.Ended > 0 && r.Status >= 200 && r.Status < 400 }

// Latency is the time from the intended sending to the end of the answer.
func (r Record) Latency() time.Duration { return r.Ended - r.Intended }

// Log is what a run did: one record for each request that was sent.
type Log struct {
	Start   time.Time
	Records []Record // in the order of sending
}

// Generator is a run under way.
type Generator struct {
	config  Config
	client  *http.Client
	start   time.Time
	stop    context.CancelFunc // of the arrivals
	done    chan struct{}      // closed when the last request has ended
	mu      sync.Mutex
	records []Record
}

// Start begins a run. It goes on until the bounds of config, Stop, or the end of ctx,
// which also abandons the requests under way: they stay unfinished.
func Start(ctx context.Context, config Config) (*Generator, error) {
	if config.Timeout == 0 {
		config.Timeout = DefaultTimeout
	}
	if config.Method == "" {
		config.Method = http.MethodPost
	}
	if err := config.check(); err != nil {
		return nil, err
	}
	arrivals, stop := context.WithCancel(ctx)
	transport := &http.Transport{MaxIdleConnsPerHost: maxInFlight, DisableCompression: true,
		DialContext: (&net.Dialer{Timeout: 5 * time.Second}).DialContext}
	g := &Generator{config: config, client: &http.Client{Transport: transport}, start: time.Now(),
		stop: stop, done: make(chan struct{})}
	go g.run(ctx, arrivals)
	return g, nil
}

func (c Config) check() error {
	if _, _, err := net.SplitHostPort(c.Address); err != nil {
		return fmt.Errorf("load: address: %w", err)
	}
	if !(c.Rate > 0 && c.Rate <= MaxRate) {
		return fmt.Errorf("load: rate %g: want more than 0 and at most %d a second", c.Rate, MaxRate)
	}
	if c.Requests < 1 || c.Requests > MaxRequests || c.For <= 0 {
		return fmt.Errorf("load: want a bound in time and 1 to %d requests", MaxRequests)
	}
	sum := 0.0
	for _, part := range c.Mix {
		sum += part.Share
	}
	if sum < 0.999 || sum > 1.001 {
		return fmt.Errorf("load: the shares of the mix sum to %g, want 1", sum)
	}
	return nil
}

// Start returns when the run began; all times of its records count from here.
func (g *Generator) Start() time.Time { return g.start }

// Now is the time since the run began.
func (g *Generator) Now() time.Duration { return time.Since(g.start) }

// Stop ends the arrivals. Requests under way go on.
func (g *Generator) Stop() { g.stop() }

// Done is closed when the arrivals are over and every request has ended.
func (g *Generator) Done() <-chan struct{} { return g.done }

// Wait stops the arrivals, waits for the requests under way (each has its timeout) and
// returns the whole log.
func (g *Generator) Wait() Log {
	g.stop()
	<-g.done
	return g.Snapshot()
}

// Sent counts the requests sent so far.
func (g *Generator) Sent() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.records)
}

// Snapshot copies what is known now; requests under way are unfinished in it.
func (g *Generator) Snapshot() Log {
	g.mu.Lock()
	defer g.mu.Unlock()
	return Log{Start: g.start, Records: slices.Clone(g.records)}
}

// run sends until the bounds and waits for the last answer.
func (g *Generator) run(ctx, arrivals context.Context) {
	defer close(g.done)
	defer g.client.CloseIdleConnections()
	defer g.stop()
	g.records = make([]Record, 0, min(g.config.Requests, readyRequests))
	slots := make(chan struct{}, maxInFlight)
	var group sync.WaitGroup
	defer group.Wait()
	for _, arrival := range Schedule(g.config) {
		if !until(arrivals, g.start.Add(arrival.At)) {
			return
		}
		select {
		case slots <- struct{}{}:
		case <-arrivals.Done():
			return
		}
		index := g.open(arrival)
		group.Go(func() {
			g.send(ctx, arrival, index)
			<-slots
		})
	}
}

// until waits for a point in time; it reports false when ctx ended before.
func until(ctx context.Context, at time.Time) bool {
	wait := time.Until(at)
	if wait <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// open notes that a request is sent, and returns its place.
func (g *Generator) open(arrival Arrival) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.records = append(g.records, Record{Operation: arrival.Operation, Intended: arrival.At, Started: g.Now()})
	return len(g.records) - 1
}

// send makes one request and notes how it ended. A request abandoned by ctx stays
// unfinished.
func (g *Generator) send(ctx context.Context, arrival Arrival, index int) {
	bounded, cancel := context.WithTimeout(ctx, g.config.Timeout)
	defer cancel()
	result := g.exchange(bounded, arrival)
	if ctx.Err() != nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	r := &g.records[index]
	r.Status, r.Fault, r.FailedAt, r.Err = result.Status, result.Fault, result.FailedAt, result.Err
	r.Ended = max(g.Now(), 1)
}

// exchange sends one request and reads the whole answer. The body is not replayable,
// so net/http never sends it a second time by itself.
func (g *Generator) exchange(ctx context.Context, arrival Arrival) Record {
	key := strconv.Itoa(arrival.Number)
	target := "http://" + g.config.Address + "/" + arrival.Operation
	body := key
	if g.config.Method != http.MethodPost {
		body = ""
	}
	request, err := http.NewRequestWithContext(ctx, g.config.Method, target, io.NopCloser(strings.NewReader(body)))
	if err != nil {
		return Record{Err: "other", FailedAt: g.config.Entry}
	}
	request.ContentLength = int64(len(body))
	request.Header.Set("X-Request-Key", key)
	response, err := g.client.Do(request)
	if err != nil {
		return Record{Err: reason(err), FailedAt: g.config.Entry}
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		return Record{Err: reason(err), FailedAt: g.config.Entry, Fault: response.Header.Get("X-Fault")}
	}
	result := Record{Status: response.StatusCode, Fault: response.Header.Get("X-Fault"),
		FailedAt: response.Header.Get("X-Failed-At")}
	if result.Status >= 400 && result.FailedAt == "" && response.Header.Get("X-App") == "" {
		result.FailedAt = g.config.Entry // made by a proxy
	}
	return result
}

// reason names the error of a request without an answer.
func reason(err error) string {
	var wrapped *url.Error
	switch {
	case errors.As(err, &wrapped) && wrapped.Timeout(), errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "eof"
	case strings.Contains(err.Error(), "connection refused"):
		return "refused"
	case strings.Contains(err.Error(), "reset by peer"), strings.Contains(err.Error(), "broken pipe"):
		return "reset"
	}
	return "other"
}
