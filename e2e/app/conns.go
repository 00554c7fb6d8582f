package main

import (
	"net"
	"net/http"
	"sync"
)

// conns are the connections on which no request has come yet. Clients open some in
// vain, and http.Server.Shutdown waits 5 s for the first request of each: longer than
// the grace of a restart.
type conns struct {
	mu   sync.Mutex
	open map[net.Conn]bool
}

func newConns() *conns { return &conns{open: map[net.Conn]bool{}} }

// note is a hook of http.Server.
func (c *conns) note(conn net.Conn, state http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if state == http.StateNew {
		c.open[conn] = true
		return
	}
	delete(c.open, conn)
}

func (c *conns) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for conn := range c.open {
		conn.Close()
	}
}
