// Package harm judges from one-second statistics whether a plan hurt a service. It is
// pure: it reads no clock and knows no plan's effects; the driver feeds it ticks and
// hands its verdict to the core. It is not for noticing symptoms (topology/symptom).
//
// Two judges look at each service, in each second of a watch:
//
//	breach   the label of record: windowed p99 > max(objective, 1.1 x baseline), or
//	         errors > max(objective, 1.1 x baseline), with >= 100 requests in the window
//	         (5 s, widened up to 30 s until it has them); where there is no objective,
//	         at least 50 ms, or 1 %, above the baseline. A service that was healthy
//	         before is harmed when that lasts > 30 s after 5 s of grace; one that was
//	         broken before, when it is > 10 % worse than it was for as long.
//	trigger  a bank of sequential tests that speak much earlier on strong harm: of the
//	         share of failed requests, of the share that is slower than the baseline's
//	         p99, and of the rank of all latencies among those of the baseline
//	         (topology/sequential). Their false alarms over all services of a plan are
//	         bounded together. They say that something is different; it must also be
//	         large: the window in breach, without an objective by a p99 that has doubled.
//	         Latency counts only where no disturbance is expected, and beyond the factor
//	         by which services that the plan cannot have hurt got slower; neither counts
//	         for one that was broken.
//
//	begin --grace 5 s--> watch --a trigger, or breach > 30 s--> harm
//	                     |
//	                     +--to the end--> clean | inconclusive | not-recovered (broken before)
package harm
