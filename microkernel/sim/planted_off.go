//go:build !planted

package sim

import (
	"fmt"
	"io"
)

// hunt is in the build tag planted only.
func hunt(_ uint64, _ int, _ string, stdout io.Writer) int {
	fmt.Fprintln(stdout, "no bug is planted in this build; run it with: go run -tags planted ./microkernel/sim/cmd -planted")
	return 2
}
