package local

// Variables that the supervisor sets for its children.
const (
	markerVar   = "SLUICE_CHILD"    // identifies a child of this state directory
	instanceVar = "SLUICE_INSTANCE" // "cart-0"
)
