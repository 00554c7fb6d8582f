//go:build !linux

package local

import "errors"

// supported reports whether processes can be supervised on this system.
const supported = false

var errUnsupported = errors.New("not supported on this system")

// startTime is not known here.
func startTime(int) (uint64, error) { return 0, errUnsupported }

// ended reports whether err says that there is no such process.
func ended(error) bool { return false }

// exitWatch is not to be had here.
type exitWatch struct{}

// watchExit always fails here.
func watchExit(int, uint64) (*exitWatch, error) { return nil, errUnsupported }

// wait returns at once.
func (*exitWatch) wait() {}

// marked finds nothing here.
func marked(string) map[int]string { return nil }

// listening finds nothing here.
func listening() map[uint16]bool { return nil }
