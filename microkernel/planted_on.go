//go:build planted

package microkernel

// plantedBug is the one bug that is switched on, "" = none.
//
//nolint:gochecknoglobals // the switch of a build that exists only to be wrong
var plantedBug string

// Plant switches one planted bug on, "" none. Not while a Step runs.
func Plant(name string) { plantedBug = name }

func planted(name string) bool { return name == plantedBug }
