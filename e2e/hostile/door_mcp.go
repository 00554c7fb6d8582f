package main

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluicemesh/sluice/agents/mcp"
	api "github.com/sluicemesh/sluice/api/client"
	"github.com/sluicemesh/sluice/isa"
)

// mcpPatience bounds one proposal by MCP, in real time.
const mcpPatience = time.Minute

// byMCP are attacks, and twins, of other doors that are tried by MCP as well: they come as
// the argument of its tool propose, from an agent that has the SDK's client.
func byMCP(attacks []attack) []attack {
	wanted := map[string]bool{
		"5": true, "7": true, "8": true, "9": true, "10": true, "15": true, "17": true, "18": true, "19": true,
		"30": true, "B1": true, "B3": true, "B5": true, "B9": true,
	}
	var found []attack
	for _, a := range attacks {
		if !wanted[a.row] || a.door != "api" {
			continue
		}
		wanted[a.row] = false // the first case of each
		run := a.run
		a.name, a.door = a.name+", by MCP", "mcp"
		a.run = func(t *trial) (result, error) {
			t.mcp = true
			return run(t)
		}
		found = append(found, a)
	}
	return append(found, attack{
		row: "16", name: "too large, by MCP", door: "mcp", expected: "REJECT:too-large",
		run: func(t *trial) (result, error) {
			p, err := t.start(shop())
			if err != nil {
				return result{}, err
			}
			a := p.proposeMCP(agent, strings.Repeat(pick(t, "aaaaaaaa", "{[{[{[{[", "\u202e\u202e", "restart shop/cart\n"), isa.MaxBytes/6))
			return result{got: a.got(), code: a.Code, changed: p.changed()}, a.explains()
		},
	})
}

// bearer sends a token with every request.
type bearer string

// RoundTrip implements http.RoundTripper.
func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+string(b))
	return http.DefaultTransport.RoundTrip(r)
}

// proposeMCP hands in a program by MCP. What the tool answers instead of a verdict is the
// message of an error.
func (p *plane) proposeMCP(token, source string) answer {
	own, err := api.New(p.url, "")
	if err != nil {
		return answer{Message: err.Error()}
	}
	door := httptest.NewServer(mcp.New(own, nil, "test").Handler())
	defer door.Close()
	ctx, cancel := context.WithTimeout(context.Background(), mcpPatience)
	defer cancel()
	session, err := sdk.NewClient(&sdk.Implementation{Name: "hostile"}, nil).Connect(ctx, &sdk.StreamableClientTransport{
		Endpoint: door.URL, HTTPClient: &http.Client{Transport: bearer(token)}, DisableStandaloneSSE: true,
	}, nil)
	if err != nil {
		return answer{Message: err.Error()}
	}
	defer func() { _ = session.Close() }() // the door closes anyway
	said, err := session.CallTool(ctx, &sdk.CallToolParams{Name: "propose", Arguments: map[string]any{"program": source}})
	if err != nil {
		return answer{Message: err.Error()}
	}
	var text strings.Builder
	for _, content := range said.Content {
		if part, ok := content.(*sdk.TextContent); ok {
			text.WriteString(part.Text)
		}
	}
	var a answer
	if said.IsError || json.Unmarshal([]byte(text.String()), &a) != nil {
		a.Message = text.String()
	}
	return a
}
