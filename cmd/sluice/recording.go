package main

import (
	"cmp"
	"fmt"
	"math/bits"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/topology"
)

// Bounds of the recording in a topology file.
const (
	maxRecorded   = 1 << 20 // cells: calls of one edge, second, latency and outcome
	latencyDigits = 6       // leading binary digits of a latency in microseconds that are kept
)

// recordingView is the evidence of the last minutes inside a topology file, so that
// `sluice groups --topology` can compare before an onset with after it. Cells are
// "SECOND LATENCY FAILED CALLS" with ";" between them: the second since From, the
// latency in microseconds, 1 if failed.
type recordingView struct {
	From   string      `json:"from"`
	Calls  []trackView `json:"calls"`
	Served []trackView `json:"served"` // what callees measured of themselves
}

type trackView struct {
	Caller string `json:"caller,omitempty"`
	Callee string `json:"callee"`
	Cells  string `json:"cells"`
}

// cell is where calls are counted together.
type cell struct {
	caller, callee mesh.Service
	second         int64
	latency        int64 // microseconds
	failed         int64
}

// recorder keeps the calls of the last topology.Retention of a stream, coarsely.
type recorder struct {
	cells map[cell]int64
	last  int64
	lost  bool // more than maxRecorded: nothing is kept
}

func (r *recorder) add(c *topology.Call) {
	if r.lost || c.Existence {
		return
	}
	key := cell{caller: c.Caller, callee: c.Callee, second: c.At.Unix(), latency: coarse(c.Latency.Microseconds())}
	if c.Failed {
		key.failed = 1
	}
	r.last = max(r.last, key.second)
	if len(r.cells) == 0 {
		r.last = key.second
	}
	r.cells[key] += int64(max(c.Weight, 1))
	if len(r.cells) > maxRecorded {
		r.prune()
		if r.lost = len(r.cells) > maxRecorded*3/4; r.lost {
			r.cells = nil
		}
	}
}

// prune drops what is older than the graph's own ticks would be.
func (r *recorder) prune() {
	for key := range r.cells {
		if key.second <= r.last-int64(topology.Retention/time.Second) {
			delete(r.cells, key)
		}
	}
}

// coarse keeps the leading digits of n, and of the rest the middle.
func coarse(n int64) int64 {
	shift := bits.Len64(uint64(max(n, 0))) - latencyDigits
	if shift <= 0 {
		return max(n, 0)
	}
	return n>>shift<<shift + 1<<(shift-1)
}

// view returns what was recorded, nil if nothing was.
func (r *recorder) view() *recordingView {
	r.prune()
	if len(r.cells) == 0 {
		return nil
	}
	keys := make([]cell, 0, len(r.cells))
	first := r.last
	for key := range r.cells {
		keys = append(keys, key)
		first = min(first, key.second)
	}
	slices.SortFunc(keys, func(a, b cell) int {
		return cmp.Or(cmp.Compare(a.caller, b.caller), cmp.Compare(a.callee, b.callee), cmp.Compare(a.second, b.second),
			cmp.Compare(a.latency, b.latency), cmp.Compare(a.failed, b.failed))
	})
	v := &recordingView{From: time.Unix(first, 0).UTC().Format(time.RFC3339), Calls: []trackView{}, Served: []trackView{}}
	var cells strings.Builder
	for i, key := range keys {
		if cells.Len() > 0 {
			cells.WriteByte(';')
		}
		fmt.Fprintf(&cells, "%d %d %d %d", key.second-first, key.latency, key.failed, r.cells[key])
		if i+1 < len(keys) && keys[i+1].caller == key.caller && keys[i+1].callee == key.callee {
			continue
		}
		track := trackView{Caller: string(key.caller), Callee: string(key.callee), Cells: cells.String()}
		if cells.Reset(); key.caller == "" {
			v.Served = append(v.Served, track)
		} else {
			v.Calls = append(v.Calls, track)
		}
	}
	return v
}

// replay hands the recorded calls to observe; v may be nil.
func (v *recordingView) replay(observe func(topology.Call)) error {
	if v == nil {
		return nil
	}
	from, err := time.Parse(time.RFC3339, v.From)
	if err != nil {
		return fmt.Errorf("recording: from %q is not RFC 3339", v.From)
	}
	for _, track := range slices.Concat(v.Calls, v.Served) {
		for text := range strings.SplitSeq(track.Cells, ";") {
			c, err := parseCell(text)
			if err != nil {
				return fmt.Errorf("recording of %s -> %s: %w", track.Caller, track.Callee, err)
			}
			observe(topology.Call{
				Caller: mesh.Service(track.Caller), Callee: mesh.Service(track.Callee), Source: topology.Span,
				At: from.Add(time.Duration(c[0]) * time.Second), Latency: time.Duration(c[1]) * time.Microsecond,
				Failed: c[2] == 1, Weight: uint64(c[3]),
			})
		}
	}
	return nil
}

// parseCell reads "SECOND LATENCY FAILED CALLS".
func parseCell(text string) (c [4]int64, err error) {
	words := strings.Fields(text)
	if len(words) != len(c) {
		return c, fmt.Errorf("cell %q: want SECOND LATENCY FAILED CALLS", text)
	}
	most := [4]int64{1e9, 1e15, 1, 1 << 40}
	for i, word := range words {
		if c[i], err = strconv.ParseInt(word, 10, 64); err != nil || c[i] < 0 || c[i] > most[i] {
			return c, fmt.Errorf("cell %q: %q is out of range", text, word)
		}
	}
	if c[3] == 0 {
		return c, fmt.Errorf("cell %q: no calls", text)
	}
	return c, nil
}
