package server

import (
	"slices"
	"strconv"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	subscription "github.com/envoyproxy/go-control-plane/pkg/server/stream/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	protobuf "google.golang.org/protobuf/proto"

	"github.com/sluicemesh/sluice/xds"
)

// The delta protocol has a loop of our own, since the time from a verdict to the last ACK
// is part of every recovery (ADR 0021): what a change means is worked out and marshalled
// once for all streams that were told the same before, and each adds its version and
// nonce. The rules of subscribing are go-control-plane's.

// The fields of a DeltaDiscoveryResponse in which streams differ.
const (
	fieldVersion protowire.Number = 1
	fieldNonce   protowire.Number = 5
)

// deltaSub is what a stream asks for of one type, and what it was told.
type deltaSub struct {
	subscription.Subscription
	// known is the list of which the proxy was told all that it asks for, and of what is
	// not there that it is not; nil = none in particular.
	known []xds.Resource
}

// outbox is what a stream has still to send: one response of a type at most, since the
// next waits for the answer. Server.mu guards it.
type outbox struct {
	kick   chan struct{} // capacity 1: there is something
	queued []any         // *frame or *discoveryv3.DeltaDiscoveryResponse
	nonce  uint64
	subs   map[xds.TypeURL]*deltaSub
}

// frame is a response that is marshalled already; shared is many streams'.
type frame struct{ shared, own []byte }

// codec marshals protobuf messages, and lets frames pass.
type codec struct{ encoding.CodecV2 }

func newCodec() codec { return codec{encoding.GetCodecV2(proto.Name)} }

// Marshal implements encoding.CodecV2.
func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	if f, is := v.(*frame); is {
		return mem.BufferSlice{mem.SliceBuffer(f.shared), mem.SliceBuffer(f.own)}, nil
	}
	return c.CodecV2.Marshal(v)
}

// streamOptions make the gRPC server one of many streams that are quiet for most of the
// time: frames pass, a connection's buffers are as small as its messages, and the windows
// stay as they are, which spares each message the ping that would measure the bandwidth.
func streamOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.ForceServerCodecV2(newCodec()), grpc.ReadBufferSize(bufferBytes), grpc.WriteBufferSize(bufferBytes),
		grpc.StaticStreamWindowSize(windowBytes), grpc.StaticConnWindowSize(windowBytes),
	}
}

const (
	bufferBytes = 4 << 10  // of a connection, each way
	windowBytes = 64 << 10 // of requests that were sent and not yet taken
)

type deltaStream = discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer

// serveDelta serves one stream: this goroutine sends, another one receives.
func (s *Server) serveDelta(id int64, gs deltaStream) error {
	box := &outbox{kick: make(chan struct{}, 1), subs: map[xds.TypeURL]*deltaSub{}}
	if err := s.opened(gs.Context(), id); err != nil {
		return err
	}
	defer s.closed(id)
	s.mu.Lock()
	str := s.streams[id]
	s.mu.Unlock()
	defer s.unwatch(str)
	failed := make(chan error, 1)
	go func() { failed <- s.receive(str, box, gs) }()
	for {
		select {
		case <-s.ctx.Done():
			return nil
		case err := <-failed:
			return err
		case <-box.kick:
			for _, message := range s.take(box) {
				if err := gs.SendMsg(message); err != nil {
					return err
				}
			}
		}
	}
}

// take empties an outbox.
func (s *Server) take(box *outbox) []any {
	s.mu.Lock()
	defer s.mu.Unlock()
	queued := box.queued
	box.queued = nil
	return queued
}

// receive takes requests until the peer is gone (nil) or breaks a rule.
func (s *Server) receive(str *stream, box *outbox, gs deltaStream) error {
	for {
		req, err := gs.Recv()
		if err != nil {
			return nil
		}
		if str.node == "" {
			if err := s.admit(str, req.GetNode()); err != nil {
				return err
			}
		}
		if err := s.asked(str, box, req); err != nil {
			return err
		}
	}
}

// asked books what a request answers, and answers what it asks.
func (s *Server) asked(str *stream, box *outbox, req *discoveryv3.DeltaDiscoveryRequest) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.nodes[str.node]
	switch {
	case s.streams[str.id] != str:
		return status.Error(codes.Aborted, "the stream has ended")
	case n == nil:
		return status.Errorf(codes.PermissionDenied, "node %q is no longer in the world", str.node)
	case n.live != str:
		return status.Errorf(codes.Aborted, "node %q has a newer stream", n.id)
	case req.GetTypeUrl() == "":
		return status.Error(codes.InvalidArgument, "type URL is required for ADS")
	}
	if req.GetResponseNonce() != "" {
		s.answered(n, str, req)
	}
	t := xds.TypeURL(req.GetTypeUrl())
	if inbound := req.GetInitialResourceVersions()[xds.InboundListener]; t == xds.ListenerType && inbound != "" && !str.answered[t] {
		s.adoptCuts(n, inbound)
	}
	sub := box.subscribe(t, req)
	if err := s.subscribed(sub); err != nil {
		return err
	}
	w := &watch{typ: t, stream: str, sub: sub, delta: sub, box: box}
	s.calls(n, w)
	n.watches[t] = w
	s.respond(n, w)
	return nil
}

// subscribe notes what a request asks for.
func (b *outbox) subscribe(t xds.TypeURL, req *discoveryv3.DeltaDiscoveryRequest) *deltaSub {
	add, remove := req.GetResourceNamesSubscribe(), req.GetResourceNamesUnsubscribe()
	sub := b.subs[t]
	switch {
	case sub == nil:
		sub = &deltaSub{Subscription: subscription.NewDeltaSubscription(add, remove, req.GetInitialResourceVersions(),
			!slices.Contains(namedTypes(), string(t)))}
		b.subs[t] = sub
	case len(add)+len(remove) > 0:
		sub.known = nil
		sub.UpdateResourceSubscriptions(add, remove)
	}
	return sub
}

// namedTypes are the types of which an empty request asks for nothing; of clusters and
// listeners it means all.
func namedTypes() []string {
	return []string{string(xds.EndpointType), string(xds.RouteType), string(xds.RuntimeType)}
}

// unwatch closes what a stream waits for.
func (s *Server) unwatch(str *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.nodes[str.node]; n != nil {
		for t, w := range n.watches {
			if w.stream == str {
				delete(n.watches, t)
			}
		}
	}
}

// post hands a response to a stream and books its nonce; the response is a frame, or a
// message that yet lacks the nonce.
func (s *Server) post(w *watch, message any, version uint64) {
	b := w.box
	b.nonce++
	nonce := strconv.FormatUint(b.nonce, 10)
	switch m := message.(type) {
	case *frame:
		m.own = protowire.AppendString(protowire.AppendTag(m.own, fieldNonce, protowire.BytesType), nonce)
	case *discoveryv3.DeltaDiscoveryResponse:
		m.Nonce = nonce
	}
	s.ledger.Sent(w.stream.id, string(w.typ), nonce, version, s.now())
	b.queued = append(b.queued, message)
	select {
	case b.kick <- struct{}{}:
	default: // it is awake, or will be
	}
}

// step is the difference of two lists of the same names.
type step struct {
	changed []xds.Resource // as they are in the second
	body    []byte         // a DeltaDiscoveryResponse with all of them
}

// stepKey is two lists by where they are in memory, which the key keeps in place.
type stepKey struct {
	from, to *xds.Resource
	n        int
}

// stepOf returns the difference of two lists, nil if their names differ.
func (s *scenes) stepOf(t xds.TypeURL, from, to []xds.Resource) *step {
	if len(from) != len(to) || len(to) == 0 {
		return nil
	}
	key := stepKey{&from[0], &to[0], len(to)}
	if known, has := s.steps[key]; has {
		return known
	}
	if s.steps == nil {
		s.steps = map[stepKey]*step{}
	}
	s.steps[key] = newStep(t, from, to)
	return s.steps[key]
}

func newStep(t xds.TypeURL, from, to []xds.Resource) *step {
	out, update := new(step), &discoveryv3.DeltaDiscoveryResponse{TypeUrl: string(t)}
	for i := range to {
		switch r := &to[i]; {
		case r.Name != from[i].Name:
			return nil
		case r.Version != from[i].Version:
			out.changed = append(out.changed, *r)
			update.Resources = append(update.Resources,
				&discoveryv3.Resource{Name: r.Name, Version: r.Version, Resource: r.Body})
		}
	}
	var err error
	if out.body, err = protobuf.Marshal(update); err != nil {
		return nil // the long way says why
	}
	return out
}

// respondFast is respond for a subscriber that was told all of a list, of which some
// resources have changed since: the response is ready made. It reports whether that was so.
func (s *Server) respondFast(n *node, w *watch) bool {
	if w.delta == nil || w.delta.known == nil || w.typ == xds.RuntimeType {
		return false
	}
	offered := n.serving.Of(w.typ)
	if len(offered) == len(w.delta.known) && &offered[0] == &w.delta.known[0] {
		s.inSync(n, w)
		return true
	}
	step := s.scenes.stepOf(w.typ, w.delta.known, offered)
	if step == nil || len(step.changed) == 0 {
		return false
	}
	wanted, all := w.sub.SubscribedResources(), w.sub.IsWildcard()
	for i := range step.changed {
		if _, named := wanted[step.changed[i].Name]; !named && !all {
			return false
		}
	}
	told := w.sub.ReturnedResources()
	for i := range step.changed {
		told[step.changed[i].Name] = step.changed[i].Version
	}
	w.delta.known = offered
	w.stream.answered[w.typ] = true
	delete(n.watches, w.typ)
	version := n.version[w.typ]
	own := protowire.AppendTag(make([]byte, 0, 48), fieldVersion, protowire.BytesType)
	s.post(w, &frame{shared: step.body, own: protowire.AppendString(own, strconv.FormatUint(version, 10))}, version)
	return true
}
