// Package isa is the instruction set of recovery: seven actions, the programs made
// of them, their two spellings (compact text and JSON), static checks, expansion
// and inverses. It is pure and uses the standard library and package mesh only;
// YAML and protobuf are in isa/codec. It is not for deciding whether a program may
// run now: that is the microkernel's.
//
// A program is a set of steps ordered by their After lists:
//
//	plan cart-1 epoch sha256:... deadline 120s
//	d1 = drain shop/cart 100% hold deadline 30s lease 60s
//	r1 = restart shop/cart rolling with d1 after d1
//	t1 = restore d1 ramp 10s after r1
//	verify shop/cart for 30s
package isa
