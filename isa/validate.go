package isa

// Validate is the static type checker.
func Validate(p Program, env *Env) []Fault { return nil }

// ValidateExpanded is Validate for what Expand returned: up to MaxExpandedSteps.
func ValidateExpanded(p Program, env *Env) []Fault { return nil }
