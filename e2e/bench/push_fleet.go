package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// fleetCommand is the hidden first argument with which this program is the clients of a
// push bench: a process of its own, so that the server's processor time can be told apart.
const fleetCommand = "fleet"

const (
	fleetReadyIn   = 2 * time.Minute
	fleetAtOnce    = 64   // streams that are being opened at the same time
	fleetReadSize  = 4096 // bytes
	fleetWindow    = 1 << 20
	fleetNode      = "proxy-%05d"
	methodDelta    = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
	methodSotw     = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources"
	fieldOfVersion = 1 // of a DiscoveryResponse
	fieldOfType    = 4 // of both responses
	fieldOfNonce   = 5 // of both responses
)

// fleetConfig is what the clients are told on their standard input.
type fleetConfig struct {
	Socket  string
	Clients int
	Sotw    bool
	Want    []subscription // the same for all
}

// subscription is one type and what is asked for of it, nothing for everything.
type subscription struct {
	Type  string
	Names []string
}

// fleet is the clients as their server's process sees them.
type fleet struct {
	command *exec.Cmd
	input   io.WriteCloser
}

// startFleet starts the clients and returns when each has been answered once for each type.
func startFleet(ctx context.Context, c fleetConfig) (*fleet, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("start the clients: %w", err)
	}
	f := &fleet{command: exec.CommandContext(ctx, self, fleetCommand)}
	f.command.Stderr = os.Stderr
	if f.input, err = f.command.StdinPipe(); err != nil {
		return nil, fmt.Errorf("start the clients: %w", err)
	}
	output, err := f.command.StdoutPipe()
	if err == nil {
		err = f.command.Start()
	}
	if err != nil {
		return nil, fmt.Errorf("start the clients: %w", err)
	}
	text, err := json.Marshal(c)
	if err == nil {
		_, err = f.input.Write(append(text, '\n'))
	}
	line := ""
	if err == nil {
		line, err = bufio.NewReader(output).ReadString('\n')
	}
	if err != nil || line != "ready\n" {
		return nil, errors.Join(fmt.Errorf("the clients are not ready, they said %q: %w", line, err), f.stop())
	}
	return f, nil
}

// stop ends the clients.
func (f *fleet) stop() error {
	_ = f.input.Close()
	return f.command.Wait()
}

// runFleet is the clients' process: it answers until its standard input ends.
func runFleet(ctx context.Context) int {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	input := bufio.NewReader(os.Stdin)
	line, err := input.ReadBytes('\n')
	var c fleetConfig
	if err == nil {
		err = json.Unmarshal(line, &c)
	}
	if err == nil {
		err = c.connect(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench fleet:", err)
		return exitFailed
	}
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, input)
	return 0
}

// connect opens all streams; they answer until ctx ends.
func (c *fleetConfig) connect(ctx context.Context) error {
	var opening sync.WaitGroup
	slots := make(chan struct{}, fleetAtOnce)
	failed := make(chan error, c.Clients)
	for n := range c.Clients {
		slots <- struct{}{}
		opening.Go(func() {
			defer func() { <-slots }()
			if err := c.open(ctx, n); err != nil {
				failed <- fmt.Errorf("client %d: %w", n, err)
			}
		})
	}
	opening.Wait()
	close(failed)
	return <-failed
}

// open opens one stream on a connection of its own, and returns when it was answered
// once for each type.
func (c *fleetConfig) open(ctx context.Context, n int) error {
	// Like Envoy, and unlike grpc-go by default, it does not ping to learn the bandwidth.
	conn, err := grpc.NewClient("unix:"+c.Socket, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithReadBufferSize(fleetReadSize), grpc.WithWriteBufferSize(fleetReadSize),
		grpc.WithInitialWindowSize(fleetWindow), grpc.WithInitialConnWindowSize(fleetWindow))
	if err != nil {
		return err
	}
	method := methodDelta
	if c.Sotw {
		method = methodSotw
	}
	str, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, method, grpc.ForceCodecV2(rawCodec{}))
	if err != nil {
		return err
	}
	p := &fakeProxy{stream: str, waits: map[string]bool{}, ack: map[string][]byte{}, ready: make(chan error, 1)}
	for _, want := range c.Want {
		first, ack, err := c.messages(fmt.Sprintf(fleetNode, n), want)
		if err != nil {
			return err
		}
		p.waits[want.Type], p.ack[want.Type] = true, ack
		if err := str.SendMsg(first); err != nil {
			return err
		}
	}
	go p.answer(c.Sotw)
	select {
	case err := <-p.ready:
		return err
	case <-time.After(fleetReadyIn):
		return errors.New("not answered for every type in time")
	}
}

// messages are the first request for a type, and what all ACKs of it have in common.
func (c *fleetConfig) messages(node string, want subscription) (first, ack []byte, err error) {
	who := &corev3.Node{Id: node, Cluster: "bench", UserAgentName: "bench"}
	var one, other proto.Message
	if c.Sotw {
		one = &discoveryv3.DiscoveryRequest{Node: who, TypeUrl: want.Type, ResourceNames: want.Names}
		other = &discoveryv3.DiscoveryRequest{TypeUrl: want.Type, ResourceNames: want.Names}
	} else {
		one = &discoveryv3.DeltaDiscoveryRequest{Node: who, TypeUrl: want.Type, ResourceNamesSubscribe: want.Names}
		other = &discoveryv3.DeltaDiscoveryRequest{TypeUrl: want.Type}
	}
	if first, err = proto.Marshal(one); err == nil {
		ack, err = proto.Marshal(other)
	}
	return first, ack, err
}

// fakeProxy takes everything: it looks at no more of a response than an ACK needs.
type fakeProxy struct {
	stream grpc.ClientStream
	waits  map[string]bool
	ack    map[string][]byte
	ready  chan error
}

// answer ACKs until the stream ends.
func (p *fakeProxy) answer(sotw bool) {
	nonceField, versionField := protowire.Number(6), protowire.Number(0) // of a DeltaDiscoveryRequest
	if sotw {
		nonceField, versionField = 5, 1
	}
	for {
		var data []byte
		err := p.stream.RecvMsg(&data)
		if err != nil {
			if len(p.waits) > 0 {
				p.ready <- err
			}
			return
		}
		r := scanResponse(data)
		ack := append([]byte(nil), p.ack[r.typ]...)
		if versionField > 0 {
			ack = protowire.AppendString(protowire.AppendTag(ack, versionField, protowire.BytesType), r.version)
		}
		ack = protowire.AppendString(protowire.AppendTag(ack, nonceField, protowire.BytesType), r.nonce)
		if err := p.stream.SendMsg(ack); err != nil {
			continue // RecvMsg says why
		}
		if p.waits[r.typ] {
			if delete(p.waits, r.typ); len(p.waits) == 0 {
				p.ready <- nil
			}
		}
	}
}

// response is what an ACK needs of either kind of response.
type response struct{ version, typ, nonce string }

// scanResponse reads the three fields; what does not parse is as if it were not there.
func scanResponse(data []byte) response {
	var r response
	for len(data) > 0 {
		field, kind, n := protowire.ConsumeTag(data)
		if n < 0 {
			return r
		}
		size := protowire.ConsumeFieldValue(field, kind, data[n:])
		if size < 0 {
			return r
		}
		value := data[n : n+size]
		if kind == protowire.BytesType {
			text, _ := protowire.ConsumeBytes(value)
			switch field {
			case fieldOfVersion:
				r.version = string(text)
			case fieldOfType:
				r.typ = string(text)
			case fieldOfNonce:
				r.nonce = string(text)
			}
		}
		data = data[n+size:]
	}
	return r
}

// rawCodec passes messages on as the bytes that they are.
type rawCodec struct{}

// Name implements encoding.CodecV2.
func (rawCodec) Name() string { return "proto" }

// Marshal implements encoding.CodecV2 for []byte.
func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	data, ok := v.([]byte)
	if !ok {
		return nil, fmt.Errorf("%T is not bytes", v)
	}
	return mem.BufferSlice{mem.SliceBuffer(data)}, nil
}

// Unmarshal implements encoding.CodecV2 for *[]byte.
func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	out, ok := v.(*[]byte)
	if !ok {
		return fmt.Errorf("%T is not bytes", v)
	}
	*out = data.Materialize()
	return nil
}
