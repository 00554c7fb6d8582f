package otlp

import (
	"fmt"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
)

// raw is a message that stays bytes.
type raw struct{ data []byte }

// codec hands over the bytes of a raw message and is gRPC's own for all others.
type codec struct{}

// Name implements encoding.CodecV2.
func (codec) Name() string { return proto.Name }

// Marshal implements encoding.CodecV2.
func (codec) Marshal(v any) (mem.BufferSlice, error) {
	data, err := encoding.GetCodecV2(proto.Name).Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("marshal: %w", err)
	}
	return data, nil
}

// Unmarshal implements encoding.CodecV2. The bytes are copied, since gRPC takes its
// buffers back.
func (codec) Unmarshal(data mem.BufferSlice, v any) error {
	if message, ok := v.(*raw); ok {
		message.data = data.Materialize()
		return nil
	}
	if err := encoding.GetCodecV2(proto.Name).Unmarshal(data, v); err != nil {
		return fmt.Errorf("unmarshal: %w", err)
	}
	return nil
}
