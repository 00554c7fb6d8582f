// Command topologies writes the mesh file of a topology: the application's services as
// processes of the app binary, each told the addresses of its upstreams. It is not for
// starting them.
package main

import (
	"flag"
	"fmt"
	"os"

	"github.com/sluicemesh/sluice/e2e/topologies/meshfile"
)

func main() {
	topology := flag.String("topology", "hotel", "`NAME` of a topology of this repository, or a topology file")
	app := flag.String("app", "bin/e2e-app", "`PATH` of the application's binary")
	faults := flag.String("faults", "", "`DIR` in which processes announce themselves to faults (default: none)")
	out := flag.String("out", "", "mesh `FILE` to write")
	flag.Parse()
	if *out == "" || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	if _, err := meshfile.Write(meshfile.Settings{Topology: *topology, App: *app, Faults: *faults, Out: *out}); err != nil {
		fmt.Fprintln(os.Stderr, "topologies:", err)
		os.Exit(2)
	}
}
