package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"
)

// pool holds the connections to one store. Like the pools of common clients it closes
// what is idle or old, and asks once more on a new connection when a kept one turns
// out to have been closed: nothing was answered on it, so nothing is lost.
type pool struct {
	address        string
	idle, lifetime time.Duration
	mu             sync.Mutex
	kept           []*link // longest unused first
	closed         bool
}

// link is one connection of a pool.
type link struct {
	conn       net.Conn
	reader     *bufio.Reader
	born, used time.Time
}

const maxKept = 32

func newPool(address string, idle, lifetime time.Duration) *pool {
	return &pool{address: address, idle: idle, lifetime: lifetime}
}

// ask sends one line and returns the answer.
func (p *pool) ask(ctx context.Context, question string) (string, error) {
	if kept := p.take(); kept != nil {
		answer, err := p.use(ctx, kept, question)
		if err == nil || ctx.Err() != nil {
			return answer, err
		}
	}
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", p.address)
	if err != nil {
		return "", fmt.Errorf("store: %w", err)
	}
	fresh := &link{conn: conn, reader: bufio.NewReaderSize(conn, 512), born: time.Now()}
	return p.use(ctx, fresh, question)
}

// use asks on one connection and keeps it for the next time if all went well.
func (p *pool) use(ctx context.Context, l *link, question string) (string, error) {
	deadline, _ := ctx.Deadline()
	err := l.conn.SetDeadline(deadline)
	stop := context.AfterFunc(ctx, func() { _ = l.conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err == nil {
		_, err = l.conn.Write([]byte(question + "\n"))
	}
	var answer []byte
	if err == nil {
		answer, err = l.reader.ReadSlice('\n')
	}
	if err != nil {
		l.conn.Close()
		return "", fmt.Errorf("store: %w", err)
	}
	text := strings.TrimSuffix(string(answer), "\n")
	if !stop() {
		l.conn.Close() // its deadline may be spoilt
		return text, nil
	}
	p.keep(l)
	return text, nil
}

// take returns the most recently used connection that is still good, nil if none is.
func (p *pool) take() *link {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.prune(now)
	if len(p.kept) == 0 {
		return nil
	}
	last := p.kept[len(p.kept)-1]
	p.kept = p.kept[:len(p.kept)-1]
	return last
}

func (p *pool) keep(l *link) {
	now := time.Now()
	l.used = now
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || len(p.kept) >= maxKept || now.Sub(l.born) > p.lifetime {
		l.conn.Close()
		return
	}
	p.kept = append(p.kept, l)
}

// prune closes what is idle or old. p.mu is held.
func (p *pool) prune(now time.Time) {
	good := p.kept[:0]
	for _, l := range p.kept {
		if now.Sub(l.used) > p.idle || now.Sub(l.born) > p.lifetime {
			l.conn.Close()
			continue
		}
		good = append(good, l)
	}
	clear(p.kept[len(good):])
	p.kept = good
}

// tend prunes until ctx ends, then closes everything. Without it a pool that is not
// used would keep its connections for ever.
func (p *pool) tend(ctx context.Context) {
	ticker := time.NewTicker(max(p.idle/4, 10*time.Millisecond))
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			p.close()
			return
		case now := <-ticker.C:
			p.mu.Lock()
			p.prune(now)
			p.mu.Unlock()
		}
	}
}

func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, l := range p.kept {
		l.conn.Close()
	}
	p.kept = nil
}

// errNoAddress says that the environment lacks an upstream.
var errNoAddress = errors.New("no address in the environment")
