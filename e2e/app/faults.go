package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/sluicemesh/sluice/e2e/fault"
)

// Bounds of an order, so that no fault can take the machine down.
const (
	maxDelay   = 30 * time.Second
	maxLimit   = 1000
	maxQueue   = 4000
	maxBallast = 64 << 20
	maxWait    = 5 * time.Second // in the queue of an overload; well below every caller's timeout
)

// faults are the orders in force in this process. They live and die with it.
type faults struct {
	now     func() time.Time
	mu      sync.Mutex
	orders  map[string]active // by what they do
	ballast []byte            // what a leak has taken
	queued  int               // requests before slots
	slots   chan struct{}     // capacity under DoOverload
	over    chan struct{}     // closed at the end of the process
}

// active is an order and when it came.
type active struct {
	fault.Order
	since time.Time
}

func newFaults(now func() time.Time) *faults {
	return &faults{now: now, orders: map[string]active{}, over: make(chan struct{})}
}

// obey puts an order in force.
func (f *faults) obey(order fault.Order) error {
	if order.ID == "" || len(order.ID) > 64 {
		return errors.New("order without an id")
	}
	if order.Delay < 0 || order.Delay > maxDelay || order.Limit < 0 || order.Limit > maxLimit {
		return fmt.Errorf("order %s: delay at most %s, limit at most %d", order.ID, maxDelay, maxLimit)
	}
	switch order.Do {
	case fault.DoDelay, fault.DoFail, fault.DoLeak, fault.DoBlock,
		fault.DoGarbage, fault.DoStrict, fault.DoOverload, fault.DoRetry:
	default:
		return fmt.Errorf("order %s: %q is not known", order.ID, order.Do)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.orders[order.Do] = active{Order: order, since: f.now()}
	if order.Do == fault.DoOverload {
		f.slots = make(chan struct{}, max(order.Limit, 1))
	}
	return nil
}

// get returns the order that does so, if it is in force.
func (f *faults) get(do string) (active, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	order, ok := f.orders[do]
	return order, ok
}

// meet lets a request meet the faults in force, before its work. It returns the fault
// that touched it ("" = none) and whether the request fails by it.
func (f *faults) meet(ctx context.Context, key string) (id string, failed bool) {
	if order, ok := f.get(fault.DoBlock); ok {
		<-ctx.Done()
		return order.ID, true
	}
	if order, ok := f.get(fault.DoDelay); ok {
		id = order.ID
		_ = pause(ctx, order.Delay)
	}
	if order, ok := f.get(fault.DoLeak); ok {
		id = order.ID
		_ = pause(ctx, f.leak(order))
	}
	if order, ok := f.get(fault.DoOverload); ok {
		return order.ID, !f.queue(order)
	}
	if order, ok := f.get(fault.DoFail); ok && chosen(key, order.ID, order.Share) {
		return order.ID, true
	}
	return id, false
}

// leak takes more memory with each second and returns how much later answers have become.
func (f *faults) leak(order active) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	age := f.now().Sub(order.since).Seconds()
	if want := min(int(age*float64(1<<20)), maxBallast); want > len(f.ballast) {
		f.ballast = append(f.ballast, make([]byte, want-len(f.ballast))...)
	}
	return min(time.Duration(age*float64(order.Delay)), maxDelay)
}

// queue waits for capacity and uses it. Whoever asked may be gone by then: the work is
// done all the same, which is what keeps a retry storm alive. False = queue full or the
// wait too long: the answer then carries the fault's mark, which a timeout would not.
func (f *faults) queue(order active) bool {
	f.mu.Lock()
	if f.queued >= maxQueue {
		f.mu.Unlock()
		return false
	}
	f.queued++
	slots, age := f.slots, f.now().Sub(order.since)
	f.mu.Unlock()
	cost := order.Delay
	if age < order.For {
		cost *= 20
	}
	patience := time.NewTimer(maxWait)
	defer patience.Stop()
	served := false
	select {
	case slots <- struct{}{}:
		time.Sleep(cost)
		<-slots
		served = true
	case <-patience.C:
	case <-f.over:
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.queued--
	return served
}

// chosen picks share of all keys, the same ones in every run.
func chosen(key, salt string, share float64) bool {
	if share >= 1 {
		return true
	}
	hash := fnv.New64a()
	_, _ = io.WriteString(hash, salt+"\x00"+key)
	sum := hash.Sum64()
	sum ^= sum >> 32 // fnv mixes its last bytes little
	sum *= 0x9E3779B97F4A7C15
	return float64(sum>>11)/(1<<53) < share
}

// announce opens the control port and tells the fault directory how to reach this
// process. Without a directory there are no faults. The caller calls stop at the end.
func announce(dir fault.Dir, service, instance string, f *faults) (stop func(), err error) {
	if dir == "" {
		return func() { close(f.over) }, nil
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("control port: %w", err)
	}
	started, err := fault.StartOf(os.Getpid())
	if err != nil {
		listener.Close()
		return nil, err
	}
	server := &http.Server{Handler: f.control(), ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = server.Serve(listener) }()
	p := fault.Process{Service: service, Instance: instance, PID: os.Getpid(), Started: started,
		Control: listener.Addr().String()}
	if err := dir.Register(p); err != nil {
		server.Close()
		return nil, err
	}
	return func() { server.Close(); close(f.over) }, nil
}

// control takes orders.
func (f *faults) control() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /order", func(w http.ResponseWriter, r *http.Request) {
		decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, 4<<10))
		decoder.DisallowUnknownFields()
		var order fault.Order
		err := decoder.Decode(&order)
		if err == nil {
			err = f.obey(order)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	return mux
}
