package xds

import (
	runtimev3 "github.com/envoyproxy/go-control-plane/envoy/service/runtime/v3"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/sluicemesh/sluice/mesh"
)

// runtimeKeys are the overlay keys of one proxy. They lapse together, so they are one
// resource; the generation makes it a new one each time that it is armed, or Envoy
// would not be sent what has lapsed.
type runtimeKeys map[string]float64

// drain turns the overlay route of service on.
func (k runtimeKeys) drain(service mesh.Service, d *mesh.DrainOverlay) {
	k[overlayKey(service)] = float64(d.Share)
	if d.Streams == mesh.StreamsRefuse {
		k[refuseKey(service)] = float64(d.Share)
	}
	switch d.OnEmpty {
	case mesh.OnEmptyHold:
		k[holdKey(service)] = 100
	case mesh.OnEmptyShed:
		k[shedKey(service)] = 100
	}
}

// thresholds lowers the circuit breakers of a cluster.
func (k runtimeKeys) thresholds(cluster string, b *mesh.BreakOverlay) {
	for name, value := range map[string]uint32{
		"max_requests":         b.MaxRequests,
		"max_connections":      b.MaxConnections,
		"max_pending_requests": b.MaxPending,
	} {
		if value > 0 {
			k[thresholdKey(cluster, name)] = float64(value)
		}
	}
}

// retries lowers the number of retries at once. It is never done to the twin, where a
// request is held by being retried.
func (k runtimeKeys) retries(cluster string, b *mesh.BreakOverlay) {
	if b.MaxRetries > 0 {
		k[thresholdKey(cluster, "retry_budget.budget_percent")] = 0
		k[thresholdKey(cluster, "retry_budget.min_retry_concurrency")] = float64(b.MaxRetries)
	}
}

// resource returns the runtime layer with the keys and the generation.
func (k runtimeKeys) resource(generation uint64) Resource {
	fields := map[string]*structpb.Value{generationKey: structpb.NewNumberValue(float64(generation))}
	for key, value := range k {
		fields[key] = structpb.NewNumberValue(value)
	}
	return resource(Overlays, &runtimev3.Runtime{Name: Overlays, Layer: &structpb.Struct{Fields: fields}})
}
