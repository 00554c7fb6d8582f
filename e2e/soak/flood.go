package main

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds of the flood.
const (
	floodFirst = 32 // connections, at once
	floodStep  = 4
	floodMost  = 128
	floodPace  = 2 * time.Second
	floodShare = 0.2                   // of exports shed: beyond, some connections stop
	floodWait  = 50 * time.Millisecond // after a request was shed, whatever the server asks
)

// flood posts requests that the SDK wrote over ever more connections until the server
// sheds some, and then over about as many: that is its limit. Once it is settled it stays
// as it is: a connection more is memory more, and whether memory grows is the question.
type flood struct {
	settled time.Duration // after its begin
	address string
	answers *answers
	request latest
	stops   []context.CancelFunc
	running sync.WaitGroup
	open    atomic.Int64 // connections
}

// run runs until ctx ends.
func (f *flood) run(ctx context.Context) {
	defer f.running.Wait()
	shed, taken := int64(0), int64(0)
	for range floodFirst {
		f.add(ctx)
	}
	for until := time.Now().Add(f.settled); ctx.Err() == nil && time.Now().Before(until); {
		pause(ctx, floodPace)
		isShed, isTaken := f.answers.shed.Load(), f.answers.accepted.Load()/batchSpans
		newShed, newTaken := isShed-shed, isTaken-taken
		shed, taken = isShed, isTaken
		switch {
		case newShed == 0 && len(f.stops) < floodMost:
			for range floodStep {
				f.add(ctx)
			}
		case float64(newShed) > floodShare*float64(newShed+newTaken) && len(f.stops) > floodStep:
			for range floodStep {
				f.stops[len(f.stops)-1]()
				f.stops = f.stops[:len(f.stops)-1]
			}
		}
		f.open.Store(int64(len(f.stops)))
	}
}

// pause waits until d has passed or ctx has ended.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// add adds a connection.
func (f *flood) add(ctx context.Context) {
	ctx, stop := context.WithCancel(ctx)
	f.stops = append(f.stops, stop)
	f.running.Go(func() {
		defer stop()
		p := newPoster(f.address, f.answers)
		defer p.client.CloseIdleConnections()
		for ctx.Err() == nil {
			body, err := f.request.get()
			if err == nil {
				var wait time.Duration
				switch wait, err = p.post(ctx, body); {
				case err == nil && wait == 0:
					f.answers.accepted.Add(batchSpans)
				case err == nil:
					pause(ctx, floodWait)
				}
			}
			if err != nil && ctx.Err() == nil {
				f.answers.fail(err)
			}
		}
	})
}
