package local

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// supported reports whether processes can be supervised on this system.
const supported = true

// startTime returns when pid started, in clock ticks since boot: with the pid, the
// identity of a process. A zombie counts as ended. Source: proc(5), stat, field 22.
func startTime(pid int) (uint64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("process %d: %w", pid, err)
	}
	// The command's name is in brackets and may hold anything: count after it.
	_, rest, found := bytes.Cut(data[max(bytes.LastIndexByte(data, ')'), 0):], []byte(") "))
	fields := bytes.Fields(rest)
	if !found || len(fields) < 20 {
		return 0, fmt.Errorf("process %d: stat is not understood", pid)
	}
	if fields[0][0] == 'Z' || fields[0][0] == 'X' {
		return 0, fmt.Errorf("process %d: %w", pid, os.ErrProcessDone)
	}
	return strconv.ParseUint(string(fields[19]), 10, 64)
}

// ended reports whether err of startTime says that there is no such process.
func ended(err error) bool {
	return errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrProcessDone) || errors.Is(err, unix.ESRCH)
}

// exitWatch waits for the end of one process, child of ours or not.
type exitWatch struct {
	pid   int
	start uint64
	fd    *os.File // pidfd, nil = the kernel has none: poll
}

// watchExit begins to watch pid, which must have started at start.
func watchExit(pid int, start uint64) (*exitWatch, error) {
	w := &exitWatch{pid: pid, start: start}
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	switch {
	case err == nil:
		w.fd = os.NewFile(uintptr(fd), "pidfd")
	case errors.Is(err, unix.ESRCH):
		return nil, fmt.Errorf("process %d: %w", pid, os.ErrProcessDone)
	}
	// Checked after the pidfd was opened, so that both mean the same process.
	now, err := startTime(pid)
	switch {
	case err == nil && now != start, ended(err):
		w.close()
		return nil, fmt.Errorf("process %d: %w", pid, os.ErrProcessDone)
	case err != nil:
		w.close()
		return nil, err
	}
	return w, nil
}

// wait returns when the process has ended (it may still be a zombie).
func (w *exitWatch) wait() {
	defer w.close()
	if w.fd != nil {
		if conn, err := w.fd.SyscallConn(); err == nil && conn.Read(readable) == nil {
			return
		}
	}
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for range ticker.C {
		if now, err := startTime(w.pid); ended(err) || (err == nil && now != w.start) {
			return
		}
	}
}

// readable reports whether a pidfd says that its process has ended.
func readable(fd uintptr) bool {
	poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, err := unix.Poll(poll, 0)
	return err == nil && n > 0
}

// close releases the pidfd.
func (w *exitWatch) close() {
	if w.fd != nil {
		w.fd.Close()
	}
}

// marked returns the session leaders whose environment says that they are children
// named by marker. Processes of other users are not seen.
func marked(marker string) map[int]string {
	prefix := []byte(markerVar + "=" + marker + "/")
	found := make(map[int]string)
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return found
	}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		if sid, err := unix.Getsid(pid); err != nil || sid != pid {
			continue
		}
		environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		if err != nil {
			continue
		}
		for variable := range bytes.SplitSeq(environ, []byte{0}) {
			if name, ok := bytes.CutPrefix(variable, prefix); ok {
				found[pid] = string(name)
			}
		}
	}
	return found
}

// listening returns the TCP ports on which something listens on IPv4.
// Source: proc(5), /proc/net/tcp; state 0A is LISTEN.
func listening() map[uint16]bool {
	ports := make(map[uint16]bool)
	data, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		return ports
	}
	for line := range bytes.Lines(data) {
		fields := bytes.Fields(line)
		if len(fields) < 4 || string(fields[3]) != "0A" {
			continue
		}
		_, hex, _ := bytes.Cut(fields[1], []byte(":"))
		if port, err := strconv.ParseUint(string(hex), 16, 16); err == nil {
			ports[uint16(port)] = true
		}
	}
	return ports
}
