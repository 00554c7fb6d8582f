package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
)

const (
	pushesWarm  = 2
	pushesSmall = 20 // of each server in each run, 50 streams
)

func linearDelta() planeKind { return planeKind{name: "go-control-plane delta, linear cache"} }
func snapshotDelta() planeKind {
	return planeKind{name: "go-control-plane delta, snapshot cache", snapshot: true}
}
func linearSotw() planeKind {
	return planeKind{name: "go-control-plane SotW, linear cache", sotw: true}
}
func snapshotSotw() planeKind {
	return planeKind{name: "go-control-plane SotW, snapshot cache", sotw: true, snapshot: true}
}

// pushSmall is the time from the change of one endpoint to the last ACK of 50 streams of
// 200 clusters. All servers are up, with their clients, and take turns.
func pushSmall() Bench {
	return Bench{
		Rows: []Row{
			{Name: "push_50x200_delta", Unit: "ms", ReferenceName: "go-control-plane delta, the better of linear and snapshot cache",
				Rule: Ratio, Floor: 2, Reach: 3.3},
			{Name: "push_50x200_sotw", Unit: "ms", ReferenceName: "go-control-plane SotW, a snapshot that resends all 200",
				Rule: Ratio, Floor: 10, Reach: 20},
		},
		Open: openPushSmall,
	}
}

func openPushSmall(ctx context.Context, env *Env) (Measure, error) {
	const streams, clusters = 50, 200
	m, err := newPushMesh(streams, clusters)
	if err != nil {
		return nil, err
	}
	kinds := []planeKind{linearDelta(), snapshotDelta(), snapshotSotw(), linearSotw()}
	var sides []side
	env.Defer(func() error {
		var err error
		for _, s := range sides {
			err = errors.Join(err, s.close())
		}
		return err
	})
	for i := range len(kinds) + 1 {
		dir, err := socketDir(env)
		if err != nil {
			return nil, err
		}
		var s side
		if i == 0 {
			s, err = openOurs(ctx, m, dir, false, m.order)
		} else {
			s, err = openPlane(ctx, m, dir, kinds[i-1])
		}
		if err != nil {
			return nil, err
		}
		sides = append(sides, s)
		if _, err := pushes(ctx, s, streams, pushesWarm); err != nil {
			return nil, err
		}
	}
	run := 0
	return func(ctx context.Context) ([]Pair, error) {
		run++
		times := make([]pushTimes, len(sides))
		for n := range sides {
			i := n
			if run%2 == 0 {
				i = len(sides) - 1 - n
			}
			var err error
			if times[i], err = pushes(ctx, sides[i], streams, pushesSmall); err != nil {
				return nil, err
			}
		}
		env.Note("ours: last ACK %.2f ms, %.0f us of the server a stream", times[0].median(), times[0].cpu)
		for i, kind := range kinds {
			env.Note("%s: last ACK %.2f ms, %.0f us of the server a stream", kind.name, times[i+1].median(), times[i+1].cpu)
		}
		best := min(times[1].median(), times[2].median())
		return []Pair{
			{Ours: times[0].median(), Reference: best},
			{Ours: times[0].median(), Reference: times[3].median()},
		}, nil
	}, nil
}

// socketDir makes a directory with a path that is short enough for a Unix socket.
func socketDir(env *Env) (string, error) {
	dir, err := os.MkdirTemp("/tmp", "bench")
	if err != nil {
		return "", fmt.Errorf("directory of sockets: %w", err)
	}
	env.Defer(func() error { return os.RemoveAll(dir) })
	return dir, nil
}

// pushLarge is the same with many streams of 50 clusters. The servers are up one after
// the other, so that neither pays for the other's memory.
func pushLarge(streams, perRun, runs int, ack float64) Bench {
	const clusters = 50
	name := fmt.Sprintf("push_%dx%d", streams, clusters)
	return Bench{
		Rows: []Row{
			{Name: name + "_cpu", Unit: "us/stream", ReferenceName: linearDelta().name, Rule: Ratio, Floor: 3, Reach: 5},
			{Name: name + "_ack", Unit: "ms", ReferenceName: linearDelta().name, Rule: Ratio, Floor: ack, Reach: ack},
		},
		Runs: runs,
		Open: func(_ context.Context, env *Env) (Measure, error) {
			m, err := newPushMesh(streams, clusters)
			if err != nil {
				return nil, err
			}
			run := 0
			sides := []opener{
				func(ctx context.Context, m *pushMesh, dir string) (side, error) {
					return openOurs(ctx, m, dir, false, m.order)
				},
				func(ctx context.Context, m *pushMesh, dir string) (side, error) {
					return openPlane(ctx, m, dir, linearDelta())
				},
			}
			return func(ctx context.Context) ([]Pair, error) {
				if run++; run == 1 {
					alone, err := pushOnce(ctx, env, m, openBound, perRun)
					if err != nil {
						return nil, err
					}
					env.Note("grpc-go alone: last ACK %.2f ms, %.1f us of the server a stream", alone.median(), alone.cpu)
				}
				var times [2]pushTimes
				for n := range times {
					i := (n + run) % len(times)
					if times[i], err = pushOnce(ctx, env, m, sides[i], perRun); err != nil {
						return nil, err
					}
				}
				return []Pair{
					{Ours: times[0].cpu, Reference: times[1].cpu},
					{Ours: times[0].median(), Reference: times[1].median()},
				}, nil
			}, nil
		},
	}
}

// opener opens a server with its clients.
type opener func(ctx context.Context, m *pushMesh, dir string) (side, error)

// pushOnce opens one server with its clients, makes pushes, and closes it.
func pushOnce(ctx context.Context, env *Env, m *pushMesh, open opener, n int) (pushTimes, error) {
	dir, err := socketDir(env)
	if err != nil {
		return pushTimes{}, err
	}
	debug.FreeOSMemory()
	s, err := open(ctx, m, dir)
	if err != nil {
		return pushTimes{}, err
	}
	streams := len(m.world.Proxies)
	out, err := pushes(ctx, s, streams, pushesWarm)
	if err == nil {
		out, err = pushes(ctx, s, streams, n)
	}
	return out, errors.Join(err, s.close())
}
