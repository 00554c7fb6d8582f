// Package scenario is the suite of scenarios on a cluster. It needs a kubectl that is the
// administrator of a cluster which has the images, and nothing else: the load comes from a
// pod. It is not for bringing clusters up: package cluster does that.
package scenario
