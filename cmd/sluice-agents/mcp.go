package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"syscall"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluicemesh/sluice/agents/mcp"
	"github.com/sluicemesh/sluice/api/client"
)

// version is set by the linker.
var version = "devel"

// stopWithin bounds the answers still under way when the server ends.
const stopWithin = 3 * time.Second

// mcpFlags are the flags of `sluice-agents mcp`.
type mcpFlags struct {
	server, tokenFile, listen string
}

// parseMCP reads the flags; errors have been printed.
func parseMCP(args []string) (mcpFlags, error) {
	var f mcpFlags
	flags := flag.NewFlagSet("sluice-agents mcp", flag.ContinueOnError)
	flags.StringVar(&f.server, "server", "http://127.0.0.1:20080", "URL of the API of sluiced")
	flags.StringVar(&f.tokenFile, "token-file", "", "file with the token of whoever uses stdin and stdout, best a proposer's")
	flags.StringVar(&f.listen, "listen", "",
		"serve HTTP at this loopback `ADDRESS` instead; each request brings the token of its own principal")
	if err := flags.Parse(args); err != nil {
		return f, err
	}
	err := f.check()
	if flags.NArg() > 0 {
		err = errors.Join(err, fmt.Errorf("argument %q: want none", flags.Arg(0)))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "sluice-agents mcp:", err)
	}
	return f, err
}

func (f *mcpFlags) check() error {
	if f.listen == "" {
		if f.tokenFile == "" {
			return errors.New("want --token-file FILE for stdin and stdout, or --listen ADDRESS")
		}
		return nil
	}
	if f.tokenFile != "" {
		return errors.New("--token-file and --listen exclude each other: over HTTP each request brings its own token")
	}
	address, err := netip.ParseAddrPort(f.listen)
	if err != nil || !address.Addr().IsLoopback() {
		return fmt.Errorf("--listen %q: want a loopback address such as 127.0.0.1:20090; tokens would cross the network in the clear", f.listen)
	}
	return nil
}

// runMCP serves AI agents until they leave or a signal comes.
func runMCP(args []string) int {
	f, err := parseMCP(args)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		return exitUsage
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := serveMCP(ctx, f, slog.New(slog.NewTextHandler(os.Stderr, nil))); err != nil {
		fmt.Fprintln(os.Stderr, "sluice-agents mcp:", err)
		return exitFailed
	}
	return 0
}

func serveMCP(ctx context.Context, f mcpFlags, log *slog.Logger) error {
	api, err := client.New(f.server, "") // the tools add the caller's token
	if err != nil {
		return err
	}
	if f.listen == "" {
		server := mcp.New(api, func() (string, error) { return readToken(f.tokenFile) }, version)
		err := server.Run(ctx, &sdk.StdioTransport{})
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", f.listen)
	if err != nil {
		return fmt.Errorf("listen: %w; choose another address", err)
	}
	door := &http.Server{
		Handler: mcp.New(api, nil, version).Handler(), ReadHeaderTimeout: mcp.HeaderTimeout,
		ReadTimeout: mcp.CallTimeout, WriteTimeout: 2 * mcp.CallTimeout, MaxHeaderBytes: 16 << 10,
	}
	log.Info("MCP server started", "address", listener.Addr().String(), "api", f.server)
	ended := context.AfterFunc(ctx, func() {
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopWithin)
		defer cancel()
		if err := door.Shutdown(bounded); err != nil {
			log.Warn("answers were cut", "error", err)
		}
	})
	defer ended()
	if err := door.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}
