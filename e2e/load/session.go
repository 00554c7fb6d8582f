package load

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/websocket"
)

// Kinds of a long-lived session.
const (
	StreamSession = "stream"    // GET /stream, lines
	SocketSession = "websocket" // GET /ws, echo
	TCPSession    = "tcp"       // a store's line protocol
)

const (
	sessionBeat  = 250 * time.Millisecond
	sessionLife  = 10 * time.Second // then the client ends it and opens another
	sessionStall = 20 * time.Second // without a sign of life: cut
)

// errEnded says that the other side ended a session in good order.
var errEnded = errors.New("ended by the service")

// Sessions counts long-lived sessions. They never stand among the requests: a drain
// cannot wait for their end, so cut ones are a column of their own.
type Sessions struct {
	Opened  int `json:"opened"`
	Ended   int `json:"ended"`   // in good order, by either side
	Cut     int `json:"cut"`     // broken off in the middle
	Refused int `json:"refused"` // not opened
}

// Hold keeps n sessions of a kind open to address until ctx ends, ending each after
// 10 s and opening it again a second later, and returns their counts.
func Hold(ctx context.Context, kind, address string, n int) (Sessions, error) {
	open, known := map[string]func(context.Context, string) (session, error){
		StreamSession: openStream, SocketSession: openSocket, TCPSession: openTCP,
	}[kind]
	if !known || n < 0 || n > 1000 {
		return Sessions{}, fmt.Errorf("load: %d sessions of kind %q: want at most 1000 of stream, websocket or tcp", n, kind)
	}
	var total Sessions
	var mu sync.Mutex
	var group sync.WaitGroup
	for range n {
		group.Go(func() {
			one := hold(ctx, address, open)
			mu.Lock()
			defer mu.Unlock()
			total.Opened += one.Opened
			total.Ended += one.Ended
			total.Cut += one.Cut
			total.Refused += one.Refused
		})
	}
	group.Wait()
	return total, nil
}

// session is one that is open: use exchanges one message and says how it went.
type session struct {
	use   func() error
	close func()
}

// hold keeps one session open.
func hold(ctx context.Context, address string, open func(context.Context, string) (session, error)) Sessions {
	var count Sessions
	for ctx.Err() == nil {
		s, err := open(ctx, address)
		if err != nil {
			if ctx.Err() == nil {
				count.Refused++
			}
			until(ctx, time.Now().Add(time.Second))
			continue
		}
		count.Opened++
		life, cancel := context.WithTimeout(ctx, sessionLife)
		err = live(life, s)
		enough := life.Err() != nil
		cancel()
		if enough || errors.Is(err, errEnded) {
			count.Ended++
		} else {
			count.Cut++
		}
		until(ctx, time.Now().Add(time.Second))
	}
	return count
}

// live uses s until it breaks or ctx ends.
func live(ctx context.Context, s session) error {
	stop := context.AfterFunc(ctx, s.close)
	defer s.close()
	defer stop()
	for {
		if err := s.use(); err != nil {
			return err
		}
	}
}

// openStream opens a stream of lines; the last one is "end".
func openStream(ctx context.Context, address string) (session, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/stream", nil)
	if err != nil {
		return session{}, fmt.Errorf("stream: %w", err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return session{}, fmt.Errorf("stream: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		response.Body.Close()
		return session{}, fmt.Errorf("stream: status %d", response.StatusCode)
	}
	lines := bufio.NewReader(response.Body)
	stall := time.AfterFunc(sessionStall, func() { response.Body.Close() })
	use := func() error {
		line, err := lines.ReadString('\n')
		stall.Reset(sessionStall)
		return ended(line, err)
	}
	return session{use: use, close: func() { stall.Stop(); response.Body.Close() }}, nil
}

// openSocket opens a websocket; each message comes back, the last one is "end".
func openSocket(_ context.Context, address string) (session, error) {
	conn, err := websocket.Dial("ws://"+address+"/ws", "", "http://"+address)
	if err != nil {
		return session{}, fmt.Errorf("websocket: %w", err)
	}
	use := func() error {
		if err := conn.SetDeadline(time.Now().Add(sessionStall)); err != nil {
			return err
		}
		if err := websocket.Message.Send(conn, "beat"); err != nil {
			return err
		}
		var text string
		err := websocket.Message.Receive(conn, &text)
		if err == nil && text == "beat" {
			time.Sleep(sessionBeat)
		}
		return ended(text, err)
	}
	return session{use: use, close: func() { conn.Close() }}, nil
}

// openTCP opens a session with a raw-TCP store.
func openTCP(ctx context.Context, address string) (session, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return session{}, fmt.Errorf("tcp session: %w", err)
	}
	lines := bufio.NewReader(conn)
	use := func() error {
		if err := conn.SetDeadline(time.Now().Add(sessionStall)); err != nil {
			return err
		}
		if _, err := conn.Write([]byte("GET - session\n")); err != nil {
			return err
		}
		line, err := lines.ReadString('\n')
		if err == nil {
			time.Sleep(sessionBeat)
		}
		return ended(line, err)
	}
	return session{use: use, close: func() { conn.Close() }}, nil
}

// ended turns the last message of a session into its end in good order.
func ended(text string, err error) error {
	if err == nil && strings.TrimSpace(text) == "end" {
		return errEnded
	}
	return err
}
