package server

import (
	"testing"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/sluicemesh/sluice/xds"
)

// FuzzRequest holds the codec to protobuf's own reading of a request.
func FuzzRequest(f *testing.F) {
	for _, req := range []*discoveryv3.DeltaDiscoveryRequest{
		{},
		{TypeUrl: string(xds.EndpointType), ResponseNonce: "17-0123456789abcdef"},
		{TypeUrl: string(xds.RuntimeType)},
		{TypeUrl: "type.googleapis.com/of.another.Kind", ResponseNonce: "1"},
		{TypeUrl: string(xds.ClusterType), ResponseNonce: "2", ErrorDetail: &spb.Status{Code: 3, Message: "no"}},
		{Node: &corev3.Node{Id: "web-0"}, TypeUrl: string(xds.ListenerType), ResourceNamesSubscribe: []string{"a", "*"}},
		{TypeUrl: string(xds.RouteType), InitialResourceVersions: map[string]string{"in": "1"}},
	} {
		data, err := proto.Marshal(req)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
		f.Add(append(data, data...))            // each field twice
		f.Add(append(data, 0x12, 1, 'x'))       // another type, which counts
		f.Add(append(data, 0x32, 1, 0xff))      // a nonce that is no text
		f.Add(append(data, 0x32, 0x80))         // cut off
		f.Add(append(data, 0xb2, 0x80, 0, 0))   // a field's number at length
		f.Add(append(data, 0x33, 0x34, 0x10))   // a group, a number
		f.Add(append(data, 0xfa, 0x7f, 1, 'u')) // unknown
	}
	codec := newCodec()
	f.Fuzz(func(t *testing.T, data []byte) {
		want := new(discoveryv3.DeltaDiscoveryRequest)
		wanted := proto.Unmarshal(data, want)
		// What was there before does not shine through.
		got := &discoveryv3.DeltaDiscoveryRequest{ResponseNonce: "old", ErrorDetail: &spb.Status{Code: 1}}
		err := codec.Unmarshal(mem.BufferSlice{mem.SliceBuffer(data)}, got)
		if (err == nil) != (wanted == nil) {
			t.Fatalf("got %v, protobuf says %v", err, wanted)
		}
		if err == nil && !proto.Equal(got, want) {
			t.Fatalf("got %v, protobuf reads %v", got, want)
		}
	})
}
