package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"connectrpc.com/connect"

	"github.com/sluicemesh/sluice/api/client"
	sluicev1 "github.com/sluicemesh/sluice/api/sluice/v1"
	"github.com/sluicemesh/sluice/e2e/app/shape"
	"github.com/sluicemesh/sluice/e2e/load"
	"github.com/sluicemesh/sluice/e2e/rig"
	"github.com/sluicemesh/sluice/e2e/topologies/meshfile"
)

// Times of a recording.
const (
	recordWarm  = 30 * time.Second // of load that is not recorded
	recordPart  = 30 * time.Minute // the longest part: what an interruption can cost is less
	recordEvery = 10 * time.Second // between two questions
	recordLag   = 3 * time.Second  // until a second is told
)

type recordSettings struct {
	minutes  int
	topology string
	rps      float64
	seed     uint64
	dir      string
}

// recorder is a mesh under load that is recorded.
type recorder struct {
	recordSettings
	shape shape.Topology
	rig   *rig.Rig
	api   client.Client
}

// record brings the mesh up and records so many minutes of it, in parts.
func (s recordSettings) record(ctx context.Context) (err error) {
	bin, err := rig.Bin("sluice", "sluiced", "sluice-agents", "e2e-app")
	if err != nil {
		return err
	}
	scratch, err := os.MkdirTemp("/tmp", "record") // sockets are in it: the path must be short
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	r := &recorder{recordSettings: s}
	file := filepath.Join(scratch, "mesh.yaml")
	r.shape, err = meshfile.Write(meshfile.Settings{Topology: s.topology, App: filepath.Join(bin, "e2e-app"), Out: file})
	if err != nil {
		return err
	}
	// In Observe nothing acts, whatever the machine does to the mesh.
	r.rig, err = rig.Up(ctx, rig.Settings{Bin: bin, MeshFile: file, State: filepath.Join(scratch, "state"),
		Flags: []string{"--mode", "Observe"}, Progress: io.Discard})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.rig.Down()) }()
	if r.api, err = r.rig.API(ctx); err != nil {
		return err
	}
	for n, left := uint64(0), time.Duration(s.minutes)*time.Minute; left > 0; n, left = n+1, left-recordPart {
		if err := r.part(ctx, s.seed+n, min(left, recordPart)); err != nil {
			return err
		}
	}
	return nil
}

// part puts load on the mesh and records one part. What an interrupted part has counts.
func (r *recorder) part(ctx context.Context, seed uint64, length time.Duration) error {
	within := length + recordWarm + 3*recordEvery
	config := load.Config{Address: r.rig.Ingress(), Entry: r.shape.Entry, Rate: r.rps, Seed: seed, Ramp: 5 * time.Second,
		For: within, Requests: int(2 * r.rps * within.Seconds())}
	for _, part := range r.shape.Mix {
		config.Mix = append(config.Mix, load.Part{Operation: part.Operation, Share: part.Share})
	}
	g, err := load.Start(ctx, config)
	if err != nil {
		return err
	}
	defer g.Wait()
	if err := sleep(ctx, recordWarm); err != nil {
		return err
	}
	began := time.Now()
	h, err := r.header(ctx, seed, began)
	if err != nil {
		return err
	}
	w, err := create(r.dir, h, began)
	if err != nil {
		return err
	}
	err = r.seconds(ctx, w, h, began.Unix(), began.Add(length).Unix())
	if ctx.Err() != nil {
		err = nil // ctx tells
	}
	return errors.Join(err, w.close(), ctx.Err())
}

// header describes the mesh as it is now.
func (r *recorder) header(ctx context.Context, seed uint64, began time.Time) (*header, error) {
	answer, err := r.api.GetTopology(ctx, connect.NewRequest(&sluicev1.GetTopologyRequest{}))
	if err != nil {
		return nil, fmt.Errorf("topology: %w", err)
	}
	h := &header{Schema: schema, Version: version, Commit: commit, Started: began.UTC().Format(time.RFC3339),
		Topology: r.shape.Name, RPS: r.rps, Seed: seed, Cores: runtime.NumCPU()}
	for _, s := range answer.Msg.GetServices() {
		h.Services = append(h.Services, service{s.GetName(), s.GetObjectiveP99Seconds(), s.GetObjectiveErrors()})
	}
	for _, e := range answer.Msg.GetEdges() {
		h.Edges = append(h.Edges, [2]string{e.GetCaller(), e.GetCallee()})
	}
	return h, nil
}

// seconds records [next, to).
func (r *recorder) seconds(ctx context.Context, w *writer, h *header, next, to int64) error {
	index := map[string]int{}
	for i, s := range h.Services {
		index[s.Name] = i
	}
	for next < to {
		if err := sleep(ctx, time.Until(time.Unix(min(next, to), 0).Add(recordEvery+recordLag))); err != nil {
			return err
		}
		answer, err := r.api.GetStatistics(ctx, connect.NewRequest(&sluicev1.GetStatisticsRequest{From: next, Seconds: int32(min(to-next, 60))}))
		if err != nil {
			return fmt.Errorf("statistics: %w", err)
		}
		if answer.Msg.GetFrom() != next {
			return fmt.Errorf("second %d is not kept any more: the machine was too busy to record", next)
		}
		for _, s := range secondsOf(answer.Msg, index) {
			if err := w.add(&s); err != nil {
				return fmt.Errorf("write the part: %w", err)
			}
		}
		next += int64(answer.Msg.GetSeconds())
	}
	return nil
}

// secondsOf are the seconds of an answer, in order.
func secondsOf(answer *sluicev1.GetStatisticsResponse, index map[string]int) []second {
	out, load := make([]second, answer.GetSeconds()), loadAverage()
	for i := range out {
		out[i] = second{At: answer.GetFrom() + int64(i), Load: load}
	}
	for _, track := range answer.GetTracks() {
		at, known := index[track.GetCallee()]
		if !known || track.GetCaller() != "" {
			continue
		}
		for _, t := range track.GetTicks() {
			s := &out[t.GetSecond()]
			s.Ticks = append(s.Ticks, tick{Service: at, Requests: t.GetRequests(), Errors: t.GetErrors(),
				Latencies: t.GetLatencies(), Counts: t.GetCounts()})
		}
	}
	return out
}

// loadAverage is that of the machine over a minute, 0 if it is not told.
func loadAverage() float64 {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0
	}
	var load float64
	if _, err := fmt.Sscan(string(text), &load); err != nil {
		return 0
	}
	return load
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
