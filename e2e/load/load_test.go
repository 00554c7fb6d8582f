package load

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var testMix = []Part{{"hotels", 0.6}, {"user", 0.4}}

func testConfig(address string) Config {
	return Config{Address: address, Entry: "t/front", Mix: testMix, Rate: 500, Seed: 1,
		Requests: 200, For: time.Minute, Timeout: 5 * time.Second}
}

func TestScheduleDependsOnlyOnTheSeed(t *testing.T) {
	config := testConfig("x:1")
	config.Requests, config.Rate = 20_000, 1000
	collect := func(seed uint64) []Arrival {
		config.Seed = seed
		var list []Arrival
		for _, arrival := range Schedule(config) {
			list = append(list, arrival)
		}
		return list
	}
	first := collect(7)
	if !slices.Equal(first, collect(7)) {
		t.Error("seed 7 gives two schedules")
	}
	if slices.Equal(first, collect(8)) {
		t.Error("seeds 7 and 8 give the same schedule")
	}
	hotels := 0
	for _, arrival := range first {
		if arrival.Operation == "hotels" {
			hotels++
		}
	}
	if share := float64(hotels) / 20_000; share < 0.58 || share > 0.62 {
		t.Errorf("%g of the requests are hotels, want 0.6", share)
	}
	if last := first[len(first)-1].At; last < 19*time.Second || last > 21*time.Second {
		t.Errorf("20,000 requests at 1,000 a second end at %s", last)
	}
}

func TestRampRises(t *testing.T) {
	config := testConfig("x:1")
	config.Constant, config.Rate, config.Ramp, config.Requests, config.For = true, 100, 4*time.Second, 10_000, 6*time.Second
	var perSecond [6]int
	for _, arrival := range Schedule(config) {
		perSecond[arrival.At/time.Second]++
	}
	for i := range 4 {
		if perSecond[i] >= perSecond[i+1] {
			t.Errorf("arrivals a second are %v, want them to rise for 4 s", perSecond)
		}
	}
	if perSecond[0] > 25 || perSecond[4] < 99 || perSecond[5] < 99 {
		t.Errorf("arrivals a second are %v, want them to end at 100", perSecond)
	}
}

func TestScheduleEndsAtItsBounds(t *testing.T) {
	config := testConfig("x:1")
	config.Constant, config.Rate, config.For = true, 100, 500*time.Millisecond
	count := 0
	for range Schedule(config) {
		count++
	}
	if count != 49 {
		t.Errorf("%d arrivals before 500 ms at 100 a second, want 49", count)
	}
}

func TestEveryRequestIsAccountedFor(t *testing.T) {
	var number atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		switch number.Add(1) % 4 {
		case 0:
			w.Header().Set("X-App", "t/cart")
			w.Header().Set("X-Fault", "f-1")
			w.WriteHeader(http.StatusBadGateway)
		case 1:
			w.WriteHeader(http.StatusServiceUnavailable) // as a proxy would
		case 2:
			panic(http.ErrAbortHandler)
		}
	}))
	defer server.Close()
	g, err := Start(t.Context(), testConfig(strings.TrimPrefix(server.URL, "http://")))
	if err != nil {
		t.Fatal(err)
	}
	<-g.Done()
	log := g.Wait()
	got := Classify(log.Records, Timeline{Injected: 0, Acted: 0})
	want := Counts{Sent: 200, OK: 50, FailedFault: 50, FailedRecovery: 100}
	if got != want {
		t.Errorf("counts are %+v, want %+v", got, want)
	}
	if n := number.Load(); n != 200 {
		t.Errorf("the server saw %d requests of 200: the client repeats some", n)
	}
	for _, r := range log.Records {
		if !r.OK() && r.Fault == "" && r.FailedAt != "t/front" {
			t.Fatalf("a failure without an answer of the application is at %q, want the entry", r.FailedAt)
		}
	}
}

// A server that stalls once delays the answers, not the sending; the delay shows in
// the latencies of all requests that were due meanwhile.
func TestLatencyCountsFromTheIntendedTime(t *testing.T) {
	gate := make(chan struct{})
	var entered sync.WaitGroup
	entered.Add(40)
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		entered.Done()
		<-gate
	}))
	defer server.Close()
	config := testConfig(strings.TrimPrefix(server.URL, "http://"))
	config.Requests, config.Constant, config.Rate = 40, true, 400
	g, err := Start(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	entered.Wait() // all were sent although none was answered
	close(gate)
	log := g.Wait()
	if slowest := log.Records[0].Latency(); slowest < 95*time.Millisecond {
		t.Errorf("the first request waited %s, want the time until the last was sent", slowest)
	}
	for i, r := range log.Records {
		if r.Intended != time.Duration(i+1)*time.Second/400 || r.Started < r.Intended {
			t.Fatalf("request %d was intended at %s, started at %s", i, r.Intended, r.Started)
		}
	}
}

func TestAbandonedRequestsAreUnfinished(t *testing.T) {
	arrived := make(chan struct{}, 200)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // only then the server notices that the client is gone
		arrived <- struct{}{}
		<-r.Context().Done()
	}))
	defer server.Close()
	ctx, cancel := context.WithCancel(t.Context())
	g, err := Start(ctx, testConfig(strings.TrimPrefix(server.URL, "http://")))
	if err != nil {
		t.Fatal(err)
	}
	<-arrived
	cancel()
	log := g.Wait()
	if c := Classify(log.Records, Timeline{}); c.Unfinished == 0 || c.Unfinished != c.Sent {
		t.Errorf("counts are %+v, want all unfinished", c)
	}
}

func TestTimeoutEndsARequest(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	}))
	defer server.Close()
	config := testConfig(strings.TrimPrefix(server.URL, "http://"))
	config.Requests, config.Timeout = 1, 50*time.Millisecond
	g, err := Start(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	<-g.Done()
	if r := g.Wait().Records[0]; r.Err != "timeout" || r.Ended == 0 {
		t.Errorf("record is %+v, want an ended one with a timeout", r)
	}
}

// A GET has no body, and is not sent twice either when its connection breaks.
func TestGetIsNotRepeated(t *testing.T) {
	var seen, bodies atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		bodies.Add(int64(len(body)) + max(r.ContentLength, 0))
		if seen.Add(1)%2 == 0 {
			panic(http.ErrAbortHandler)
		}
	}))
	defer server.Close()
	config := testConfig(strings.TrimPrefix(server.URL, "http://"))
	config.Method, config.Requests, config.Rate = http.MethodGet, 100, 300
	g, err := Start(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	<-g.Done()
	g.Wait()
	if seen.Load() != 100 || bodies.Load() != 0 {
		t.Errorf("the server saw %d requests of 100, %d bytes of bodies", seen.Load(), bodies.Load())
	}
}

func TestStartRefuses(t *testing.T) {
	for name, spoil := range map[string]func(*Config){
		"no bound":  func(c *Config) { c.Requests = 0 },
		"no time":   func(c *Config) { c.For = 0 },
		"rate":      func(c *Config) { c.Rate = MaxRate + 1 },
		"mix":       func(c *Config) { c.Mix = nil },
		"addresses": func(c *Config) { c.Address = "nowhere" },
	} {
		config := testConfig("127.0.0.1:1")
		spoil(&config)
		if _, err := Start(t.Context(), config); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// A session that the service ends is not cut; one that breaks is.
func TestSessionsTellEndFromCut(t *testing.T) {
	for name, c := range map[string]struct {
		script string
		want   func(Sessions) bool
	}{
		"end": {"1\nend\n", func(s Sessions) bool { return s.Ended >= 1 && s.Cut == 0 }},
		"cut": {"1\n2\n", func(s Sessions) bool { return s.Cut >= 1 }},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				_, _ = w.Write([]byte(c.script))
				_ = http.NewResponseController(w).Flush()
				if name == "cut" {
					panic(http.ErrAbortHandler)
				}
			}))
			defer server.Close()
			result := make(chan Sessions, 1)
			var opened atomic.Int64
			counted := func(ctx context.Context, address string) (session, error) {
				if opened.Add(1) > 1 {
					cancel() // the first one is over
				}
				return openStream(ctx, address)
			}
			go func() { result <- hold(ctx, strings.TrimPrefix(server.URL, "http://"), counted) }()
			if got := <-result; !c.want(got) {
				t.Errorf("sessions are %+v", got)
			}
		})
	}
}

func TestHoldEndsItsSessionsInGoodOrder(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	group.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			group.Go(func() {
				defer conn.Close()
				line := make([]byte, 64)
				for {
					if _, err := conn.Read(line); err != nil {
						return
					}
					_, _ = conn.Write([]byte("VALUE\n"))
					cancel()
				}
			})
		}
	})
	sessions, err := Hold(ctx, TCPSession, listener.Addr().String(), 2)
	if err != nil || sessions.Opened == 0 || sessions.Opened != sessions.Ended || sessions.Cut != 0 {
		t.Errorf("sessions are %+v, error %v", sessions, err)
	}
	listener.Close()
	group.Wait()
	if _, err := Hold(ctx, "pigeon", "x", 1); err == nil {
		t.Error("an unknown kind was accepted")
	}
}
