package replica

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sluicemesh/sluice/xds/server"
)

// service and method name the one call; never change.
const (
	service = "sluice.replica.v1.Replicas"
	method  = "Follow"
)

// maxMessage bounds an order or an account, in bytes.
const maxMessage = 64 << 20

// codec carries messages as JSON.
type codec struct{}

// Name implements encoding.Codec.
func (codec) Name() string { return "sluice-json" }

// Marshal implements encoding.Codec.
func (codec) Marshal(v any) ([]byte, error) { return json.Marshal(v) }

// Unmarshal implements encoding.Codec: one document, all of whose fields are known.
func (codec) Unmarshal(data []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return fmt.Errorf("message of a replica: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("message of a replica: more than one document")
	}
	return nil
}

// description is the service as gRPC wants it.
func description() *grpc.ServiceDesc {
	return &grpc.ServiceDesc{
		ServiceName: service, HandlerType: (*any)(nil),
		Streams: []grpc.StreamDesc{{
			StreamName: method, ServerStreams: true, ClientStreams: true,
			Handler: func(srv any, stream grpc.ServerStream) error { return srv.(*following).serve(stream) },
		}},
	}
}

// coded gives an error the code by which the other end knows what it means.
func coded(err error) error {
	if errors.Is(err, server.ErrEpoch) || errors.Is(err, server.ErrFollower) {
		return status.Error(codes.FailedPrecondition, err.Error())
	}
	return err
}
