// Command sluice-agents runs the planners: it watches symptoms over the API and
// proposes programs, with a proposer's token and nothing else. It decides nothing and
// executes nothing; losing it costs automatic proposals, not safety.
//
//	sluice-agents --token-file FILE                    the planner by rules
//	sluice-agents mcp --token-file FILE                tools for an AI agent, on stdin and stdout
//	sluice-agents mcp --listen 127.0.0.1:20090         the same over HTTP, with the callers' own tokens
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/sluicemesh/sluice/agents/rules"
)

// Exit codes, as of every command of Sluice.
const (
	exitFailed = 1
	exitUsage  = 2
)

func main() { os.Exit(run(os.Args[1:])) }

// run is main with an exit code.
func run(args []string) int {
	if len(args) > 0 && args[0] == "mcp" {
		return runMCP(args[1:])
	}
	return runRules(args)
}

// runRules is the planner by rules.
func runRules(args []string) int {
	flags := flag.NewFlagSet("sluice-agents", flag.ContinueOnError)
	server := flags.String("server", "http://127.0.0.1:20080", "URL of the API of sluiced")
	tokenFile := flags.String("token-file", "", "file with the proposer's token; may appear later (required)")
	interval := flags.Duration("interval", 250*time.Millisecond, "between looks at the symptoms")
	settings := rules.Defaults()
	flags.DurationVar(&settings.Settle, "settle", settings.Settle, "a diagnosis must stay the same for as long")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		return exitUsage
	}
	if *tokenFile == "" || *interval < 10*time.Millisecond || flags.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "sluice-agents: want --token-file FILE, --interval >= 10ms and no arguments")
		return exitUsage
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	a := newAgent(*server, *tokenFile, settings, log)
	log.Info("planner started", "server", *server, "interval", *interval)
	if err := a.watch(ctx, *interval); err != nil {
		log.Error("planner stopped", "error", err)
		return exitFailed
	}
	return 0
}
