//go:build !linux

package server

import "net"

// sameUser relies on the mode 0600 of the socket where there is no SO_PEERCRED.
func sameUser(*net.UnixConn) error { return nil }
