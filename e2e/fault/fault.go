// Package fault breaks the demo application on purpose: seeded, repeatable, and without
// any channel, file or code shared with the control plane. It is not for judging what
// follows from a fault.
//
// A fault reaches a process in one of two ways: by a signal (crash, hang), or by an
// Order posted to the control port which every process of the application opens on
// loopback and writes, with its pid, into a directory of its own (Dir). Orders live in
// the memory of the process, so a restart of that process cures it; what must outlive
// a restart (poison) lies in Dir as a marker file.
package fault

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// Kind is a kind of fault.
type Kind string

// Kinds of fault.
const (
	Crash       Kind = "crash"        // the process is killed
	Hang        Kind = "hang"         // the process is stopped: it accepts and never answers
	Latency     Kind = "latency"      // every answer is late
	Errors      Kind = "errors"       // a share of the answers are errors
	Leak        Kind = "leak"         // later and later, until restarted
	Poison      Kind = "poison"       // a store answers garbage; store and user must be restarted, in this order
	BadInstance Kind = "bad-instance" // errors at one instance of several
	RetryStorm  Kind = "retry-storm"  // a short overload that unbounded retries keep alive
)

// Kinds lists every kind, in the order of the documentation.
func Kinds() []Kind {
	return []Kind{Poison, Crash, Hang, Latency, Errors, Leak, BadInstance, RetryStorm}
}

// What an Order makes a process do.
const (
	DoDelay    = "delay"    // wait Delay before the work
	DoFail     = "fail"     // answer Share of the requests with an error
	DoLeak     = "leak"     // wait Delay more with each second since the order
	DoBlock    = "block"    // never answer
	DoGarbage  = "garbage"  // a store: garbage for everyone with a session
	DoStrict   = "strict"   // a user of a store: have sessions checked
	DoOverload = "overload" // Limit requests at once, Delay each, the queue is never shed
	DoRetry    = "retry"    // a caller: per attempt Delay, then again, Limit times
)

// Order is what is posted to one process.
type Order struct {
	ID    string        `json:"id"` // of the fault; responses that it causes carry it
	Do    string        `json:"do"`
	Share float64       `json:"share,omitempty"` // of requests, 0..1
	Delay time.Duration `json:"delay,omitempty"` // nanoseconds
	Limit int           `json:"limit,omitempty"`
	For   time.Duration `json:"for,omitempty"` // of the trigger; nanoseconds
}

// Target is what a fault may be done to.
type Target struct {
	Service   string
	Instances int      // of Service
	Store     string   // for Poison
	Callers   []string // for RetryStorm
}

// Blow is one order or signal to one service.
type Blow struct {
	Service  string
	Instance string // "" = every instance
	Signal   string // "KILL", "STOP" or "" for the order
	Order    Order
}

// Marker tells a process that starts while the poison is in force that it must have
// its sessions checked.
type Marker struct {
	ID      string `json:"id"`
	Service string `json:"service"`
}

// Fault is a chosen fault: what will be done, and where.
type Fault struct {
	ID       string
	Kind     Kind
	Service  string // the culprit: what a perfect operator would restart last
	Instance string // the culprit instance, "" = all
	Silent   bool   // no process answers for Service while it lasts
	Blows    []Blow // in order
	Marker   *Marker
}

// Choose derives the fault of a kind at a target from seed alone: equal arguments,
// equal fault. Sizes vary with the seed by a quarter or so, never the kind of effect.
func Choose(kind Kind, target Target, seed uint64) (Fault, error) {
	if target.Service == "" {
		return Fault{}, fmt.Errorf("fault %s: no service to break", kind)
	}
	if !slices.Contains(Kinds(), kind) {
		return Fault{}, fmt.Errorf("fault %q: want one of %v", kind, Kinds())
	}
	if kind == Poison && target.Store == "" {
		return Fault{}, errors.New("fault poison: no store to poison")
	}
	rng := rand.New(rand.NewPCG(seed, 0x51CE))
	f := Fault{ID: fmt.Sprintf("%s-%d", kind, seed), Kind: kind, Service: target.Service}
	f.Silent = kind == Crash || kind == Hang
	if kind == BadInstance || (f.Silent && target.Instances > 1) {
		f.Instance = instanceName(target.Service, rng.IntN(max(target.Instances, 1)))
	}
	f.Blows = blows(f, target, rng)
	if kind == Poison {
		f.Marker = &Marker{ID: f.ID, Service: target.Service}
	}
	return f, nil
}

// blows lists what f does.
func blows(f Fault, target Target, rng *rand.Rand) []Blow {
	order := func(o Order) []Blow {
		o.ID = f.ID
		return []Blow{{Service: target.Service, Instance: f.Instance, Order: o}}
	}
	vary := func(d time.Duration) time.Duration {
		return d + time.Duration(rng.Int64N(int64(d)/2+1)) - d/4
	}
	switch f.Kind {
	case Crash:
		return []Blow{{Service: target.Service, Instance: f.Instance, Signal: "KILL"}}
	case Hang:
		return []Blow{{Service: target.Service, Instance: f.Instance, Signal: "STOP"}}
	case Latency:
		return order(Order{Do: DoDelay, Delay: vary(1200 * time.Millisecond)})
	case Errors:
		return order(Order{Do: DoFail, Share: 0.4 + 0.4*rng.Float64()})
	case Leak:
		return order(Order{Do: DoLeak, Delay: vary(120 * time.Millisecond)})
	case BadInstance:
		return order(Order{Do: DoFail, Share: 0.6 + 0.3*rng.Float64()})
	case Poison:
		return []Blow{
			{Service: target.Service, Order: Order{ID: f.ID, Do: DoStrict}},
			{Service: target.Store, Order: Order{ID: f.ID, Do: DoGarbage}},
		}
	case RetryStorm:
		return storm(f.ID, target, vary)
	}
	return nil
}

// storm takes away capacity for a moment; callers that try again at once, for ever and
// without a budget keep the queue longer than their patience.
func storm(id string, target Target, vary func(time.Duration) time.Duration) []Blow {
	var list []Blow
	for _, caller := range target.Callers {
		order := Order{ID: id, Do: DoRetry, Delay: 100 * time.Millisecond, Limit: 4}
		list = append(list, Blow{Service: caller, Order: order})
	}
	order := Order{ID: id, Do: DoOverload, Limit: 4, Delay: 12 * time.Millisecond, For: vary(2 * time.Second)}
	return append(list, Blow{Service: target.Service, Order: order})
}

// instanceName is the name of the n-th instance of a service, as the application's
// processes are told it: the last part of the service's name and the number.
func instanceName(service string, n int) string {
	for i := len(service) - 1; i >= 0; i-- {
		if service[i] == '/' {
			service = service[i+1:]
			break
		}
	}
	return fmt.Sprintf("%s-%d", service, n)
}
