package mcp

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"connectrpc.com/connect"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// errNoToken is a request that nobody stands behind.
var errNoToken = errors.New("no token: start with --token-file FILE, or send Authorization: Bearer TOKEN")

// bearerOf returns the bearer token in header, "" if there is none.
func bearerOf(header http.Header) string {
	token, found := strings.CutPrefix(header.Get("Authorization"), "Bearer ")
	if !found {
		return ""
	}
	return token
}

// authorise gives request the caller's own token, or the server's if the caller came
// over standard input.
func (s *Server) authorise(call *sdk.CallToolRequest, request connect.AnyRequest) error {
	token := ""
	if call.Extra != nil && call.Extra.Header != nil {
		token = bearerOf(call.Extra.Header)
	} else if s.token != nil {
		own, err := s.token()
		if err != nil {
			return err
		}
		token = own
	}
	if token == "" {
		return errNoToken
	}
	request.Header().Set("Authorization", "Bearer "+token)
	return nil
}

// unary is one method of the API.
type unary[In, Out any] func(context.Context, *connect.Request[In]) (*connect.Response[Out], error)

// ask calls method with message under the caller's token.
func ask[In, Out any](
	ctx context.Context, s *Server, call *sdk.CallToolRequest, method unary[In, Out], message *In,
) (*Out, error) {
	ctx, cancel := context.WithTimeout(ctx, CallTimeout)
	defer cancel()
	request := connect.NewRequest(message)
	if err := s.authorise(call, request); err != nil {
		return nil, err
	}
	response, err := method(ctx, request)
	if err != nil {
		return nil, explain(err)
	}
	return response.Msg, nil
}

// explain turns an error of the API into one that says what to do.
func explain(err error) error {
	remedy := map[connect.Code]string{
		connect.CodeUnauthenticated:  "the token is not known: ask the operator for one of role proposer",
		connect.CodePermissionDenied: "the token's role does not allow it: ask for role proposer",
		connect.CodeUnavailable:      "the control plane does not answer: look whether sluiced runs, then try again",
		connect.CodeNotFound:         "it does not exist: list what does",
	}[connect.CodeOf(err)]
	if remedy == "" {
		return err
	}
	return fmt.Errorf("%w (%s)", err, remedy)
}

// answer is a result that holds message as JSON. Every name in it is registered and every
// sentence is the control plane's own: no text of telemetry is among them.
func answer(message proto.Message) (*sdk.CallToolResult, error) {
	text, err := protojson.MarshalOptions{EmitDefaultValues: true, UseProtoNames: true}.Marshal(message)
	if err != nil {
		return nil, fmt.Errorf("encode the answer: %w", err)
	}
	return &sdk.CallToolResult{Content: []sdk.Content{&sdk.TextContent{Text: string(text)}}}, nil
}
