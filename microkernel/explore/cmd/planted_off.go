//go:build !planted

package main

import (
	"fmt"
	"io"

	"github.com/sluicemesh/sluice/microkernel/explore"
)

// hunt is in the build tag planted only.
func hunt(_ explore.Budget, _ int, _ string, stdout io.Writer) int {
	fmt.Fprintln(stdout, "no bug is planted in this build; run it with: go run -tags planted ./microkernel/explore/cmd -planted")
	return 2
}
