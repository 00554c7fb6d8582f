package prom

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/common/model"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/topology"
)

// maxCount bounds what one row may say, so that sums cannot overflow.
const maxCount = 1 << 40

// poll is one round of questions.
type poll struct {
	source   *Source
	from, to time.Time // from is zero if nothing can be counted
	known    map[mesh.Service]bool
	newest   int64 // Unix nanoseconds
	calls    []topology.Call
}

// edge is a pair of registered services.
type edge struct{ caller, callee mesh.Service }

// report is what one reporter says of an edge.
type report struct {
	rank          int
	calls, failed uint64
	existence     bool
	buckets       []bucket // cumulative, by bound
}

type bucket struct {
	bound time.Duration
	calls uint64
}

// ask asks for some families and turns the answers into calls.
func (p *poll) ask(ctx context.Context, families []family) error {
	for i := range families {
		f := &families[i]
		reports, err := p.reports(ctx, f)
		if err != nil {
			return err
		}
		newest, err := p.query(ctx, f.scraped())
		if err != nil {
			return err
		}
		for _, sample := range newest {
			if at := float64(sample.Value); at > 0 && at < float64(p.to.Unix())+1 {
				p.newest = max(p.newest, int64(at*float64(time.Second)))
			}
		}
		p.add(f, reports)
	}
	return nil
}

// reports asks who called whom, and how it went; of each edge the best report remains.
func (p *poll) reports(ctx context.Context, f *family) (map[edge]*report, error) {
	found := map[edge]*report{}
	window := time.Duration(0)
	if !p.from.IsZero() {
		window = p.to.Sub(p.from)
	}
	err := p.each(ctx, f, f.appeared(window), func(e edge, rank int, s *model.Sample) {
		if r := p.best(found, e, rank); r != nil {
			r.existence = true
		}
	})
	if err != nil || window == 0 {
		return found, err
	}
	err = p.each(ctx, f, f.called(window), func(e edge, rank int, s *model.Sample) {
		switch r := p.best(found, e, rank); {
		case r == nil:
		case f.asynchronous(s.Metric):
			r.existence = true
		default:
			r.calls += uint64(s.Value)
		}
	})
	if err != nil {
		return nil, err
	}
	err = p.each(ctx, f, f.failing(window), func(e edge, rank int, s *model.Sample) {
		if r := found[e]; r != nil && r.rank == rank && !f.asynchronous(s.Metric) {
			r.failed += uint64(s.Value)
		}
	})
	if err != nil {
		return nil, err
	}
	return found, p.each(ctx, f, f.timing(window), func(e edge, rank int, s *model.Sample) {
		bound, err := strconv.ParseFloat(string(s.Metric["le"]), 64)
		if r := found[e]; err == nil && r != nil && r.rank == rank && !f.asynchronous(s.Metric) {
			r.buckets = append(r.buckets, bucket{limit(bound, f.unit), uint64(s.Value)})
		}
	})
}

// limit is a bucket's bound as a duration.
func limit(bound float64, unit time.Duration) time.Duration {
	if most := float64(math.MaxInt64) / float64(unit); !(bound < most) {
		return math.MaxInt64
	}
	return time.Duration(max(bound, 0) * float64(unit))
}

// best returns the report of e by this rank; nil if there is a better one, or was of late:
// the two ends of a call are not scraped at once.
func (p *poll) best(found map[edge]*report, e edge, rank int) *report {
	r := found[e]
	if r == nil || rank < r.rank {
		if !p.source.heard(e, rank, p.to) {
			return nil
		}
		r = &report{rank: rank}
		found[e] = r
	}
	if r.rank < rank {
		return nil
	}
	return r
}

// reporter is the best that reported an edge of late.
type reporter struct {
	rank int
	at   time.Time
}

// heard notes that rank reports e, and reports whether nobody better did of late.
func (s *Source) heard(e edge, rank int, at time.Time) bool {
	was, known := s.reporters[e]
	if known && was.rank < rank && at.Sub(was.at) <= MaxWindow {
		return false
	}
	if !known && len(s.reporters) >= maxReporters {
		clear(s.reporters)
	}
	s.reporters[e] = reporter{rank, at}
	return true
}

// each runs take on the rows of an answer that name two registered services; no query,
// no rows.
func (p *poll) each(ctx context.Context, f *family, query string, take func(edge, int, *model.Sample)) error {
	if query == "" {
		return nil
	}
	rows, err := p.query(ctx, query)
	if err != nil {
		return err
	}
	counted := func(result string) { p.source.metrics.rows.WithLabelValues(result).Inc() }
	if len(rows) >= MaxRows {
		counted("cut-off")
	}
	for _, row := range rows {
		e, known := p.edge(f, row.Metric)
		switch value := float64(row.Value); {
		case !known:
			counted("unknown-service")
		case !(value >= 0 && value <= maxCount):
			counted("not-a-count")
		default:
			counted("edge")
			row.Value = model.SampleValue(math.Round(value))
			take(e, f.rankOf(row.Metric), row)
		}
	}
	return nil
}

// rankOf says how good the reporter of a row is, 0 is the best.
func (f *family) rankOf(labels model.Metric) int {
	if f.rank == "" || f.ranks == nil {
		return 0
	}
	if i := slices.Index(f.ranks, string(labels[model.LabelName(f.rank)])); i >= 0 {
		return i
	}
	return len(f.ranks)
}

// asynchronous reports whether a row counts messages, whose times are not those of calls.
func (f *family) asynchronous(labels model.Metric) bool {
	return f.existence != "" && string(labels[model.LabelName(f.rank)]) == f.existence
}

// edge returns whom a row names, false if one of the two is not registered.
func (p *poll) edge(f *family, labels model.Metric) (edge, bool) {
	caller, known := p.service(f.caller, labels)
	if !known {
		return edge{}, false
	}
	callee, known := p.service(f.callee, labels)
	return edge{caller, callee}, known
}

// service returns the first registered service that pairs of labels name.
func (p *poll) service(pairs []pair, labels model.Metric) (mesh.Service, bool) {
	for _, pair := range pairs {
		name := string(labels[model.LabelName(pair.name)])
		if name == "" {
			continue
		}
		if pair.namespace != "" {
			name = string(labels[model.LabelName(pair.namespace)]) + "/" + name
		}
		service, err := mesh.ParseService(name)
		if err != nil {
			continue
		}
		known, asked := p.known[service]
		if !asked {
			known = p.source.config.Known(service)
			p.known[service] = known
		}
		if known {
			return service, true
		}
	}
	return "", false
}

// errNoVector says that the server answered what no such query can.
var errNoVector = errors.New("the answer is no vector: is this a Prometheus?")

// query asks about the poll's end.
func (p *poll) query(ctx context.Context, query string) (model.Vector, error) {
	value, _, _, err := p.source.api.Query(ctx, query, p.to)
	if err != nil {
		return nil, fmt.Errorf("query: %w", err)
	}
	rows, ok := value.(model.Vector)
	if !ok {
		return nil, errNoVector
	}
	return rows, nil
}
