package server

import (
	"errors"
	"io"
	"math"
	"net/netip"
	"sync"
	"time"

	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	loadstatsv3 "github.com/envoyproxy/go-control-plane/envoy/service/load_stats/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
)

// How often a proxy reports its loads.
const (
	gateInterval = 50 * time.Millisecond // while a gate waits for it
	idleInterval = 10 * time.Second
)

// maxInFlight bounds what one endpoint is believed to have in flight, so that no report
// can make a sum overflow.
const maxInFlight = 1 << 30

// loadStream is the load reporting stream of one proxy, and its last report.
type loadStream struct {
	interval time.Duration // wanted
	kick     chan struct{} // capacity 1: interval changed
	client   bool          // of a gRPC client
	report   loadReport
}

// loadReport is what was in flight at one moment, by cluster and endpoint. What is
// absent was zero.
type loadReport struct {
	at       time.Time
	inFlight map[string]map[netip.AddrPort]int
}

// sum adds up what is in flight to any of the addresses over the clusters.
func (r *loadReport) sum(clusters []string, addresses []netip.AddrPort) int {
	total := 0
	for _, cluster := range clusters {
		for _, address := range addresses {
			total += r.inFlight[cluster][address]
		}
	}
	return total
}

// loadService is the load reporting service.
type loadService struct {
	loadstatsv3.UnimplementedLoadReportingServiceServer
	server *Server
}

// StreamLoadStats takes a proxy's reports and tells it how often to send them.
func (l *loadService) StreamLoadStats(str loadstatsv3.LoadReportingService_StreamLoadStatsServer) error {
	s := l.server
	first, err := str.Recv()
	if err != nil {
		return err
	}
	id := first.GetNode().GetId()
	err = s.await(str.Context(), func() (bool, error) { return s.nodes[id] != nil, nil })
	if err != nil {
		return status.Errorf(codes.PermissionDenied, "node id %q is not in the world", id)
	}
	load := s.openLoads(id, isClient(first.GetNode()))
	defer s.closeLoads(id, load)
	var sender sync.WaitGroup
	defer sender.Wait()
	ended := make(chan struct{})
	defer close(ended)
	sender.Go(func() { s.instructOn(load, str, ended) })
	return s.readLoads(id, load, str)
}

// readLoads books reports until the stream ends.
func (s *Server) readLoads(id string, load *loadStream, str loadstatsv3.LoadReportingService_StreamLoadStatsServer,
) error {
	for {
		req, err := str.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		report := loadReport{at: s.now(), inFlight: inFlight(req.GetClusterStats())}
		s.mu.Lock()
		load.report = report
		for g := range s.gates {
			g.reported(id, &load.report)
		}
		s.tell(id, &report)
		s.stir()
		s.mu.Unlock()
	}
}

// instructOn sends the interval at first and whenever it changes.
func (s *Server) instructOn(load *loadStream, str loadstatsv3.LoadReportingService_StreamLoadStatsServer,
	ended <-chan struct{},
) {
	for {
		select {
		case <-ended:
			return
		case <-load.kick:
		}
		if err := str.Send(s.instruct(load)); err != nil {
			return // Recv fails too, and says why
		}
	}
}

// instruct is the answer that sets the interval. Envoy keeps only the latest.
func (s *Server) instruct(load *loadStream) *loadstatsv3.LoadStatsResponse {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &loadstatsv3.LoadStatsResponse{
		SendAllClusters:           true,
		ReportEndpointGranularity: true,
		LoadReportingInterval:     durationpb.New(load.interval),
	}
}

func (s *Server) openLoads(id string, client bool) *loadStream {
	s.mu.Lock()
	defer s.mu.Unlock()
	load := &loadStream{kick: make(chan struct{}, 1), client: client}
	s.loads[id] = load
	s.schedule()
	return load
}

func (s *Server) closeLoads(id string, load *loadStream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.loads[id] == load {
		delete(s.loads, id)
	}
}

// schedule tells each proxy how often to report: often while a gate waits for it. The
// caller holds mu.
func (s *Server) schedule() {
	for id, load := range s.loads {
		want := idleInterval
		if s.replicas.watched[id] {
			want = gateInterval
		}
		for g := range s.gates {
			if g.concerns(id) {
				want = gateInterval
			}
		}
		if load.client {
			want = clientInterval
		}
		if load.interval == want {
			continue
		}
		load.interval = want
		select {
		case load.kick <- struct{}{}:
		default: // a kick is pending, it will see the new interval
		}
	}
}

// inFlight reads the requests in progress out of a report.
func inFlight(stats []*endpointv3.ClusterStats) map[string]map[netip.AddrPort]int {
	out := map[string]map[netip.AddrPort]int{}
	for _, cluster := range stats {
		for _, locality := range cluster.GetUpstreamLocalityStats() {
			for _, e := range locality.GetUpstreamEndpointStats() {
				addEndpoint(out, cluster.GetClusterName(), e)
			}
			if len(locality.GetUpstreamEndpointStats()) == 0 {
				addLocality(out, cluster.GetClusterName(), locality)
			}
		}
	}
	return out
}

// addLocality reads what a gRPC client says of an endpoint, which is a locality of its own.
func addLocality(out map[string]map[netip.AddrPort]int, cluster string, l *endpointv3.UpstreamLocalityStats) {
	address, err := netip.ParseAddrPort(l.GetLocality().GetSubZone())
	count := l.GetTotalRequestsInProgress()
	if err != nil || count == 0 {
		return
	}
	if out[cluster] == nil {
		out[cluster] = map[netip.AddrPort]int{}
	}
	out[cluster][address] += int(min(count, maxInFlight))
}

func addEndpoint(out map[string]map[netip.AddrPort]int, cluster string, e *endpointv3.UpstreamEndpointStats) {
	socket := e.GetAddress().GetSocketAddress()
	address, err := netip.ParseAddr(socket.GetAddress())
	count := e.GetTotalRequestsInProgress()
	if err != nil || count == 0 || socket.GetPortValue() > math.MaxUint16 {
		return
	}
	if out[cluster] == nil {
		out[cluster] = map[netip.AddrPort]int{}
	}
	out[cluster][netip.AddrPortFrom(address, uint16(socket.GetPortValue()))] += int(min(count, maxInFlight))
}
