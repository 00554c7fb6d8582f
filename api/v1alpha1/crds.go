package v1alpha1

import "embed"

// Definitions are the CustomResourceDefinitions, one file a kind.
//
//go:embed crds/*.yaml
var Definitions embed.FS
