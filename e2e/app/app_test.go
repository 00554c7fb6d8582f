package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/net/websocket"

	"github.com/sluicemesh/sluice/e2e/app/shape"
	"github.com/sluicemesh/sluice/e2e/fault"
)

const testTopology = `
name: test
entry: t/front
mix: [{operation: buy, share: 1}]
pool: {idle: 100ms, lifetime: 1s}
services:
  - name: t/front
    operations:
      buy:
        - parallel: [{to: t/cart, op: add}, {to: t/price, op: get, via: grpc}]
      stream: [{to: t/price, op: watch, via: stream}]
  - {name: t/cart, session: t/cache, readsOnce: [t/cache], operations: {add: [{to: t/cache, op: get}]}}
  - {name: t/price, operations: {get: [], watch: []}}
  - {name: t/cache, kind: store}
`

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// running is a set of services in this process, each at a port of its own.
type running struct {
	t        *testing.T
	dir      fault.Dir
	topology *shape.Topology
	ports    map[string]int
	stops    map[string]func()
}

// start runs the whole test topology.
func start(t *testing.T) *running {
	t.Helper()
	topology, err := shape.Parse([]byte(testTopology))
	if err != nil {
		t.Fatal(err)
	}
	r := &running{t: t, dir: fault.Dir(t.TempDir()), topology: &topology,
		ports: map[string]int{}, stops: map[string]func(){}}
	services := []string{"t/cache", "t/price", "t/cart", "t/front"}
	last := 10000 + os.Getpid()*13%9000
	for _, name := range services {
		last = freePort(t, last)
		r.ports[name] = last
	}
	for _, name := range services {
		r.up(name)
	}
	t.Cleanup(func() {
		for _, stop := range r.stops {
			stop()
		}
	})
	return r
}

// up starts one service and waits until it listens.
func (r *running) up(name string) {
	r.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	env := func(key string) string {
		for service, port := range r.ports {
			if key == shape.EnvName(service) {
				return "127.0.0.1:" + strconv.Itoa(port)
			}
		}
		return map[string]string{fault.EnvDir: string(r.dir), "SLUICE_INSTANCE": filepath.Base(name) + "-0",
			"OTEL_EXPORTER_OTLP_ENDPOINT": os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT")}[key]
	}
	go func() {
		log := slog.New(slog.DiscardHandler)
		ended <- run(ctx, log, r.topology, settings{Service: name, Port: r.ports[name], Env: env})
	}()
	r.stops[name] = func() {
		cancel()
		if err := <-ended; err != nil {
			r.t.Errorf("%s ended with %v", name, err)
		}
		delete(r.stops, name)
	}
	poll(r.t, name+" listens", func() bool {
		conn, err := net.Dial("tcp", "127.0.0.1:"+strconv.Itoa(r.ports[name]))
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
}

// restart stops and starts one service.
func (r *running) restart(name string) {
	r.t.Helper()
	r.stops[name]()
	r.up(name)
}

// buy sends one request to the entry.
func (r *running) buy(key string) outcome {
	r.t.Helper()
	p, err := newPeer("t/front", "127.0.0.1:"+strconv.Itoa(r.ports["t/front"]))
	if err != nil {
		r.t.Fatal(err)
	}
	defer p.close()
	return p.post(r.t.Context(), "buy", key)
}

// inject does a fault by blows.
func (r *running) inject(marker bool, blows ...fault.Blow) {
	r.t.Helper()
	f := fault.Fault{ID: "f-1", Blows: blows}
	if marker {
		f.Marker = &fault.Marker{ID: f.ID, Service: "t/cart"}
	}
	for i := range f.Blows {
		f.Blows[i].Order.ID = f.ID
	}
	if err := r.dir.Inject(r.t.Context(), f); err != nil {
		r.t.Fatal(err)
	}
}

func (r *running) want(what string, got, want outcome) {
	r.t.Helper()
	if got != want {
		r.t.Errorf("%s: got %+v, want %+v", what, got, want)
	}
}

var (
	testFault  = outcome{status: http.StatusBadGateway, fault: "f-1"}
	cartIsDown = outcome{status: http.StatusServiceUnavailable, failedAt: "t/cart"}
)

func TestFailuresCarryTheirMarksToTheClient(t *testing.T) {
	r := start(t)
	r.want("healthy", r.buy("1"), succeeded)
	r.inject(false, fault.Blow{Service: "t/price", Order: fault.Order{Do: fault.DoFail, Share: 1}})
	r.want("error behind gRPC", r.buy("2"), testFault)
	r.restart("t/price")
	r.want("a restart cures errors", r.buy("3"), succeeded)
	r.stops["t/cart"]()
	r.want("no process", r.buy("4"), cartIsDown)
	r.up("t/cart")
	r.want("process back", r.buy("5"), succeeded)
	r.stops["t/cache"]()
	r.want("no store", r.buy("6"), outcome{status: http.StatusServiceUnavailable, failedAt: "t/cache"})
	r.up("t/cache")
	r.want("a store that forgot is fine without poison", r.buy("7"), succeeded)
}

func TestShareOfErrorsIsRepeatable(t *testing.T) {
	hit := 0
	for i := range 1000 {
		key := strconv.Itoa(i)
		first, again := chosen(key, "f-1", 0.3), chosen(key, "f-1", 0.3)
		if first != again {
			t.Fatal("a key is chosen once and not again")
		}
		if first {
			hit++
		}
	}
	if hit < 250 || hit > 350 {
		t.Errorf("%d of 1000 keys chosen, want about 300", hit)
	}
}

// Only store first, user second helps: the user alone finds garbage again, the store
// alone does not know the user's session, and so does the wrong order.
func TestPoisonNeedsTheOrderedRestart(t *testing.T) {
	for _, c := range []struct {
		restarts []string
		want     outcome
	}{
		{nil, testFault},
		{[]string{"t/cart"}, testFault},
		{[]string{"t/cache"}, testFault},
		{[]string{"t/cart", "t/cache"}, testFault},
		{[]string{"t/cache", "t/cart"}, succeeded},
	} {
		t.Run(strings.ReplaceAll(strings.Join(c.restarts, " then "), "/", "."), func(t *testing.T) {
			r := start(t)
			r.inject(true, fault.Blow{Service: "t/cart", Order: fault.Order{Do: fault.DoStrict}},
				fault.Blow{Service: "t/cache", Order: fault.Order{Do: fault.DoGarbage}})
			for _, name := range c.restarts {
				r.restart(name)
			}
			r.want("after", r.buy("1"), c.want)
		})
	}
}

func TestLateAnswersSucceedAndAreMarked(t *testing.T) {
	r := start(t)
	r.inject(false, fault.Blow{Service: "t/price", Order: fault.Order{Do: fault.DoDelay, Delay: 30 * time.Millisecond}})
	began := time.Now()
	r.want("late", r.buy("1"), outcome{status: http.StatusOK, fault: "f-1"})
	if took := time.Since(began); took < 30*time.Millisecond {
		t.Errorf("answered after %s, want at least 30ms", took)
	}
}

// A short overload under unbounded retries goes on by itself; a restart ends it.
func TestRetryStormOutlivesItsTrigger(t *testing.T) {
	r := start(t)
	r.inject(false,
		fault.Blow{Service: "t/front", Order: fault.Order{Do: fault.DoRetry, Delay: 20 * time.Millisecond, Limit: 2}},
		fault.Blow{Service: "t/price", Order: fault.Order{Do: fault.DoOverload, Limit: 1, Delay: 15 * time.Millisecond}})
	results := make(chan outcome)
	for i := range 20 {
		go func() { results <- r.buy(strconv.Itoa(i)) }()
	}
	failed := 0
	for range 20 {
		if o := <-results; o.failed() {
			failed++
			if o.fault != "f-1" {
				t.Errorf("a failure of the storm is %+v, want the mark f-1", o)
			}
		}
	}
	if failed == 0 {
		t.Error("20 requests at once for capacity 1 all met their 20 ms")
	}
	r.restart("t/price")
	r.want("after the restart", r.buy("x"), succeeded)
}

// The end of a process ends its streams in good order, not by a cut.
func TestStreamsEndInGoodOrder(t *testing.T) {
	r := start(t)
	base := "127.0.0.1:" + strconv.Itoa(r.ports["t/front"])
	response, err := http.Get("http://" + base + "/stream")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	lines := bufio.NewReader(response.Body)
	if line, err := lines.ReadString('\n'); err != nil || line != "1\n" {
		t.Fatalf("first line of the stream is %q, %v", line, err)
	}
	conn, err := websocket.Dial("ws://"+base+"/ws", "", "http://"+base)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var text string
	if err := websocket.Message.Send(conn, "hello"); err != nil {
		t.Fatal(err)
	}
	if err := websocket.Message.Receive(conn, &text); err != nil || text != "hello" {
		t.Fatalf("echo is %q, %v", text, err)
	}
	r.stops["t/price"]()
	rest, err := io.ReadAll(lines)
	if err != nil || !strings.HasSuffix(string(rest), "end\n") {
		t.Errorf("the stream went on with %q, %v; want it to end", rest, err)
	}
	r.stops["t/front"]()
	if err := websocket.Message.Receive(conn, &text); err != nil || text != "end" {
		t.Errorf("last message is %q, %v; want end", text, err)
	}
}

func TestOrdersAreChecked(t *testing.T) {
	f := newFaults(time.Now)
	for _, order := range []fault.Order{
		{Do: fault.DoFail}, {ID: "f", Do: "explode"}, {ID: "f", Do: fault.DoDelay, Delay: time.Hour},
	} {
		if f.obey(order) == nil {
			t.Errorf("order %+v was taken", order)
		}
	}
}

func TestStoreRefusesWhatItDoesNotKnow(t *testing.T) {
	s := newStore(&shape.Service{}, newFaults(time.Now))
	for question, want := range map[string]string{
		"GET - k": "VALUE of-k", "GET old k": "VALUE of-k", "GET !old k": "DENIED", "SET - k": "OK",
		"DROP - k": "ERROR want SESSION, GET or SET", "": "ERROR want SESSION, GET or SET",
	} {
		if got := s.answer(t.Context(), question); got != want {
			t.Errorf("%q is answered %q, want %q", question, got, want)
		}
	}
}

// freePort returns a port that was free a moment ago, below those that the system
// hands to outgoing connections: nobody takes it while its service restarts.
func freePort(t *testing.T, after int) int {
	t.Helper()
	for port := after + 1; port < 20000; port++ {
		listener, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port))
		if err == nil {
			listener.Close()
			return port
		}
	}
	t.Fatal("no free port below 20000")
	return 0
}

// poll waits until ready says yes, at most 10 s.
func poll(t *testing.T, what string, ready func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for !ready() {
		if pause(ctx, 5*time.Millisecond) != nil {
			t.Fatal(fmt.Errorf("%s: not within 10 s", what))
		}
	}
}
