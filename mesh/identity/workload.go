package identity

import (
	"context"
	"fmt"
	"time"

	"github.com/spiffe/go-spiffe/v2/workloadapi"
)

// workloadPatience bounds the wait for a SPIFFE agent's first answer.
const workloadPatience = 30 * time.Second

// Workload returns a Source fed by the SPIFFE Workload API at address, as
// "unix:///run/spire/agent.sock": the agent pushes new certificates and authorities. The
// caller closes it.
func Workload(ctx context.Context, address string) (*workloadapi.X509Source, error) {
	if err := workloadapi.ValidateAddress(address); err != nil {
		return nil, fmt.Errorf("workload API %q: %w", address, err)
	}
	bound, cancel := context.WithTimeout(ctx, workloadPatience)
	defer cancel()
	source, err := workloadapi.NewX509Source(bound, workloadapi.WithClientOptions(workloadapi.WithAddr(address)))
	if err != nil {
		return nil, fmt.Errorf("workload API %q: %w", address, err)
	}
	return source, nil
}
