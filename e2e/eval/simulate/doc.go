// Package simulate is the offline evaluation: recoveries on call graphs of which everything
// is known, by those who know only what sampled evidence tells them. It makes graphs and
// recordings, lets the real inference, the real rules and the real kernel propose and judge,
// and hands what they do to package oracle. It is not for live systems, and what it measures
// is only as good as the assumptions in truth.go, which docs/evaluation.md lists.
//
//	Graph ─► truth ─► recording ─► topology ─► rules ─► kernel ─► script ─┐
//	           │                                                          ▼
//	           └─────────────────── everything ──────────────────► oracle.Judge
package simulate
