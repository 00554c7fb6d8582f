package server

import (
	"context"
	"errors"
	"time"

	"connectrpc.com/connect"

	sluicev1 "github.com/sluicemesh/sluice/api/sluice/v1"
	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/topology"
)

// MaxSeconds is how many seconds of statistics one answer has at most.
const MaxSeconds = 60

// statisticsLag is how long after its end a second is told: reports of it may be late.
const statisticsLag = 2

// Statistics is what a Topology may know besides: what happened by the second.
type Statistics interface {
	// Statistics returns the seconds that are asked for, of those that are kept and over.
	Statistics(question *sluicev1.GetStatisticsRequest) *sluicev1.GetStatisticsResponse
}

// GetStatistics implements the method of the same name.
func (s *service) GetStatistics(
	_ context.Context, request *connect.Request[sluicev1.GetStatisticsRequest],
) (*connect.Response[sluicev1.GetStatisticsResponse], error) {
	known, is := s.config.Topology.(Statistics)
	switch question := request.Msg; {
	case question.GetFrom() < 0:
		return nil, invalid("from", "is negative")
	case question.GetSeconds() < 0 || question.GetSeconds() > MaxSeconds:
		return nil, invalid("seconds", "want 0 to %d", MaxSeconds)
	case !is:
		return nil, connect.NewError(connect.CodeUnimplemented, errors.New("no statistics are kept here"))
	}
	return connect.NewResponse(known.Statistics(request.Msg)), nil
}

// Statistics implements the interface of the same name.
func (e *Evidence) Statistics(question *sluicev1.GetStatisticsRequest) *sluicev1.GetStatisticsResponse {
	snapshot := e.Snapshots.Snapshot()
	over := snapshot.At().Unix() - statisticsLag
	wanted := int64(question.GetSeconds())
	if wanted == 0 {
		wanted = MaxSeconds
	}
	s := span{from: max(question.GetFrom(), over-int64(topology.Retention/time.Second))}
	s.to = max(min(s.from+wanted, over), s.from)
	answer := &sluicev1.GetStatisticsResponse{From: s.from, Seconds: int32(s.to - s.from)}
	add := func(caller, callee mesh.Service, at func(second int64) (topology.Tick, bool)) {
		if ticks := s.ticks(at); len(ticks) > 0 {
			answer.Tracks = append(answer.Tracks, &sluicev1.Track{Caller: string(caller), Callee: string(callee), Ticks: ticks})
		}
	}
	series := snapshot.Series()
	for _, service := range snapshot.Services() {
		add("", service, func(second int64) (topology.Tick, bool) { return series.Service(service, second) })
	}
	if !question.GetEdges() {
		return answer
	}
	for _, edge := range snapshot.Edges() {
		add(edge.Caller, edge.Callee, func(second int64) (topology.Tick, bool) {
			return series.Edge(edge.Caller, edge.Callee, second)
		})
	}
	return answer
}

// span is the Unix seconds [from, to).
type span struct{ from, to int64 }

// ticks are those of a track in the span that had a request.
func (s span) ticks(at func(second int64) (topology.Tick, bool)) []*sluicev1.Tick {
	var ticks []*sluicev1.Tick
	for second := s.from; second < s.to; second++ {
		tick, seen := at(second)
		if !seen {
			continue
		}
		out := &sluicev1.Tick{Second: int32(second - s.from), Requests: tick.Requests, Errors: tick.Errors}
		tick.Hist.Each(func(middle time.Duration, n uint64) {
			out.Latencies, out.Counts = append(out.Latencies, int64(middle)), append(out.Counts, n)
		})
		ticks = append(ticks, out)
	}
	return ticks
}
