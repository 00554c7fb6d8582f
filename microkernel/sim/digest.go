package sim

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"

	"github.com/sluicemesh/sluice/microkernel"
)

// digest prints one SHA-256 over every event, effect and last state of the seeds, so that
// a change that should change nothing can be seen to change nothing.
func digest(from uint64, seeds int, stdout io.Writer) int {
	sum := sha256.New()
	for i := range seeds {
		r := newRun(from+uint64(i), Options{Events: leastEvents, Trace: sum})
		r.play()
		fmt.Fprintf(sum, "seed %d: %d events, %v, %s\n", r.seed, r.events, r.violations, microkernel.Hash(r.state))
	}
	fmt.Fprintf(stdout, "seeds %d to %d: sha256 %s\n", from, from+uint64(seeds)-1, hex.EncodeToString(sum.Sum(nil)))
	return 0
}
