package mcp

import (
	"context"
	"net/http"
	"time"

	"connectrpc.com/connect"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	sluicev1 "github.com/sluicemesh/sluice/api/sluice/v1"
)

// Limits of the HTTP door.
const (
	MaxBody       = 256 << 10 // bytes of a request; a program has at most 64 KiB
	HeaderTimeout = 5 * time.Second
	CallTimeout   = 30 * time.Second
)

// API is what the tools may call: reads, checks and proposals.
type API interface {
	Mesh
	Plans
}

// Mesh is what the tools see of the mesh.
type Mesh interface {
	GetStatus(context.Context, *connect.Request[sluicev1.GetStatusRequest]) (
		*connect.Response[sluicev1.GetStatusResponse], error)
	GetTopology(context.Context, *connect.Request[sluicev1.GetTopologyRequest]) (
		*connect.Response[sluicev1.GetTopologyResponse], error)
	GetGroup(context.Context, *connect.Request[sluicev1.GetGroupRequest]) (
		*connect.Response[sluicev1.GetGroupResponse], error)
	ListSymptoms(context.Context, *connect.Request[sluicev1.ListSymptomsRequest]) (
		*connect.Response[sluicev1.ListSymptomsResponse], error)
}

// Plans is what the tools may do with plans.
type Plans interface {
	ListPlans(context.Context, *connect.Request[sluicev1.ListPlansRequest]) (
		*connect.Response[sluicev1.ListPlansResponse], error)
	GetPlan(context.Context, *connect.Request[sluicev1.GetPlanRequest]) (
		*connect.Response[sluicev1.GetPlanResponse], error)
	CheckPlan(context.Context, *connect.Request[sluicev1.CheckPlanRequest]) (
		*connect.Response[sluicev1.CheckPlanResponse], error)
	ProposePlan(context.Context, *connect.Request[sluicev1.ProposePlanRequest]) (
		*connect.Response[sluicev1.ProposePlanResponse], error)
}

// Server answers MCP requests.
type Server struct {
	api   API
	token func() (string, error) // for requests that bring none
	sdk   *sdk.Server
}

// New returns a server whose tools speak through api. token is asked for at each request
// that brings no bearer token of its own; nil if there is none. The version is what
// clients are told.
func New(api API, token func() (string, error), version string) *Server {
	s := &Server{api: api, token: token}
	s.sdk = sdk.NewServer(&sdk.Implementation{Name: "sluice", Title: "Sluice", Version: version}, &sdk.ServerOptions{
		Instructions: instructions, Capabilities: &sdk.ServerCapabilities{},
	})
	s.addTools()
	s.addResources()
	return s
}

const instructions = `Sluice restarts parts of a live service mesh without failing requests.
You cannot execute anything here: you propose a program of seven typed actions, and a microkernel checks it,
drains traffic, proves the drain, restarts and restores, or refuses with a code, a reason and a remedy.
Read the resource sluice://isa/grammar before you write a program; use validate before propose;
follow a proposal with plan. A verdict of "hold" means that a person has to approve it elsewhere.
To restart a service with all that is needed around it, ask group with planned = true and take its orders.`

// Run serves one client over t until it leaves or ctx ends.
func (s *Server) Run(ctx context.Context, t sdk.Transport) error { return s.sdk.Run(ctx, t) }

// Handler serves the streamable HTTP transport, without sessions. It answers 401 to
// requests without a bearer token: the server's own is not lent to the network.
func (s *Server) Handler() http.Handler {
	stream := sdk.NewStreamableHTTPHandler(func(*http.Request) *sdk.Server { return s.sdk }, &sdk.StreamableHTTPOptions{
		Stateless: true, JSONResponse: true, MaxRequestBodyBytes: MaxBody, PropagateRequestCancellation: true,
	})
	guarded := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if bearerOf(r.Header) == "" {
			w.Header().Set("WWW-Authenticate", "Bearer")
			http.Error(w, "send the token of a principal of Sluice as Authorization: Bearer TOKEN", http.StatusUnauthorized)
			return
		}
		stream.ServeHTTP(w, r)
	})
	return http.NewCrossOriginProtection().Handler(guarded)
}
