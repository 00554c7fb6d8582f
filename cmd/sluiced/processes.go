package main

import (
	"context"
	"errors"

	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/mesh/local"
	"github.com/sluicemesh/sluice/microkernel/driver"
	"github.com/sluicemesh/sluice/topology/feed"
)

// processes is the driver's port to the supervisor.
type processes struct {
	client *local.Client
	feed   *feed.Feed
}

// Restart implements driver.Processes.
func (p processes) Restart(ctx context.Context, ref mesh.Ref, mode isa.Mode) (mesh.Instance, error) {
	instance, err := p.client.Restart(ctx, ref, string(mode))
	if refused := (*local.RefusedError)(nil); errors.As(err, &refused) {
		return instance, &driver.Refused{Reason: refused.Reason}
	}
	return instance, err
}

// World implements driver.Processes.
func (p processes) World() *mesh.World { return p.feed.World() }
