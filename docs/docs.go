// Package docs holds the documents that programs serve. The documents themselves are
// the files beside this one.
package docs

import _ "embed" // for Coverage

// Coverage is coverage.md: failure modes and raw commands, each with its plan.
//
//go:embed coverage.md
var Coverage string
