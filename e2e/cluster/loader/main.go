// Command loader puts an open-loop load on one address from inside a cluster and prints,
// as its last line, one JSON object that accounts for every request.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/sluicemesh/sluice/e2e/load"
)

// summary is what is printed.
type summary struct {
	load.Counts
	P50      float64        `json:"p50_s"`
	P99      float64        `json:"p99_s"`
	Failures []load.Failure `json:"failures"`
}

func main() {
	var c load.Config
	var operation string
	var wait time.Duration
	flag.StringVar(&c.Address, "address", "", "HOST:PORT")
	flag.StringVar(&c.Entry, "entry", "", "NAMESPACE/NAME of the service there")
	flag.StringVar(&operation, "operation", "", "operation, the path without its first slash")
	flag.StringVar(&c.Method, "method", "POST", "HTTP method")
	flag.Float64Var(&c.Rate, "rps", 100, "requests a second")
	flag.IntVar(&c.Requests, "requests", 1000, "at most so many requests")
	flag.DurationVar(&c.For, "for", time.Minute, "at most so long")
	flag.Uint64Var(&c.Seed, "seed", 1, "seed")
	flag.DurationVar(&wait, "wait", 20*time.Second, "for the address to take connections, before")
	stop := flag.Bool("stop", false, "end the arrivals of the load that is process 1, and return")
	flag.Parse()
	if *stop {
		if err := syscall.Kill(1, syscall.SIGTERM); err != nil {
			fmt.Fprintln(os.Stderr, "load:", err)
			os.Exit(1)
		}
		return
	}
	c.Mix = []load.Part{{Operation: operation, Share: 1}}
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer cancel()
	if err := put(ctx, c, wait); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

// put waits for the address, puts the load on it and prints. SIGTERM ends the arrivals;
// what is under way is waited for.
func put(ctx context.Context, c load.Config, wait time.Duration) error {
	if err := reachable(ctx, c.Address, wait); err != nil {
		return err
	}
	g, err := load.Start(context.WithoutCancel(ctx), c)
	if err != nil {
		return err
	}
	fmt.Println("started")
	select {
	case <-g.Done():
	case <-ctx.Done():
	}
	log := g.Wait()
	healthy := load.Timeline{Injected: load.Never, Acted: load.Never}
	s := summary{Counts: load.Classify(log.Records, healthy), Failures: load.Failures(log.Records, healthy)}
	p50, _ := load.Percentile(log.Records, 0.5)
	p99, _ := load.Percentile(log.Records, 0.99)
	s.P50, s.P99 = p50.Seconds(), p99.Seconds()
	return json.NewEncoder(os.Stdout).Encode(s)
}

// reachable waits until the address takes a connection.
func reachable(ctx context.Context, address string, wait time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	var dialer net.Dialer
	for {
		conn, err := dialer.DialContext(ctx, "tcp", address)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s takes no connection: %w", address, err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}
