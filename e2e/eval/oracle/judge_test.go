package oracle

import (
	"fmt"
	"slices"
	"testing"
)

// The graphs of these tests are small enough to see who is harmed.
//
//	0 user ─► 1 shop ─► 2 cart ─► 3 store      4 search ─► 3 store      5 ⇄ 6
const (
	user = iota
	shop
	cart
	stock
	search
	left
	right
)

func hand(change func(*[]Service, *[]Call)) *World {
	services := make([]Service, 7)
	for i := range services {
		services[i] = Service{Instances: 2, Needed: 1, Surge: true, Finishes: true, Startup: 3, Patience: 15}
	}
	calls := []Call{
		{Caller: user, Callee: shop}, {Caller: shop, Callee: cart}, {Caller: cart, Callee: stock},
		{Caller: search, Callee: stock}, {Caller: left, Callee: right}, {Caller: right, Callee: left},
	}
	if change != nil {
		change(&services, &calls)
	}
	return NewWorld(services, calls)
}

func sticky(caller, callee int32) func(*[]Service, *[]Call) {
	return func(_ *[]Service, calls *[]Call) {
		for i := range *calls {
			if c := &(*calls)[i]; c.Caller == caller && c.Callee == callee {
				c.Sticky = true
			}
		}
	}
}

// held drains services in turn, restarts them and gives them back callees first.
func held(services ...int32) []Act {
	var acts []Act
	for _, v := range services {
		acts = append(acts, Act{Kind: TakeOff, Service: v, Empty: Hold, Deadline: 30})
	}
	for i := len(services) - 1; i >= 0; i-- {
		acts = append(acts, Act{Kind: Reboot, Service: services[i], Gated: true}, Act{Kind: GiveBack, Service: services[i]})
	}
	return acts
}

func rolling(v int32, instances int) []Act {
	var acts []Act
	for i := range instances {
		one := []int{i}
		acts = append(acts, Act{Kind: TakeOff, Service: v, Instances: one, Deadline: 30},
			Act{Kind: Reboot, Service: v, Instances: one, Gated: true}, Act{Kind: GiveBack, Service: v, Instances: one})
	}
	return acts
}

func TestJudge(t *testing.T) {
	grey := func(v int32) Fault { return Fault{Service: v, Share: 0.5} }
	alone := func(s *[]Service, _ *[]Call) {
		(*s)[stock] = Service{Instances: 1, Needed: 1, Startup: 3, Patience: 15}
	}
	tests := []struct {
		name    string
		change  func(*[]Service, *[]Call)
		fault   Fault
		acts    []Act
		watched bool
		harmed  []int32
		why     []Why
		lasting bool
		cured   bool
		aborted bool
	}{
		{name: "drained, proved, restarted, given back", fault: grey(stock), acts: held(stock), cured: true},
		{name: "instance after instance", fault: grey(stock), acts: rolling(stock, 2), cured: true},
		{name: "one instance of two is no cure", fault: grey(stock), acts: rolling(stock, 1)},
		{
			name: "a store stops under its callers", change: alone, fault: grey(stock), acts: []Act{{Kind: Reboot, Service: stock}},
			harmed: []int32{user, shop, cart, stock, search}, why: []Why{InFlight, Gap}, cured: true,
		},
		{
			name: "nothing is lost of a service that fails every request", change: alone, fault: Fault{stock, 1},
			acts: []Act{{Kind: Reboot, Service: stock}}, cured: true,
		},
		{name: "a rollout with surge loses nothing", fault: grey(stock), acts: []Act{{Kind: Rollout, Service: stock}}, cured: true},
		{
			name: "a rollout of a lone store leaves a gap", change: alone, fault: grey(stock), acts: []Act{{Kind: Rollout, Service: stock}},
			harmed: []int32{user, shop, cart, stock, search}, why: []Why{InFlight, Gap}, cured: true,
		},
		{
			name: "a restart that does not wait for the proof", fault: grey(stock),
			change: func(s *[]Service, _ *[]Call) { (*s)[stock].Finishes = false },
			acts:   []Act{{Kind: TakeOff, Service: stock, Empty: Hold, Deadline: 30}, {Kind: Reboot, Service: stock}, {Kind: GiveBack, Service: stock}},
			harmed: []int32{user, shop, cart, stock, search}, why: []Why{InFlight}, cured: true,
		},
		{
			name: "a sticky caller that is not restarted stays broken", change: sticky(cart, stock), fault: grey(stock), acts: held(stock),
			harmed: []int32{user, shop, cart}, why: []Why{Sticky}, lasting: true,
		},
		{name: "a sticky caller that is", change: sticky(cart, stock), fault: grey(stock), acts: held(cart, stock), cured: true},
		{
			name: "a sticky caller that restarts before its callee", change: sticky(cart, stock), fault: grey(stock),
			acts:   []Act{{Kind: Rollout, Service: cart}, {Kind: Rollout, Service: stock}},
			harmed: []int32{user, shop, cart}, why: []Why{Sticky}, lasting: true,
		},
		{
			name: "raw commands in the right order: broken in between", change: sticky(cart, stock), fault: grey(stock),
			acts:   []Act{{Kind: Rollout, Service: stock}, {Kind: Rollout, Service: cart}},
			harmed: []int32{user, shop, cart}, why: []Why{Sticky}, cured: true,
		},
		{
			name: "all at once ends in the worst order", change: sticky(cart, stock), fault: grey(stock),
			acts:   []Act{{Kind: Rollout, Service: stock}, {Kind: Rollout, Service: cart, Together: true}},
			harmed: []int32{user, shop, cart}, why: []Why{Sticky}, lasting: true,
		},
		{name: "one of a ring", fault: grey(left), acts: held(left), harmed: []int32{left, right}, why: []Why{Component}, lasting: true, cured: true},
		{name: "the ring", fault: grey(left), acts: []Act{
			{Kind: TakeOff, Service: left, Empty: Hold, Deadline: 30}, {Kind: TakeOff, Service: right, Empty: Hold, Deadline: 30},
			{Kind: Reboot, Service: right, Gated: true}, {Kind: Reboot, Service: left, Gated: true},
			{Kind: GiveBack, Service: left}, {Kind: GiveBack, Service: right},
		}, cured: true},
		{
			name: "a sticky call within a ring, against the order", change: sticky(right, left), fault: grey(left), acts: []Act{
				{Kind: TakeOff, Service: left, Empty: Hold, Deadline: 30}, {Kind: TakeOff, Service: right, Empty: Hold, Deadline: 30},
				{Kind: Reboot, Service: right, Gated: true}, {Kind: Reboot, Service: left, Gated: true},
				{Kind: GiveBack, Service: left}, {Kind: GiveBack, Service: right},
			}, harmed: []int32{left, right}, why: []Why{Sticky}, lasting: true,
		},
		{
			name: "a callee that is held first never lets its caller get empty", fault: grey(stock), acts: held(stock, cart),
			harmed: []int32{user, shop, cart, stock, search}, why: []Why{Held}, aborted: true,
		},
		{
			name: "a caller that starts while its callee is off", fault: grey(stock), acts: []Act{
				{Kind: TakeOff, Service: cart, Empty: Hold, Deadline: 30}, {Kind: TakeOff, Service: stock, Empty: Hold, Deadline: 30},
				{Kind: Reboot, Service: cart, Gated: true}, {Kind: GiveBack, Service: cart},
			}, harmed: []int32{user, shop, cart}, why: []Why{Order}, lasting: true, aborted: true,
		},
		{
			name: "held for longer than callers wait", fault: grey(stock), acts: held(stock),
			change: func(s *[]Service, _ *[]Call) { (*s)[stock].Startup = 16 },
			harmed: []int32{user, shop, cart, stock, search}, why: []Why{Held}, cured: true,
		},
		{
			name: "a caller past its proxy keeps the gate shut", fault: grey(stock), acts: held(stock), aborted: true,
			change: func(_ *[]Service, c *[]Call) { (*c)[3].Bypass = true },
			harmed: []int32{user, shop, cart, stock, search}, why: []Why{Held},
		},
		{
			name: "the same of one instance of two: nobody notices", fault: grey(stock), acts: rolling(stock, 2), aborted: true,
			change: func(_ *[]Service, c *[]Call) { (*c)[3].Bypass = true },
		},
		{
			name: "too few instances, for long", fault: grey(stock), acts: rolling(stock, 2),
			change: func(s *[]Service, _ *[]Call) { (*s)[stock].Needed, (*s)[stock].Startup = 2, 20 },
			harmed: []int32{user, shop, cart, stock, search}, why: []Why{Overload}, lasting: true, cured: true,
		},
		{
			name: "too few instances, noticed", fault: grey(stock), acts: rolling(stock, 2), watched: true, aborted: true,
			change: func(s *[]Service, _ *[]Call) { (*s)[stock].Needed, (*s)[stock].Startup = 2, 20 },
		},
		{
			name: "too few instances, for a moment", fault: grey(stock), acts: rolling(stock, 2), cured: true,
			change: func(s *[]Service, _ *[]Call) { (*s)[stock].Needed = 2 },
		},
		{
			name: "shed and left", fault: grey(user), acts: []Act{{Kind: TakeOff, Service: cart, Empty: Shed, Deadline: 30, Lasts: 120}},
			harmed: []int32{user, shop, cart}, why: []Why{Refused}, lasting: true,
		},
		{
			name: "shed and left, noticed", fault: grey(user), watched: true,
			acts:   []Act{{Kind: TakeOff, Service: cart, Empty: Shed, Deadline: 30, Lasts: 120}},
			harmed: []int32{user, shop, cart}, why: []Why{Refused},
		},
		{
			name: "held and left", fault: grey(user), acts: []Act{{Kind: TakeOff, Service: cart, Empty: Hold, Deadline: 30, Lasts: 120}},
			harmed: []int32{user, shop, cart}, why: []Why{Held}, lasting: true,
		},
		{
			name: "limited", fault: grey(user), acts: []Act{{Kind: Limit, Service: cart, Share: 0.6, Lasts: 60}},
			harmed: []int32{user, shop, cart}, why: []Why{Refused}, lasting: true,
		},
		{name: "limited to more than the load", fault: grey(user), acts: []Act{{Kind: Limit, Service: cart, Share: 1}}},
		{
			name: "scaled to nothing", fault: grey(user), acts: []Act{{Kind: Scale, Service: search, Replicas: 0}},
			harmed: []int32{search}, why: []Why{Gap}, lasting: true,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := Judge(hand(test.change), test.fault, Script{Acts: test.acts, Watched: test.watched})
			var why []Why
			for _, w := range Whys() {
				if got.Why[w] > 0 {
					why = append(why, w)
				}
			}
			if !slices.Equal(got.Harmed, test.harmed) || !slices.Equal(why, test.why) {
				t.Errorf("harmed %v by %v, want %v by %v", got.Harmed, why, test.harmed, test.why)
			}
			if len(got.Lasting) > 0 != test.lasting || got.Cured != test.cured || got.Aborted != test.aborted {
				t.Errorf("lasting %v, cured %t, aborted %t, want %t, %t, %t",
					got.Lasting, got.Cured, got.Aborted, test.lasting, test.cured, test.aborted)
			}
		})
	}
}

func TestComponents(t *testing.T) {
	w := hand(nil)
	for v, want := range [][]int32{{0}, {1}, {2}, {3}, {4}, {5, 6}, {5, 6}} {
		if got := w.Component(int32(v)); !slices.Equal(got, want) || w.ComponentSize(int32(v)) != len(want) {
			t.Errorf("component of %d is %v, want %v", v, got, want)
		}
	}
	// A chain of rings, 0 ⇄ 1 ─► 2 ⇄ 3 ─► ..., numbered callers first.
	var calls []Call
	for v := int32(0); v < 20; v += 2 {
		calls = append(calls, Call{Caller: v, Callee: v + 1}, Call{Caller: v + 1, Callee: v})
		if v > 0 {
			calls = append(calls, Call{Caller: v - 1, Callee: v})
		}
	}
	w = NewWorld(make([]Service, 20), calls)
	for v := range int32(20) {
		if got := fmt.Sprint(w.Component(v)); got != fmt.Sprint([]int32{v &^ 1, v | 1}) {
			t.Errorf("component of %d is %s", v, got)
		}
		if v > 0 && w.component[v] < w.component[v-1] {
			t.Errorf("%d has a lower number than its caller", v)
		}
	}
}
