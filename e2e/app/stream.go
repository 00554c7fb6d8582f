package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"golang.org/x/net/websocket"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/sluicemesh/sluice/e2e/app/shape"
)

// echo answers each message of a websocket with itself. The last message is "end".
func (n *node) echo(conn *websocket.Conn) {
	defer conn.Close()
	messages := make(chan string)
	var group sync.WaitGroup
	defer group.Wait()
	gone := make(chan struct{})
	defer close(gone)
	group.Go(func() {
		defer close(messages)
		for {
			var text string
			if websocket.Message.Receive(conn, &text) != nil {
				return
			}
			select {
			case messages <- text:
			case <-gone:
				return
			}
		}
	})
	for {
		select {
		case text, open := <-messages:
			if !open || websocket.Message.Send(conn, text) != nil {
				conn.Close()
				return
			}
		case <-n.stopping:
			_ = websocket.Message.Send(conn, "end")
			conn.Close()
			return
		}
	}
}

// stream passes on the messages of the node's streaming upstream, a line each; the
// last line is "end". A node that has none sends its own.
func (n *node) stream(w http.ResponseWriter, r *http.Request) {
	w.Header().Set(headerApp, n.service.Name)
	next, err := n.source(r)
	if err != nil {
		unreachable("").write(n.service.Name, w.Header().Set)
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	flusher := http.NewResponseController(w)
	for {
		text, err := next()
		if errors.Is(err, io.EOF) {
			text = "end"
		} else if err != nil {
			panic(http.ErrAbortHandler) // the client sees a cut stream, not a short one
		}
		if _, err := fmt.Fprintln(w, text); err != nil || flusher.Flush() != nil || text == "end" {
			return
		}
	}
}

// source opens the stream of messages to pass on.
func (n *node) source(r *http.Request) (next func() (string, error), err error) {
	for _, step := range n.service.Operations["stream"] {
		for _, call := range step.Calls() {
			if call.Via == shape.Stream {
				return n.peers[call.To].watch(outgoing(r.Context(), r.Header.Get(headerKey)), n.stopping)
			}
		}
	}
	count := 0
	return func() (string, error) {
		count++
		select {
		case <-n.stopping:
			return "", io.EOF
		case <-time.After(beat):
			return strconv.Itoa(count), nil
		case <-r.Context().Done():
			return "", context.Cause(r.Context())
		}
	}, nil
}

// watch opens a server stream; its end is io.EOF, also when stopping is closed.
func (p *peer) watch(ctx context.Context, stopping <-chan struct{}) (func() (string, error), error) {
	desc := &grpc.StreamDesc{StreamName: "Watch", ServerStreams: true}
	ctx, cancel := context.WithCancel(ctx)
	stream, err := p.rpc.NewStream(ctx, desc, rpcWatch)
	if err == nil {
		err = errors.Join(stream.SendMsg(wrapperspb.String("watch")), stream.CloseSend())
	}
	if err != nil {
		cancel()
		return nil, fmt.Errorf("watch %s: %w", p.name, err)
	}
	go func() {
		select {
		case <-stopping:
		case <-ctx.Done():
		}
		cancel()
	}()
	return func() (string, error) { return receive(stream, stopping) }, nil
}

// receive returns the next message of a stream.
func receive(stream grpc.ClientStream, stopping <-chan struct{}) (string, error) {
	message := new(wrapperspb.StringValue)
	err := stream.RecvMsg(message)
	if err == nil {
		return message.Value, nil
	}
	select {
	case <-stopping:
		return "", io.EOF
	default:
		return "", err
	}
}
