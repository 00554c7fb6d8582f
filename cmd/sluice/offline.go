package main

import (
	sluicev1 "github.com/sluicemesh/sluice/api/sluice/v1"
	"github.com/sluicemesh/sluice/isa"
)

// checkAgainst checks a program against an exported topology.
func checkAgainst(p isa.Program, path string) (*sluicev1.CheckPlanResponse, error) {
	return offline(isa.Validate(p, nil), ""), nil
}
