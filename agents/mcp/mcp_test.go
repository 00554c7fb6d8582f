package mcp_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluicemesh/sluice/agents/mcp"
	"github.com/sluicemesh/sluice/api/client"
	"github.com/sluicemesh/sluice/internal/fakeplane"
)

const restartProfile = `plan by-mcp
r1 = restart hotel/profile
`

// control serves the API and returns a client of it without a token.
func control(t *testing.T) client.Client {
	t.Helper()
	handler, err := fakeplane.New().Handler(nil)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	api, err := client.New(server.URL, "")
	if err != nil {
		t.Fatal(err)
	}
	return api
}

// bearer sends token with every request.
type bearer string

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+string(b))
	return http.DefaultTransport.RoundTrip(r)
}

// dial connects the SDK's client to s over HTTP as the holder of token.
func dial(t *testing.T, s *mcp.Server, token string) *sdk.ClientSession {
	t.Helper()
	door := httptest.NewServer(s.Handler())
	t.Cleanup(door.Close)
	transport := &sdk.StreamableClientTransport{
		Endpoint: door.URL, HTTPClient: &http.Client{Transport: bearer(token)}, DisableStandaloneSSE: true,
	}
	session, err := sdk.NewClient(&sdk.Implementation{Name: "test"}, nil).Connect(t.Context(), transport, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = session.Close() })
	return session
}

// call returns what a tool answered, and whether it was an error.
func call(t *testing.T, session *sdk.ClientSession, tool string, arguments map[string]any) (string, bool) {
	t.Helper()
	result, err := session.CallTool(t.Context(), &sdk.CallToolParams{Name: tool, Arguments: arguments})
	if err != nil {
		return err.Error(), true
	}
	var text strings.Builder
	for _, content := range result.Content {
		if part, ok := content.(*sdk.TextContent); ok {
			text.WriteString(part.Text)
		}
	}
	return text.String(), result.IsError
}

func TestNoToolExecutes(t *testing.T) {
	session := dial(t, mcp.New(control(t), nil, "test"), fakeplane.AdminToken)
	list, err := session.ListTools(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	var names, writing []string
	for _, tool := range list.Tools {
		names = append(names, tool.Name)
		if !tool.Annotations.ReadOnlyHint {
			writing = append(writing, tool.Name)
		}
	}
	want := []string{"group", "plan", "plans", "propose", "status", "symptoms", "topology", "validate"}
	if slices.Sort(names); !slices.Equal(names, want) || !slices.Equal(writing, []string{"propose"}) {
		t.Errorf("tools %v, of them writing %v; want %v and propose", names, writing, want)
	}
	for _, name := range []string{"approve", "abort", "pause", "resume", "restart", "ApprovePlan"} {
		if answer, failed := call(t, session, name, map[string]any{"id": "x"}); !failed {
			t.Errorf("%s with an admin's token: %s", name, answer)
		}
	}
}

func TestAnAgentProposesWithItsOwnToken(t *testing.T) {
	s := mcp.New(control(t), nil, "test")
	viewer, proposer := dial(t, s, fakeplane.ViewerToken), dial(t, s, fakeplane.ProposerToken)
	program := map[string]any{"program": restartProfile}
	for _, step := range []struct {
		who       *sdk.ClientSession
		tool      string
		arguments map[string]any
		failed    bool
		want      string
	}{
		{viewer, "symptoms", nil, false, `"service":"hotel/profile"`},
		{viewer, "group", map[string]any{"service": "hotel/profile"}, false, `"restart_set"`},
		{viewer, "topology", map[string]any{"service": "hotel/profile"}, false, `"caller":"hotel/frontend"`},
		{viewer, "topology", map[string]any{"service": "hotel/nothing"}, true, "list services with topology"},
		{viewer, "validate", program, false, `"verdict":"admit"`},
		{viewer, "validate", map[string]any{"program": "plan x\nr1 = reboot a/b\n"}, false, `"code":"decode"`},
		{viewer, "propose", program, true, "ask for role proposer"},
		{proposer, "plan", map[string]any{"id": "by-mcp"}, true, "list what does"},
		{proposer, "propose", program, false, `"verdict":"admit"`},
		{proposer, "plan", map[string]any{"id": "by-mcp"}, false, `"proposer":"rules"`},
		{proposer, "propose", map[string]any{"program": strings.Repeat("#", 70_000)}, true, "at most 65536"},
		{proposer, "propose", map[string]any{"program": restartProfile, "approve": true}, true, "approve"},
	} {
		answer, failed := call(t, step.who, step.tool, step.arguments)
		if answer = strings.ReplaceAll(answer, ": ", ":"); failed != step.failed ||
			!strings.Contains(answer, step.want) && !strings.Contains(strings.ReplaceAll(answer, " ", ""), step.want) {
			t.Errorf("%s %v: failed %v, %.300s; want %q", step.tool, step.arguments, failed, answer, step.want)
		}
	}
}

func TestWithoutATokenNothingIsAnswered(t *testing.T) {
	s := mcp.New(control(t), func() (string, error) { return fakeplane.AdminToken, nil }, "test")
	door := httptest.NewServer(s.Handler())
	t.Cleanup(door.Close)
	body := strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"tools/list"}`)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, door.URL, body)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusUnauthorized {
		t.Errorf("status %d, want 401: the server's own token is not lent to the network", response.StatusCode)
	}
	if answer, failed := call(t, dial(t, s, "wrong"), "status", nil); !failed || !strings.Contains(answer, "token is not known") {
		t.Errorf("an unknown token: %s", answer)
	}
}

func TestStandardInputAndOutput(t *testing.T) {
	s := mcp.New(control(t), func() (string, error) { return fakeplane.ProposerToken, nil }, "test")
	here, there := sdk.NewInMemoryTransports()
	ended := make(chan error, 1)
	ctx, stop := context.WithCancel(t.Context())
	go func() { ended <- s.Run(ctx, there) }()
	session, err := sdk.NewClient(&sdk.Implementation{Name: "test"}, nil).Connect(t.Context(), here, nil)
	if err != nil {
		t.Fatal(err)
	}
	if answer, failed := call(t, session, "status", nil); failed || !strings.Contains(answer, `"mode"`) {
		t.Errorf("status: %s", answer)
	}
	for uri, want := range map[string]string{
		"sluice://isa/grammar": "drain", "sluice://isa/schema": `"$schema"`, "sluice://isa/coverage": "# What seven actions cover",
	} {
		read, err := session.ReadResource(t.Context(), &sdk.ReadResourceParams{URI: uri})
		if err != nil || !strings.Contains(read.Contents[0].Text, want) {
			t.Errorf("%s: %v", uri, err)
		}
	}
	stop()
	<-ended
}
