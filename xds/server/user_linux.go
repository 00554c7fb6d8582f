package server

import (
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// sameUser returns nil if the process at the other end of a Unix socket is of our user, as
// the kernel noted when it connected (SO_PEERCRED), or is root.
func sameUser(conn *net.UnixConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var cred *unix.Ucred
	var fault error
	err = raw.Control(func(fd uintptr) {
		cred, fault = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err != nil {
		return err
	}
	if fault != nil {
		return fmt.Errorf("SO_PEERCRED: %w", fault)
	}
	return allowUser(cred.Uid, os.Getuid())
}

// allowUser says whether a peer's user may connect to ours. Root could be anybody anyway.
func allowUser(peer uint32, own int) error {
	if peer == 0 || int64(peer) == int64(own) {
		return nil
	}
	return fmt.Errorf("it is of user %d, only user %d may connect", peer, own)
}
