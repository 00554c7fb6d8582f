// Command sluice is the command line of Sluice. It speaks only the API; what it cannot
// ask there it does not know. The exception is `sluice local`, which is the supervisor
// of a mesh on one machine.
//
// Results go to stdout, progress to stderr. Exit codes: 0 done, 1 not achieved, 2 wrong
// usage or malformed input, 3 something needed is missing, 4 held or throttled,
// 130 interrupted.
package main

import (
	"context"
	"crypto/rand"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// Set by the linker.
var (
	version = "dev"
	commit  = "unknown"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	app := &app{
		in: os.Stdin, out: os.Stdout, err: os.Stderr, getenv: os.Getenv,
		terminal: terminal(os.Stdout), live: terminal(os.Stderr), now: time.Now, started: time.Now(),
		random: func() string { return strings.ToLower(rand.Text()[:8]) },
	}
	code := app.run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

// terminal reports whether f is one.
func terminal(f *os.File) bool {
	stat, err := f.Stat()
	return err == nil && stat.Mode()&os.ModeCharDevice != 0 && os.Getenv("TERM") != "dumb"
}
