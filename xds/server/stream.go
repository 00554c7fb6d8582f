package server

import (
	"crypto/rand"
	"encoding/hex"
	"slices"
	"strconv"
	"sync"
	"time"
	"unicode/utf8"

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
	"google.golang.org/protobuf/types/known/durationpb"

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

// The fields of a DeltaDiscoveryRequest that an ACK has.
const (
	fieldTypeOfRequest  protowire.Number = 2
	fieldNonceOfRequest protowire.Number = 6
)

// deltaSub is what a stream asks for of one type, and what it was told.
type deltaSub struct {
	subscription.Subscription
	// known is the list of which the proxy was told all that it asks for, and of what is
	// not there that it is not; nil = none in particular.
	known []xds.Resource
	watch watch
}

// outbox is what a stream has still to send: one response of a type at most, since the
// next waits for the answer. Server.mu guards it.
type outbox struct {
	stream  deltaStream
	nonces  uint64 // drawn so far
	nonce   string // of the newest response
	open    int    // bytes handed to the connection that may not have left it yet, at most
	queued  []any  // *frame or *discoveryv3.DeltaDiscoveryResponse, for the sender
	sending bool   // there is a sender, a goroutine
	sender  sync.WaitGroup
	subs    map[xds.TypeURL]*deltaSub
}

// openBytes is how much may be open on a connection for a response to be handed to it at
// once: less than what makes grpc-go wait, which is 64 KB.
const openBytes = 32 << 10

// frame is a response that is marshalled already; shared is many streams'.
type frame struct {
	shared mem.Buffer
	own    []byte
	atOnce bool // the connection has room for it
}

// codec marshals protobuf messages, and lets frames pass.
type codec struct{ encoding.CodecV2 }

func newCodec() codec { return codec{encoding.GetCodecV2(proto.Name)} }

// Marshal implements encoding.CodecV2.
func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	if f, is := v.(*frame); is {
		return mem.BufferSlice{f.shared, mem.SliceBuffer(f.own)}, nil
	}
	return c.CodecV2.Marshal(v)
}

// Unmarshal implements encoding.CodecV2.
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	if req, is := v.(*discoveryv3.DeltaDiscoveryRequest); is && len(data) == 1 && readAnswer(data[0].ReadOnlyData(), req) {
		return nil
	}
	return c.CodecV2.Unmarshal(data, v)
}

// readAnswer reads a request that is nothing but an ACK of a type that we serve, which
// most are. If it is anything else, the answer is false and req is to be unmarshalled.
func readAnswer(data []byte, req *discoveryv3.DeltaDiscoveryRequest) bool {
	var typ xds.TypeURL
	nonce := ""
	for len(data) > 0 {
		field, kind, n := protowire.ConsumeTag(data)
		if n < 0 || kind != protowire.BytesType {
			return false
		}
		value, m := protowire.ConsumeBytes(data[n:])
		if m < 0 {
			return false
		}
		switch field {
		case fieldTypeOfRequest:
			typ = typeOf(value)
		case fieldNonceOfRequest:
			if nonce = string(value); !utf8.ValidString(nonce) {
				return false
			}
		default:
			return false
		}
		data = data[n+m:]
	}
	if typ == "" {
		return false
	}
	req.Reset()
	req.TypeUrl, req.ResponseNonce = string(typ), nonce
	return true
}

// typeOf is the type that is spelled so, "" if we do not serve it.
func typeOf(text []byte) xds.TypeURL {
	switch xds.TypeURL(text) {
	case xds.ClusterType:
		return xds.ClusterType
	case xds.EndpointType:
		return xds.EndpointType
	case xds.ListenerType:
		return xds.ListenerType
	case xds.RouteType:
		return xds.RouteType
	case xds.RuntimeType:
		return xds.RuntimeType
	}
	return ""
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

// serveDelta serves one stream: it takes requests until the peer is gone (nil) or breaks a
// rule. Responses are sent by whoever has them to send; see post.
func (s *Server) serveDelta(id int64, gs deltaStream) error {
	if err := s.opened(gs.Context(), id); err != nil {
		return err
	}
	defer s.closed(id)
	s.mu.Lock()
	str := s.streams[id]
	s.mu.Unlock()
	box := &outbox{stream: gs, subs: map[xds.TypeURL]*deltaSub{}}
	defer box.sender.Wait()
	defer s.unwatch(str)
	var req discoveryv3.DeltaDiscoveryRequest // used again: nothing keeps a request
	for {
		if err := gs.RecvMsg(&req); err != nil {
			return nil
		}
		if str.node == "" {
			if err := s.admit(str, req.GetNode()); err != nil {
				return err
			}
		}
		if err := s.asked(str, box, &req); err != nil {
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
	if nonce := req.GetResponseNonce(); nonce != "" {
		if nonce == box.nonce {
			box.open = 0 // what came before it has arrived, too
		}
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
	w := &sub.watch
	*w = watch{typ: t, stream: str, sub: sub, delta: sub, box: box}
	s.calls(n, w)
	n.watches[kindOf(t)] = w
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
		for i, w := range n.watches {
			if w != nil && w.stream == str {
				n.watches[i] = nil
			}
		}
	}
}

// post sends a response and books its nonce; the response is a frame, or a message that
// yet lacks the nonce. What the connection certainly has room for it is handed at once, as
// it wakes nobody but the connection's writer; the rest is a sender's, who may have to wait.
func (s *Server) post(w *watch, message any, version uint64) {
	b := w.box
	b.nonces++
	b.nonce = newNonce(b.nonces)
	s.ledger.Sent(w.stream.id, string(w.typ), b.nonce, version, s.now())
	switch m := message.(type) {
	case *frame:
		m.own = protowire.AppendString(protowire.AppendTag(m.own, fieldNonce, protowire.BytesType), b.nonce)
		size := m.shared.Len() + len(m.own) + messageHead
		if m.atOnce = !b.sending && b.open+size <= openBytes; m.atOnce {
			b.open += size
			_ = b.stream.SendMsg(m) // what fails ends the stream, as its receiver learns
			return
		}
	case *discoveryv3.DeltaDiscoveryResponse:
		m.Nonce = b.nonce
	}
	b.open = openBytes
	b.queued = append(b.queued, message)
	if !b.sending {
		b.sending = true
		b.sender.Go(func() { s.sendAll(b) })
	}
}

// messageHead is what gRPC puts before a message, in bytes.
const messageHead = 5

// newNonce draws the nonce of a stream's nth response. It cannot be guessed: who names it
// has received it.
func newNonce(n uint64) string {
	var secret [8]byte
	_, _ = rand.Read(secret[:]) // it never fails
	out := append(strconv.AppendUint(make([]byte, 0, 40), n, 10), '-')
	return string(hex.AppendEncode(out, secret[:]))
}

// sendAll sends until an outbox is empty, or the stream has ended.
func (s *Server) sendAll(b *outbox) {
	for {
		queued := s.take(b)
		for _, message := range queued {
			if err := b.stream.SendMsg(message); err != nil {
				return
			}
		}
		if len(queued) == 0 {
			return
		}
	}
}

// take empties an outbox; if it is empty, the sender is to go.
func (s *Server) take(b *outbox) []any {
	s.mu.Lock()
	defer s.mu.Unlock()
	queued := b.queued
	b.queued, b.sending = nil, len(queued) > 0
	return queued
}

// step is the difference of two lists of the same names.
type step struct {
	changed []xds.Resource // as they are in the second
	body    mem.Buffer     // a DeltaDiscoveryResponse with all of them, marshalled
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
	if key == s.key {
		return s.step // one proxy after the other makes the same
	}
	out, known := s.steps[key]
	if !known {
		if s.steps == nil {
			s.steps = map[stepKey]*step{}
		}
		out = newStep(t, from, to, s.ttl)
		s.steps[key] = out
	}
	s.key, s.step = key, out
	return out
}

// same reports whether two lists have the same resources in the same versions.
func (s *scenes) same(t xds.TypeURL, a, b []xds.Resource) bool {
	if len(a) != len(b) || oneList(a, b) {
		return len(a) == len(b)
	}
	step := s.stepOf(t, a, b)
	return step != nil && len(step.changed) == 0
}

// newStep works a difference out; ttl is for how long an overlay layer that is armed holds.
func newStep(t xds.TypeURL, from, to []xds.Resource, ttl time.Duration) *step {
	out, update := new(step), &discoveryv3.DeltaDiscoveryResponse{TypeUrl: string(t)}
	var holds *durationpb.Duration
	if offered := (&xds.Resources{}).With(t, to); t == xds.RuntimeType && offered.Armed() {
		holds = durationpb.New(ttl)
	}
	for i := range to {
		switch r := &to[i]; {
		case r.Name != from[i].Name:
			return nil
		case r.Version != from[i].Version:
			out.changed = append(out.changed, *r)
			update.Resources = append(update.Resources,
				&discoveryv3.Resource{Name: r.Name, Version: r.Version, Resource: r.Body, Ttl: holds})
		}
	}
	body, err := protobuf.Marshal(update)
	if err != nil {
		return nil // the long way says why
	}
	out.body = mem.SliceBuffer(body)
	return out
}

// respondFast is respond for a subscriber that was told all of a list, of which some
// resources have changed since: the response is ready made. It reports whether that was so.
func (s *Server) respondFast(n *node, w *watch) bool {
	if w.delta == nil || w.delta.known == nil {
		return false
	}
	offered := n.serving.Of(w.typ)
	if oneList(offered, w.delta.known) {
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
	n.watches[kindOf(w.typ)] = nil
	version := n.version[kindOf(w.typ)]
	s.post(w, newFrame(step.body, strconv.FormatUint(version, 10)), version)
	return true
}

// newFrame is a response with a body, which is many streams', and a version.
func newFrame(body mem.Buffer, version string) *frame {
	const most = 64 // bytes of a version and a nonce
	own := protowire.AppendTag(make([]byte, 0, most), fieldVersion, protowire.BytesType)
	return &frame{shared: body, own: protowire.AppendString(own, version)}
}

// beatOf returns a heartbeat of a layer, which lists that are one piece of memory share; nil
// if it does not marshal.
func (s *scenes) beatOf(layer *xds.Resource) mem.Buffer {
	if s.layer == layer {
		return s.beat
	}
	body, err := protobuf.Marshal(&discoveryv3.DeltaDiscoveryResponse{
		TypeUrl:   string(xds.RuntimeType),
		Resources: []*discoveryv3.Resource{{Name: layer.Name, Version: layer.Version, Ttl: durationpb.New(s.ttl)}},
	})
	if err != nil {
		return nil
	}
	s.layer, s.beat = layer, mem.SliceBuffer(body)
	return s.beat
}
