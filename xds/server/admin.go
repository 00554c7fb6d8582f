package server

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/xds"
)

// While a gate is open and a proxy that it waits for sends no load reports, the proxy's
// own statistics are asked for instead: Envoy opens its load report stream again only 5 s
// after a connection is lost, which is each time that the control plane restarts.
const (
	silence      = 3 * gateInterval // without a load report, after which a proxy is asked
	adminTimeout = time.Second
	adminBytes   = 4 << 20 // of one answer
	adminAtOnce  = 16      // proxies of one gate that are asked at the same time
)

// errStatistics says that an admin interface answered with something that is no
// statistics of the proxy that should be there.
var errStatistics = errors.New("not the statistics of this proxy")

// question is what to ask one proxy.
type question struct {
	node     string
	admin    netip.AddrPort
	clusters []string // that are wanted
	must     []string // of these, those that the proxy surely has
	inbound  bool     // whether the counters of its inbound listener count too
}

// poll asks the proxies that the gate waits for, each as long as it sends no load
// reports, until ctx ends.
func (s *Server) poll(ctx context.Context, g *openGate) {
	var asking sync.WaitGroup
	defer asking.Wait()
	tick := time.NewTicker(gateInterval)
	defer tick.Stop()
	for {
		for _, q := range s.silent(g) {
			asking.Go(func() { s.ask(ctx, g, q) })
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// silent picks the proxies to ask now, and marks them as being asked.
func (s *Server) silent(g *openGate) []question {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	var out []question
	for _, id := range slices.Compact(slices.Sorted(slices.Values(slices.Concat(g.callers, g.callees)))) {
		proxy := xds.FindProxy(s.world, id)
		if proxy == nil || !proxy.Admin.IsValid() || g.asking[id] || len(g.asking) >= adminAtOnce {
			continue
		}
		if load := s.loads[id]; load != nil && now.Sub(later(load.report.at, g.opened)) < silence {
			continue
		}
		g.asking[id] = true
		out = append(out, g.question(proxy))
	}
	return out
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// question is what the gate wants to know of a proxy.
func (g *openGate) question(p *mesh.Proxy) question {
	q := question{node: p.Node, admin: p.Admin}
	if slices.Contains(g.callers, p.Node) {
		q.clusters = slices.Clone(g.clusters)
		q.must = g.clusters[:1:1] // the twin is not there for raw TCP
	}
	if slices.Contains(g.callees, p.Node) {
		q.inbound = true
		q.clusters = append(q.clusters, xds.AppCluster)
		q.must = append(q.must, xds.AppCluster)
	}
	return q
}

// ask gets one proxy's statistics and feeds them to the gate, unless a load report has
// come in the meantime. What was in flight was so no earlier than the question was put.
func (s *Server) ask(ctx context.Context, g *openGate, q question) {
	report := loadReport{at: s.now()}
	var err error
	report.inFlight, err = s.statistics(ctx, q)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(g.asking, q.node)
	if err != nil {
		s.log.Debug("a proxy's statistics are not to be had", "node", q.node, "error", err)
		return
	}
	if load := s.loads[q.node]; load != nil && !load.report.at.Before(report.at) {
		return
	}
	g.reported(q.node, &report)
	s.metrics.polls.Inc()
	s.stir()
}

// statistics reads what is in flight from the admin interface.
func (s *Server) statistics(ctx context.Context, q question) (map[string]map[netip.AddrPort]int, error) {
	names := make([]string, len(q.clusters))
	for i, name := range q.clusters {
		names[i] = regexp.QuoteMeta(name)
	}
	var out map[string]map[netip.AddrPort]int
	err := s.get(ctx, q.admin, "/clusters", "^("+strings.Join(names, "|")+")$", func(body io.Reader) (err error) {
		out, err = readClusters(body, q.must)
		return err
	})
	if err != nil || !q.inbound {
		return out, err
	}
	inbound := 0
	err = s.get(ctx, q.admin, "/stats", inboundFilter, func(body io.Reader) (err error) {
		inbound, err = readCounters(body)
		return err
	})
	for _, n := range out[xds.AppCluster] {
		inbound -= n
	}
	if inbound > 0 { // requests that wait for the application, or for a connection to it
		out[xds.AppCluster][netip.AddrPort{}] = inbound
	}
	return out, err
}

// inboundFilter matches the counters of requests that are inside the inbound listener,
// and inside those that it replaced.
const inboundFilter = `^http\.` + xds.InboundListener + `(_cut\d+)?\.downstream_rq_active$`

// get asks an admin interface.
func (s *Server) get(ctx context.Context, admin netip.AddrPort, path, filter string, read func(io.Reader) error) error {
	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	where := url.URL{
		Scheme: "http", Host: admin.String(), Path: path, RawQuery: url.Values{"filter": {filter}}.Encode(),
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, where.String(), http.NoBody)
	if err != nil {
		return fmt.Errorf("ask for statistics: %w", err)
	}
	resp, err := s.admin.Do(req)
	if err != nil {
		return fmt.Errorf("ask for statistics: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s of %s: %s: %w", path, admin, resp.Status, errStatistics)
	}
	if err := read(http.MaxBytesReader(nil, resp.Body, adminBytes)); err != nil {
		return fmt.Errorf("%s of %s: %w", path, admin, err)
	}
	return nil
}

// adminClient asks admin interfaces: directly, and nobody else than was meant.
func adminClient() *http.Client {
	return &http.Client{
		Transport:     &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 1, IdleConnTimeout: time.Minute},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// readClusters reads Envoy's /clusters: lines such as
//
//	shop/cart::127.0.0.1:20001::rq_active::3
//
// It adds up what is in flight and what waits for a connection, by cluster and endpoint.
// All clusters of must have to be there, else it is another proxy's answer, or a part.
func readClusters(body io.Reader, must []string) (map[string]map[netip.AddrPort]int, error) {
	out := map[string]map[netip.AddrPort]int{}
	lines := bufio.NewScanner(body)
	for lines.Scan() {
		cluster, rest, found := strings.Cut(lines.Text(), "::")
		if !found {
			return nil, fmt.Errorf("line %.80q: %w", lines.Text(), errStatistics)
		}
		if out[cluster] == nil {
			out[cluster] = map[netip.AddrPort]int{}
		}
		address, count, found := strings.Cut(rest, "::rq_active::")
		if !found {
			address, count, found = strings.Cut(rest, "::rq_pending_active::")
		}
		if !found {
			continue
		}
		n, err := inProgress(count)
		if err != nil {
			return nil, err
		}
		if endpoint, err := netip.ParseAddrPort(address); err == nil && n > 0 {
			out[cluster][endpoint] += n
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("statistics: %w", err)
	}
	for _, cluster := range must {
		if out[cluster] == nil {
			return nil, fmt.Errorf("cluster %s is not listed: %w", cluster, errStatistics)
		}
	}
	return out, nil
}

// readCounters adds up Envoy's /stats: lines such as "http.in.downstream_rq_active: 3".
func readCounters(body io.Reader) (int, error) {
	total := 0
	lines := bufio.NewScanner(body)
	for lines.Scan() {
		_, count, found := strings.Cut(lines.Text(), ": ")
		if !found {
			return 0, fmt.Errorf("line %.80q: %w", lines.Text(), errStatistics)
		}
		n, err := inProgress(count)
		if err != nil {
			return 0, err
		}
		total += n
	}
	if err := lines.Err(); err != nil {
		return 0, fmt.Errorf("statistics: %w", err)
	}
	return total, nil
}

// inProgress reads a gauge; no value can make a sum overflow.
func inProgress(text string) (int, error) {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("gauge %.40q: %w", text, errStatistics)
	}
	return int(min(n, maxInFlight)), nil
}
