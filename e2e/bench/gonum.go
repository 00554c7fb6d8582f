package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	"gonum.org/v1/gonum/graph/simple"
	"gonum.org/v1/gonum/graph/topo"

	"github.com/sluicemesh/sluice/topology/generate"
)

// gonumCommand makes this program the reference of graph_rebuild_1m and nothing else: it
// cannot be stopped half way within a process.
const gonumCommand = "gonum-large"

// gonumCap is the processor time after which the reference is stopped: what is then known
// of it is that it needs more.
const gonumCap = 2 * time.Minute

// gonumComponents builds the graph in gonum and returns how many components it has.
func gonumComponents(made *generate.Graph) int {
	g := simple.NewDirectedGraph()
	for v := range made.Services {
		g.AddNode(simple.Node(v))
	}
	for _, e := range made.Edges {
		g.SetEdge(simple.Edge{F: simple.Node(e.Caller), T: simple.Node(e.Callee)})
	}
	return len(topo.TarjanSCC(g))
}

// gonumLarge is gonumComponents of the graph of graph_rebuild_1m.
func gonumLarge() {
	g := simple.NewDirectedGraph()
	for v := range largeServices {
		g.AddNode(simple.Node(v))
	}
	generate.Large(1, largeServices, largeEdges, func(caller, callee int32) {
		if caller != callee { // gonum has no such edge
			g.SetEdge(simple.Edge{F: simple.Node(caller), T: simple.Node(callee)})
		}
	})
	fmt.Println(len(topo.TarjanSCC(g)))
}

// timeGonumLarge runs gonumLarge in a process of its own, once, and returns the processor
// time that it took, and whether it was stopped at gonumCap.
func timeGonumLarge(ctx context.Context) (took time.Duration, stopped bool, err error) {
	self, err := os.Executable()
	if err != nil {
		return 0, false, fmt.Errorf("gonum: %w", err)
	}
	bounded, cancel := context.WithTimeout(ctx, gonumCap) // of the wall, which is never more
	defer cancel()
	command := exec.CommandContext(bounded, self, gonumCommand)
	command.Env = append(os.Environ(), "GOMAXPROCS=1")
	command.Stderr = os.Stderr
	err = command.Run()
	if command.ProcessState != nil {
		took = command.ProcessState.UserTime() + command.ProcessState.SystemTime()
	}
	if ctx.Err() == nil && errors.Is(bounded.Err(), context.DeadlineExceeded) {
		return took, true, nil
	}
	if err != nil {
		return took, false, fmt.Errorf("gonum: %w", err)
	}
	return took, false, nil
}
