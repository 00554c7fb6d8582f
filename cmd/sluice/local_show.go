package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluicemesh/sluice/mesh/local"
)

func (l *localMesh) psCommand() *cobra.Command {
	return &cobra.Command{
		Use: "ps", Short: "List what runs, and where", Args: cobra.NoArgs,
		Example: "  sluice local ps\n  sluice local ps -o json | jq -r .ingress.address",
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := l.dir()
			if err != nil {
				return err
			}
			ctx, cancel := localWithin(cmd, callTimeout)
			defer cancel()
			listing, err := local.Dial(local.Socket(dir)).Ps(ctx)
			if err != nil {
				return err
			}
			return printListing(cmd, listing)
		},
	}
}

func (l *localMesh) killCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "kill NAME", Short: "Signal a child of the mesh (an instance, its Envoy, sluiced ...)",
		Long: `Sends a signal to the process group of a child. NAME is what ps shows: shop.cart-0, its
Envoy shop.cart-0.envoy, sluiced, agents; the namespace may be left out (cart-0, ingress).
Applications stay down until Sluice restarts them; all others are started again.`,
		Example: "  sluice local kill cart-0\n  sluice local kill sluiced --signal STOP",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, err := l.dir()
			if err != nil {
				return err
			}
			ctx, cancel := localWithin(cmd, callTimeout)
			defer cancel()
			return local.Dial(local.Socket(dir)).Kill(ctx, args[0], l.signal)
		},
	}
	cmd.Flags().StringVar(&l.signal, "signal", "KILL", "HUP, INT, QUIT, KILL, USR1, USR2, TERM, STOP or CONT")
	return cmd
}

func (l *localMesh) logsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "logs NAME", Short: "Show what a child wrote",
		Long:    `Prints the log of a child; NAME is as for kill, or supervisor.`,
		Example: "  sluice local logs sluiced -f\n  sluice local logs cart-0",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, err := l.dir()
			if err != nil {
				return err
			}
			path, err := local.LogFile(dir, args[0])
			if err != nil {
				return err
			}
			return copyLog(cmd.Context(), cmd.OutOrStdout(), path, l.follow)
		},
	}
	cmd.Flags().BoolVarP(&l.follow, "follow", "f", false, "go on with what is written from now on")
	return cmd
}

// copyLog writes a log to out; with follow until ctx ends.
func copyLog(ctx context.Context, out io.Writer, path string, follow bool) error {
	file, err := os.Open(path)
	if err != nil {
		return missing("log: %w", err)
	}
	defer file.Close()
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	for at := int64(0); ; {
		n, err := io.Copy(out, file)
		if at += n; err != nil {
			return fmt.Errorf("print log: %w", err)
		}
		if !follow {
			return nil
		}
		if info, err := file.Stat(); err == nil && info.Size() < at { // turned over
			if at, err = file.Seek(0, io.SeekStart); err != nil {
				return fmt.Errorf("print log: %w", err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// localWithin bounds a command by --timeout, else by what suits it.
func localWithin(cmd *cobra.Command, suits time.Duration) (context.Context, context.CancelFunc) {
	if flag := cmd.Flag("timeout"); flag != nil {
		if given, err := time.ParseDuration(flag.Value.String()); err == nil && given > 0 {
			suits = given
		}
	}
	return context.WithTimeout(cmd.Context(), suits)
}

// printUp tells where the mesh can be reached.
func printUp(cmd *cobra.Command, listing *local.Listing) {
	if flag := cmd.Flag("output"); flag != nil && flag.Value.String() != "table" {
		_ = printListing(cmd, listing)
		return
	}
	printWhere(cmd.OutOrStdout(), listing)
}

// printWhere writes the addresses of a mesh.
func printWhere(out io.Writer, listing *local.Listing) {
	fmt.Fprintf(out, "api        %s\ndashboard  %s\ntoken      %s\n", listing.API, listing.Dashboard,
		filepath.Join(listing.Dir, "tokens", "viewer")+"  (the page asks for what this file holds)")
	if listing.Ingress != nil {
		fmt.Fprintf(out, "ingress    http://%s -> %s\n", listing.Ingress.Address, listing.Ingress.Service)
	}
	fmt.Fprintf(out, "state      %s\n", listing.Dir)
}

// printListing writes a listing as -o says.
func printListing(cmd *cobra.Command, listing *local.Listing) error {
	listing.Version, listing.Commit = version, commit
	format := "table"
	if flag := cmd.Flag("output"); flag != nil {
		format = flag.Value.String()
	}
	out := cmd.OutOrStdout()
	if format == "table" {
		return printTable(out, listing)
	}
	data, err := json.MarshalIndent(listing, "", "  ")
	if err != nil {
		return fmt.Errorf("write JSON: %w", err)
	}
	data = append(data, '\n')
	if format == "yaml" {
		if data, err = yamlOf(data); err != nil {
			return err
		}
	}
	if _, err := out.Write(data); err != nil {
		return fmt.Errorf("write result: %w", err)
	}
	return nil
}

// printTable writes a listing for people.
func printTable(out io.Writer, listing *local.Listing) error {
	printWhere(out, listing)
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "\nSERVICE\tINSTANCE\tSTATE\tINCARNATION\tPID\tADDRESS\tINBOUND\tADMIN\tRESTARTS")
	for _, i := range listing.Instances {
		fmt.Fprintf(table, "%s\t%s\t%s\t%d\t%s\t%s\t%s\t%s\t%d\n",
			i.Service, i.Instance, i.State, i.Incarnation, shown(i.PID), i.Address, i.Inbound, i.Admin, i.Restarts)
	}
	fmt.Fprintln(table, "\nPROCESS\tROLE\tPID\tRESTARTS\tEXIT")
	for _, p := range listing.Processes {
		fmt.Fprintf(table, "%s\t%s\t%s\t%d\t%s\n", p.Name, p.Role, shown(p.PID), p.Restarts, p.Exit)
	}
	return table.Flush()
}

// shown writes a pid, "-" for none.
func shown(pid *int) string {
	if pid == nil {
		return "-"
	}
	return strconv.Itoa(*pid)
}
