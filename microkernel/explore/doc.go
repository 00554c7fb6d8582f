// Package explore visits every state that the microkernel and a small world around it can
// reach: two plans, three services, two proxies, faults and crashes within a budget. It is
// not a model of the kernel, it steps the kernel itself; and it is not for long runs or
// many services, which package sim draws at random.
//
//	state --move--> state       a move is one thing that may happen next:
//	  proposal, ACK or NACK of a proxy, end of a request, answer or loss of an answer,
//	  proof, restart done or failed, timer, abort, approval, harm, lease over,
//	  crash before the event is durable, after it, and after each of its effects
//
// States that differ in bookkeeping only are one (microkernel.Likeness). The invariants
// are evaluated in every state and at every effect; at the end, progress is decided on
// the whole graph: from every state, moves without further trouble lead to one in which
// every plan has ended and no overlay is left.
package explore
