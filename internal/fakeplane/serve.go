package fakeplane

import (
	"fmt"
	"net/http"

	"github.com/sluicemesh/sluice/api/server"
	"github.com/sluicemesh/sluice/microkernel"
)

// Handler serves the API of p, with page at / if it is not nil.
func (p *Plane) Handler(page http.Handler) (http.Handler, error) {
	tokens, err := server.NewTokens(
		server.Token{Secret: ViewerToken, Bearer: microkernel.Principal{Name: "vera", Role: microkernel.Viewer}},
		server.Token{Secret: ProposerToken, Bearer: microkernel.Principal{Name: "rules", Role: microkernel.Proposer}},
		server.Token{Secret: ApproverToken, Bearer: microkernel.Principal{Name: "anna", Role: microkernel.Approver}},
		server.Token{Secret: AdminToken, Bearer: microkernel.Principal{Name: "adam", Role: microkernel.Admin}},
	)
	if err != nil {
		return nil, fmt.Errorf("fake plane: %w", err)
	}
	return server.New(server.Config{
		Kernel:   p,
		Topology: &server.Evidence{Snapshots: p, Registry: p, Symptoms: p, Overlays: p.Overlays},
		Symptoms: p, Proxies: p, Registry: p, Audit: p.Audit, Tokens: tokens,
		Version: "v0.1.0", Commit: "0123456789abcdef", Started: p.Status().Started, Dashboard: page,
	})
}
