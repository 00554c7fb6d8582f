// Command cluster is `make e2e-cluster`: it brings up a real Kubernetes of one node on
// this machine, runs the scenarios against it, and takes it down again.
//
//	cluster build                 build Kubernetes into the cache, once for a machine
//	cluster run [-run REGEXP] [-keep] [-out e2e.json]
//	cluster down                  end a cluster that was kept, or remove what is left of one
//
// Exit 0 all passed, 1 not, 2 wrong usage, 3 something needed is missing.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/sluicemesh/sluice/e2e/cluster"
)

// version and commit are set by the linker.
var (
	version = "devel"
	commit  = "unknown"
)

const (
	exitFailed      = 1
	exitUsage       = 2
	exitInterrupted = 130
)

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := command(ctx, os.Args[1:])
	code := 0
	var own interface{ ExitCode() int }
	switch {
	case err == nil:
	case ctx.Err() != nil:
		code = exitInterrupted
	case errors.As(err, &own):
		code = own.ExitCode()
	default:
		code = exitFailed
	}
	if err != nil && code != exitUsage {
		fmt.Fprintln(os.Stderr, "cluster:", err)
	}
	cancel()
	os.Exit(code)
}

// usageError is wrong usage, already printed.
type usageError struct{ error }

func (usageError) ExitCode() int { return exitUsage }

// command carries out one command line.
func command(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("cluster", flag.ContinueOnError)
	flags.Usage = func() {
		fmt.Fprintln(flags.Output(), "usage: cluster build | run [flags] | down")
		flags.PrintDefaults()
	}
	if len(args) == 0 {
		flags.Usage()
		return usageError{errors.New("no command")}
	}
	var o runOptions
	if args[0] == "run" {
		o.register(flags)
	}
	if err := flags.Parse(args[1:]); err != nil {
		return usageError{err}
	}
	if flags.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "argument %q: want none\n", flags.Arg(0))
		return usageError{errors.New("arguments")}
	}
	cache, err := cluster.CacheDir()
	if err != nil {
		return err
	}
	switch args[0] {
	case "build":
		_, err := cluster.Build(ctx, cache, os.Stderr)
		return err
	case "run":
		return o.run(ctx, cache)
	case "down":
		return down(ctx, cache)
	}
	flags.Usage()
	return usageError{fmt.Errorf("command %q", args[0])}
}

// down ends what there is.
func down(ctx context.Context, cache string) error {
	c, found := cluster.Existing(cluster.Options{Cache: cache, Progress: os.Stderr})
	if !found {
		fmt.Fprintln(os.Stderr, "no cluster is there")
		return nil
	}
	return c.Down(ctx)
}
