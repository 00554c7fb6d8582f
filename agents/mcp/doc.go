// Package mcp lets AI agents use Sluice over the Model Context Protocol: they see the
// topology, symptoms, groups and plans, have programs checked, and propose them. No tool
// approves, aborts, pauses or executes anything: [API], through which every tool speaks,
// has no such method, and the control plane judges what is proposed by the token that
// came with it. This package holds no credential of its own: over HTTP each request's
// bearer token is handed on, on standard input and output the one given to [New].
//
// Protocol: modelcontextprotocol.io, by its official Go SDK.
package mcp
