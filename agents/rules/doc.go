// Package rules is the planner that needs no model: from symptoms and their groups to a
// program of the instruction set. It is pure: Decide takes what was observed and what
// is remembered, and returns what to remember and at most one program to propose. It is
// as untrusted as any planner: the microkernel judges what it proposes, and nothing
// here executes.
//
//	symptom ─► settle ─► propose ─► open plan ─► ended ─► grace ─► symptom gone: forget
//	              ▲                                          └──► still there: next rung
//	              └──────────────────────────────────────────────────┘
//
// Rungs of escalation, those that add nothing left out: the culprit's bad instance; the
// culprit's restart set; that of all strong suspects; that of the whole group. Then a
// human.
package rules
