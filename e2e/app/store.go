package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sluicemesh/sluice/e2e/app/shape"
	"github.com/sluicemesh/sluice/e2e/fault"
)

// The store's protocol: one line a request, one line an answer.
//
//	SESSION caller      -> OK session
//	GET session key     -> VALUE value | GARBAGE fault | DENIED
//	SET session key     -> OK          | GARBAGE fault | DENIED
//
// session is "-" (none), or what SESSION gave; "!" before it asks for a check, which a
// store that was restarted since fails.
const (
	anonymous   = "-"
	strictMark  = "!"
	wordOK      = "OK"
	wordValue   = "VALUE"
	wordGarbage = "GARBAGE"
	wordDenied  = "DENIED"
	wordError   = "ERROR"
	maxLine     = 4 << 10
)

// line writes one request.
func line(op, session, key string) string {
	return strings.TrimRight(strings.ToUpper(op)+" "+session+" "+key, " ")
}

// cut splits an answer into its first word and the rest.
func cut(answer string) (word, rest string) {
	word, rest, _ = strings.Cut(answer, " ")
	return word, rest
}

// store is a raw-TCP store. What it knows is lost with the process.
type store struct {
	service  *shape.Service
	faults   *faults
	epoch    string // of this process: sessions of another are unknown
	mu       sync.Mutex
	sessions map[string]string // who holds it
	conns    map[net.Conn]bool
	stopping bool
}

func newStore(service *shape.Service, f *faults) *store {
	return &store{service: service, faults: f, epoch: strconv.FormatInt(time.Now().UnixNano(), 36),
		sessions: map[string]string{}, conns: map[net.Conn]bool{}}
}

// serveStore answers at address until ctx ends; then it stops listening,
// and closes each connection as soon as it is idle.
func serveStore(ctx context.Context, s *store, address string) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	return s.run(ctx, listener)
}

func (s *store) run(ctx context.Context, listener net.Listener) error {
	stop := context.AfterFunc(ctx, func() {
		listener.Close()
		s.hangUp()
	})
	defer stop()
	var group sync.WaitGroup
	for {
		conn, err := listener.Accept()
		if err != nil {
			group.Wait()
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("accept: %w", err)
		}
		group.Go(func() { s.converse(ctx, conn) })
	}
}

// hangUp wakes every connection that waits for a request.
func (s *store) hangUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopping = true
	for conn := range s.conns {
		_ = conn.SetReadDeadline(time.Unix(1, 0))
	}
}

// enter and leave keep track of the open connections; enter refuses at the end.
func (s *store) enter(conn net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping {
		return false
	}
	s.conns[conn] = true
	return true
}

func (s *store) leave(conn net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, conn)
}

// converse answers the requests of one connection.
func (s *store) converse(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	if !s.enter(conn) {
		return
	}
	defer s.leave(conn)
	scanner := bufio.NewScanner(conn)
	scanner.Buffer(make([]byte, 0, 512), maxLine)
	for scanner.Scan() {
		answer := s.answer(ctx, scanner.Text())
		if _, err := conn.Write([]byte(answer + "\n")); err != nil || ctx.Err() != nil {
			return
		}
	}
}

// answer carries out one request line.
func (s *store) answer(ctx context.Context, text string) string {
	word, rest := cut(text)
	holder, key := cut(rest)
	if id, failed := s.faults.meet(ctx, key); failed {
		return wordGarbage + " " + id
	}
	_ = pause(ctx, s.service.Work)
	switch word {
	case "SESSION":
		return wordOK + " " + s.admit(holder)
	case "GET", "SET":
		return s.data(word, holder, key)
	}
	return wordError + " want SESSION, GET or SET"
}

// admit hands out a session.
func (s *store) admit(caller string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	session := s.epoch + "." + strconv.Itoa(len(s.sessions)+1)
	s.sessions[session] = caller
	return session
}

// data answers GET and SET. Poison spoils the data of everyone who holds a session.
func (s *store) data(word, session, key string) string {
	session, strict := strings.CutPrefix(session, strictMark)
	if order, ok := s.faults.get(fault.DoGarbage); ok && session != anonymous {
		return wordGarbage + " " + order.ID
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.sessions[session]; strict && !known {
		return wordDenied
	}
	if word == "GET" {
		return wordValue + " of-" + key
	}
	return wordOK
}
