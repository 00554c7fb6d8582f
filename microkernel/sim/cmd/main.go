// Command cmd runs the deterministic simulation of the microkernel over many seeds:
//
//	go run ./microkernel/sim/cmd -seeds 1000 -from 1 -out sim.json
//	go run ./microkernel/sim/cmd -from 17 -replay
package main

import (
	"os"

	"github.com/sluicemesh/sluice/microkernel/sim"
)

func main() { os.Exit(sim.Main(os.Args[1:], os.Stdout)) }
