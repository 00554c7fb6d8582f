//go:build planted

package sim

import (
	"fmt"
	"io"

	"github.com/sluicemesh/sluice/microkernel"
)

// hunt plants one bug after the other and runs seeds until an invariant finds it, and
// prints a table. It returns 1 if one of them is not found within limit seeds.
func hunt(from uint64, limit int, only string, stdout io.Writer) int {
	code := 0
	fmt.Fprintf(stdout, "| planted bug | what it is | meant to break | found by | seeds |\n|---|---|---|---|---|\n")
	for _, bug := range microkernel.Bugs() {
		if only != "" && bug.Name != only {
			continue
		}
		microkernel.Plant(bug.Name)
		by, seeds := find(from, limit)
		microkernel.Plant("")
		if by == "" {
			code = 1
			by = "**not found**"
		}
		fmt.Fprintf(stdout, "| %s | %s | %s | %s | %d |\n", bug.Name, bug.Kind, bug.Breaks, by, seeds)
	}
	return code
}

// find returns the invariant that the first failing seed broke, and how many seeds that took.
func find(from uint64, limit int) (string, int) {
	for n := range limit {
		if result := Run(from+uint64(n), Options{}); len(result.Violations) > 0 {
			return result.Violations[0].Invariant[:2], n + 1
		}
	}
	return "", limit
}
