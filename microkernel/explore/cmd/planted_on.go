//go:build planted

package main

import (
	"fmt"
	"io"

	"github.com/sluicemesh/sluice/microkernel/explore"
)

// hunt prints which planted bug, or only one of them, is found in which world, after how
// many states.
func hunt(left explore.Budget, most int, only string, stdout io.Writer) int {
	code := 0
	fmt.Fprintf(stdout, "| planted bug | what it is | meant to break | found by | world | states | moves to it |\n|---|---|---|---|---|---|---|\n")
	for _, bug := range explore.Findable() {
		if only != "" && only != bug.Name {
			continue
		}
		r := explore.Hunt(bug.Name, left, most)
		by := "**not found**"
		if r.Violation != "" {
			by = r.Violation[:2]
		} else {
			code = 1
		}
		fmt.Fprintf(stdout, "| %s | %s | %s | %s | %s | %d | %d |\n", bug.Name, bug.Kind, bug.Breaks, by, r.Setup, r.States, len(r.Path))
	}
	return code
}
