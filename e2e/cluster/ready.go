package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/sluicemesh/sluice/mesh/envoy"
)

// World is a cluster with the programs and images of the project in it.
type World struct {
	Cluster  *Cluster
	Programs Programs
	Unlock   func() // gives the machine's lock back, after Down or Keep
}

// Ready builds the project's programs, brings a cluster up and gives it the images.
func Ready(ctx context.Context, cache string, progress io.Writer) (*World, error) {
	if err := Able(); err != nil {
		return nil, err
	}
	proxy, err := envoy.Find(ctx, cache, progress)
	if err != nil {
		return nil, err
	}
	netinit, err := Netinit(cache)
	if err != nil {
		return nil, err
	}
	programs, err := BuildPrograms(ctx, cache, progress, PausePackage, NamesPackage, appPackage, loadPackage,
		operatorPackage, "cmd/sluice")
	if err != nil {
		return nil, err
	}
	c, unlock, err := Up(ctx, Options{Cache: cache, Programs: programs, Progress: progress})
	if err != nil {
		return nil, err
	}
	for _, image := range []Image{programs.App(), programs.Load(), programs.Operator(), Envoy(proxy.Path), netinit} {
		if err := c.Import(ctx, image); err != nil {
			err = fmt.Errorf("images: %w", err)
			defer unlock()
			return nil, errors.Join(err, c.Down(context.WithoutCancel(ctx)))
		}
	}
	return &World{Cluster: c, Programs: programs, Unlock: unlock}, nil
}
