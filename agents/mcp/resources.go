package mcp

import (
	"context"
	"strings"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluicemesh/sluice/docs"
	"github.com/sluicemesh/sluice/isa"
)

// addResources registers what a program is written by.
func (s *Server) addResources() {
	s.addText("sluice://isa/grammar", "Grammar, effects and codes of the instruction set", "text/markdown",
		strings.Join([]string{"# Grammar\n\n```\n" + isa.Grammar() + "```", "# Effects\n\n" + isa.EffectTable(),
			"# Codes\n\n" + isa.CodeTable()}, "\n\n"))
	s.addText("sluice://isa/schema", "JSON Schema of a program", "application/schema+json", string(isa.Schema()))
	s.addText("sluice://isa/coverage", "Failure modes and raw commands, each with its plan", "text/markdown", docs.Coverage)
}

func (s *Server) addText(uri, title, mime, text string) {
	resource := &sdk.Resource{URI: uri, Name: strings.TrimPrefix(uri, "sluice://"), Title: title, MIMEType: mime, Size: int64(len(text))}
	s.sdk.AddResource(resource, func(context.Context, *sdk.ReadResourceRequest) (*sdk.ReadResourceResult, error) {
		return &sdk.ReadResourceResult{Contents: []*sdk.ResourceContents{{URI: uri, MIMEType: mime, Text: text}}}, nil
	})
}
