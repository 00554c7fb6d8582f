package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// app is one run of the command line: its surroundings and its global flags.
type app struct {
	in             io.Reader
	out, err       io.Writer
	getenv         func(string) string
	terminal, live bool // stdout, stderr are terminals
	now            func() time.Time
	started        time.Time
	random         func() string

	server, tokenFile    string
	kubeconfig, kcontext string
	output               string
	noColor              bool
	timeout              time.Duration
}

// run carries out one command and returns the exit code.
func (a *app) run(ctx context.Context, args []string) int {
	root := a.root()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	code := exitCode(ctx, err)
	var exit *exitError
	switch {
	case err == nil || errors.As(err, &exit) && exit.silent && code != exitInterrupted:
	case code == exitInterrupted:
		fmt.Fprintln(a.err, "sluice: interrupted")
	default:
		fmt.Fprintf(a.err, "sluice: %v\n", err)
	}
	return code
}

// root builds the command tree.
func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "sluice",
		Short: "Drain, prove, reboot, restore: safe microreboots for a service mesh",
		Long: `Sluice restarts what failed and nothing else, without a failed request: traffic is
drained by xDS, the drain is proved, and only then is anything rebooted.

Results go to stdout, progress to stderr. Exit codes: 0 done, 1 not achieved,
2 wrong usage or malformed input, 3 something needed is missing, 4 held or
throttled, 130 interrupted.`,
		Example: `  sluice local up -f mesh.yaml --detach   # a mesh of local processes behind real Envoys
  sluice status
  sluice restart shop/cart --watch
  sluice plan check plan.txt -o json`,
		SilenceErrors: true, SilenceUsage: true,
		PersistentPreRunE: func(*cobra.Command, []string) error { return a.checkGlobals() },
	}
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	a.globals(root)
	root.AddGroup(
		&cobra.Group{ID: "look", Title: "Look:"}, &cobra.Group{ID: "recover", Title: "Recover:"},
		&cobra.Group{ID: "plan", Title: "Plans:"}, &cobra.Group{ID: "other", Title: "Other:"})
	add(root, "look", a.statusCommand(), a.topologyCommand(), a.groupsCommand(), a.proxiesCommand(), a.objectivesCommand())
	add(root, "recover", a.restartCommand(), a.drainCommand(), a.restoreCommand())
	add(root, "plan", a.planCommand(), a.approveCommand(), a.pauseCommand(), a.resumeCommand(),
		a.auditCommand())
	add(root, "other", a.versionCommand())
	add(root, "other", extra()...)
	root.SetHelpCommandGroupID("other")
	root.SetCompletionCommandGroupID("other")
	strict(root)
	return root
}

func (a *app) globals(root *cobra.Command) {
	flags := root.PersistentFlags()
	flags.StringVar(&a.server, "server", "", "API address HOST:PORT (or $SLUICE_SERVER; else the mesh that is up here)")
	flags.StringVar(&a.tokenFile, "token-file", "", "file with the bearer token (else the one of the local mesh)")
	flags.StringVar(&a.kubeconfig, "kubeconfig", "", "kubeconfig of a cluster (not in this build)")
	flags.StringVar(&a.kcontext, "context", "", "context of the kubeconfig (not in this build)")
	flags.StringVarP(&a.output, "output", "o", "table", "output format: table, json or yaml")
	flags.BoolVar(&a.noColor, "no-color", false, "no colours (or $NO_COLOR); none are used off a terminal")
	flags.DurationVar(&a.timeout, "timeout", 0, "give up after this long (0: what suits the command)")
	_ = root.RegisterFlagCompletionFunc("output",
		cobra.FixedCompletions([]string{"table", "json", "yaml"}, cobra.ShellCompDirectiveNoFileComp))
}

func add(root *cobra.Command, group string, commands ...*cobra.Command) {
	for _, command := range commands {
		command.GroupID = group
		root.AddCommand(command)
	}
}

// strict makes every wrong flag or argument a usage error, and a command that only
// has subcommands refuse unknown ones.
func strict(command *cobra.Command) {
	command.SuggestionsMinimumDistance = 2
	command.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usage("%w (see `%s --help`)", err, c.CommandPath())
	})
	if args := command.Args; args != nil {
		command.Args = func(c *cobra.Command, given []string) error {
			if err := args(c, given); err != nil {
				return usage("%w; usage: %s", err, c.UseLine())
			}
			return nil
		}
	}
	if command.Run == nil && command.RunE == nil {
		command.Args = cobra.ArbitraryArgs
		command.RunE = func(c *cobra.Command, given []string) error {
			if len(given) == 0 {
				return c.Help()
			}
			return unknownCommand(c, given[0])
		}
	}
	for _, child := range command.Commands() {
		strict(child)
	}
}

func unknownCommand(c *cobra.Command, name string) error {
	hint := ""
	if near := c.SuggestionsFor(name); len(near) > 0 {
		hint = fmt.Sprintf("; did you mean %s?", strings.Join(near, " or "))
	}
	return usage("unknown command %q for %q%s (see `%s --help`)", name, c.CommandPath(), hint, c.CommandPath())
}

func (a *app) checkGlobals() error {
	switch a.output {
	case "table", "json", "yaml":
	default:
		return usage("-o %q: want table, json or yaml", a.output)
	}
	if a.timeout < 0 {
		return usage("--timeout %s: want 0 or more", a.timeout)
	}
	return nil
}

// within bounds ctx by --timeout, else by what suits the command.
func (a *app) within(ctx context.Context, suits time.Duration) (context.Context, context.CancelFunc) {
	if a.timeout > 0 {
		suits = a.timeout
	}
	return context.WithTimeout(ctx, suits)
}

// Time limits of commands without --timeout.
const (
	callTimeout   = 30 * time.Second
	auditTimeout  = 10 * time.Minute // a stream of all that was ever written
	followTimeout = 15 * time.Minute
)
