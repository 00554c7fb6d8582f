package server

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sluicemesh/sluice/xds"
)

// metrics of one server.
type metrics struct {
	acks    *prometheus.HistogramVec
	nacks   *prometheus.CounterVec
	streams prometheus.Gauge
	gates   prometheus.Histogram
	polls   prometheus.Counter
	refused *prometheus.CounterVec
	ackOf   map[xds.TypeURL]prometheus.Observer // acks, by type
	bytes   *prometheus.CounterVec
}

// newMetrics registers the metrics, with nobody if registerer is nil.
func newMetrics(registerer prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		acks: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "sluice_xds_push_to_ack_seconds", Help: "Time from a push to its ACK, by resource type.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 15),
		}, []string{"type"}),
		nacks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sluice_xds_nacks_total", Help: "Pushes that proxies refused, by resource type.",
		}, []string{"type"}),
		streams: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "sluice_xds_streams", Help: "Proxies connected.",
		}),
		gates: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "sluice_xds_gate_seconds", Help: "Time from the start of a proof to the first quiet moment.",
			Buckets: prometheus.ExponentialBuckets(0.05, 2, 12),
		}),
		polls: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sluice_xds_polls_total",
			Help: "Times that a proxy's statistics were read for a proof, since it sent no load reports.",
		}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sluice_xds_refused_total", Help: "Connections, streams and requests of proxies that were refused, by reason.",
		}, []string{"reason"}),
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sluice_xds_bytes_total",
			Help: "Bytes on the connections of proxies, all services and TLS included, by direction (in, out).",
		}, []string{"direction"}),
	}
	m.ackOf = map[xds.TypeURL]prometheus.Observer{}
	for _, t := range xds.Types() {
		m.ackOf[t] = m.acks.WithLabelValues(t.Short())
	}
	if registerer == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.acks, m.nacks, m.streams, m.gates, m.polls, m.refused, m.bytes} {
		if err := registerer.Register(c); err != nil {
			return nil, fmt.Errorf("metrics of the xDS server: %w", err)
		}
	}
	return m, nil
}
