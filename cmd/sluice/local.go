package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluicemesh/sluice/mesh/envoy"
	"github.com/sluicemesh/sluice/mesh/local"
)

// newLocalCommand builds `sluice local`: a mesh of processes on this machine.
func newLocalCommand() *cobra.Command {
	l := &localMesh{}
	root := &cobra.Command{
		Use:   "local",
		Short: "Run a mesh of processes on this machine, each behind an Envoy",
		Long: `Runs the services of a mesh file (docs/mesh-file.md) as plain processes on loopback,
each behind a real Envoy, with sluiced and the agents. No privileges are needed.`,
	}
	root.PersistentFlags().StringVar(&l.state, "state", "",
		"state directory (up: ~/.local/state/sluice/NAME of the file; else: of the mesh that is up)")
	root.AddCommand(l.upCommand(), l.downCommand(), l.psCommand(), l.logsCommand(), l.killCommand())
	return root
}

// localMesh holds the flags of `sluice local`.
type localMesh struct {
	state, file, mode            string
	detach, autoRestart, observe bool
	limits                       []string
	workers                      int
	notify                       int // descriptor on which a detached supervisor reports, 0 = none
	signal                       string
	follow                       bool
}

func (l *localMesh) upCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "up -f FILE", Short: "Bring a mesh up and keep it until interrupted", Args: cobra.NoArgs,
		Long: `Brings up the mesh of FILE and keeps it until SIGINT, SIGTERM or ` + "`sluice local down`" + `.
With --detach it goes on in the background once everything is ready. A supervisor that
was killed leaves its children running; up on the same state directory takes them over.`,
		Example: "  sluice local up -f mesh.yaml\n  sluice local up -f mesh.yaml --detach && sluice status",
		RunE:    func(cmd *cobra.Command, _ []string) error { return l.up(cmd) },
	}
	flags := cmd.Flags()
	flags.StringVarP(&l.file, "file", "f", "", "mesh file (docs/mesh-file.md)")
	flags.BoolVar(&l.detach, "detach", false, "go on in the background once everything is ready")
	flags.BoolVar(&l.autoRestart, "auto-restart", false,
		"restart applications that exit or fail three health checks, without asking Sluice (a control arm)")
	flags.StringVar(&l.mode, "mode", "", "mode of the control plane: Observe, Propose or Enforce (default Enforce)")
	flags.BoolVar(&l.observe, "observe", false, "short for --mode Observe")
	flags.StringArrayVar(&l.limits, "limit", nil,
		"raise or lower a limit of the policy, as restarts-per-service=20; may be repeated (names: sluiced --help)")
	flags.IntVar(&l.workers, "proxy-workers", 1, "worker threads of each Envoy, 1 to 64")
	flags.IntVar(&l.notify, "notify-fd", 0, "descriptor for reports to the parent")
	_ = flags.MarkHidden("notify-fd")
	cmd.MarkFlagsMutuallyExclusive("mode", "observe")
	return cmd
}

// up brings the mesh up, here or in the background.
func (l *localMesh) up(cmd *cobra.Command) error {
	if err := l.settle(); err != nil {
		return err
	}
	file, err := local.ReadFile(l.file)
	if err != nil {
		return err
	}
	// A terminal that is closed ends the mesh as an interrupt does.
	ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGHUP)
	defer stop()
	binaries, err := localBinaries(ctx, cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	log, err := openLog(l.state)
	if err != nil {
		return err
	}
	defer log.Close()
	if l.detach {
		return l.background(ctx, cmd, binaries, log)
	}
	return l.foreground(ctx, cmd, local.Options{
		File: file, StateDir: l.state, Binaries: binaries, Mode: l.mode, AutoRestart: l.autoRestart,
		Limits: l.limits, Workers: l.workers,
		Log: slog.New(slog.NewTextHandler(log, nil)), Out: cmd.ErrOrStderr(),
	})
}

// settle completes the flags of up.
func (l *localMesh) settle() error {
	switch {
	case l.file == "":
		return usage("-f FILE is missing: name a mesh file (docs/mesh-file.md)")
	case l.observe:
		l.mode = "Observe"
	case l.mode != "" && l.mode != "Observe" && l.mode != "Propose" && l.mode != "Enforce":
		return usage("--mode %q: want Observe, Propose or Enforce", l.mode)
	case l.workers < 1 || l.workers > 64:
		return usage("--proxy-workers %d: want 1 to 64", l.workers)
	}
	if l.state == "" {
		home, err := local.FindHome(os.Getenv)
		if err != nil {
			return err
		}
		l.state = home.StateDir(l.file)
	}
	state, err := filepath.Abs(l.state)
	if err != nil {
		return usage("--state %q: %w", l.state, err)
	}
	l.state = state
	return nil
}

// foreground runs the mesh until it ends. Its endpoint is known to other commands
// for as long as it is up.
func (l *localMesh) foreground(ctx context.Context, cmd *cobra.Command, o local.Options) error {
	home, err := local.FindHome(os.Getenv)
	if err != nil {
		return err
	}
	report, parent := l.reporter(cmd, &o)
	if parent != nil {
		defer parent.Close()
	}
	published := false // else it may be that of another supervisor of the same directory
	o.Up = func(listing *local.Listing) {
		published = true
		err := home.Publish(local.Endpoint{
			Server: listing.API, TokenFile: filepath.Join(l.state, "tokens", "admin"), State: l.state,
		})
		if err != nil {
			o.Log.Error("endpoint is not published", "error", err)
		}
		report(upReport{Up: listing})
	}
	err = local.Run(ctx, o)
	if published {
		if gone := home.Withdraw(l.state); gone != nil {
			o.Log.Error("endpoint is not withdrawn", "error", gone)
		}
	}
	if err != nil {
		report(upReport{Error: err.Error(), Code: exitCode(context.Background(), err)})
	}
	return err
}

// upReport is one line from a detached supervisor to its parent. One field is set.
type upReport struct {
	Progress string         `json:"progress,omitempty"`
	Up       *local.Listing `json:"up,omitempty"`
	Error    string         `json:"error,omitempty"`
	Code     int            `json:"code,omitempty"`
}

// reporter returns where the end of the start is told: to the user or, with the pipe
// that it returns, to the parent; progress then goes there, too.
func (l *localMesh) reporter(cmd *cobra.Command, o *local.Options) (func(upReport), *os.File) {
	if l.notify == 0 {
		return func(r upReport) {
			if r.Up != nil {
				printUp(cmd, r.Up)
			}
		}, nil
	}
	syscall.CloseOnExec(l.notify)
	pipe := os.NewFile(uintptr(l.notify), "parent")
	encoder := json.NewEncoder(pipe)
	o.Out = lineWriter(func(line string) { _ = encoder.Encode(upReport{Progress: line}) })
	return func(r upReport) {
		_ = encoder.Encode(r) // a parent that has gone needs no report
		if r.Up != nil {
			o.Log.Info("detached")
		}
	}, pipe
}

// lineWriter is a writer that is given whole lines.
type lineWriter func(string)

// Write implements io.Writer.
func (w lineWriter) Write(p []byte) (int, error) {
	w(string(p[:max(len(p)-1, 0)]))
	return len(p), nil
}

// background starts the supervisor in a session of its own and waits until the mesh
// is up or has failed.
func (l *localMesh) background(ctx context.Context, cmd *cobra.Command, b local.Binaries, log *os.File) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	reader, writer, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("pipe to the supervisor: %w", err)
	}
	defer reader.Close()
	args := []string{"local", "up", "--file", l.file, "--state", l.state, "--notify-fd", "3",
		"--proxy-workers", strconv.Itoa(l.workers)}
	for _, limit := range l.limits {
		args = append(args, "--limit", limit)
	}
	if l.mode != "" {
		args = append(args, "--mode", l.mode)
	}
	if l.autoRestart {
		args = append(args, "--auto-restart")
	}
	child := exec.Command(self, args...)
	child.Stdout, child.Stderr, child.ExtraFiles = log, log, []*os.File{writer}
	child.Env = append(os.Environ(), "ENVOY="+b.Envoy)
	child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := child.Start(); err != nil {
		writer.Close()
		return fmt.Errorf("start the supervisor: %w", err)
	}
	writer.Close()
	cancel := context.AfterFunc(ctx, func() { _ = child.Process.Signal(syscall.SIGTERM) })
	defer cancel()
	up, err := awaitUp(reader, cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	if up == nil {
		return notAchieved("the supervisor ended without a word; see %s", log.Name())
	}
	printUp(cmd, up)
	return nil
}

// awaitUp reads reports until the mesh is up or has failed; nil, nil = neither.
func awaitUp(reader io.Reader, progress io.Writer) (*local.Listing, error) {
	scanner := bufio.NewScanner(reader)
	scanner.Buffer(nil, 4<<20)
	for scanner.Scan() {
		var report upReport
		if err := json.Unmarshal(scanner.Bytes(), &report); err != nil {
			return nil, fmt.Errorf("report of the supervisor: %w", err)
		}
		switch {
		case report.Up != nil:
			return report.Up, nil
		case report.Error != "":
			return nil, &exitError{code: report.Code, err: errors.New(report.Error)}
		default:
			fmt.Fprintln(progress, report.Progress)
		}
	}
	return nil, scanner.Err()
}

// openLog opens the supervisor's own log.
func openLog(state string) (*os.File, error) {
	dir := filepath.Join(state, "logs")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, missing("state directory: %w; name one that you may write with --state", err)
	}
	log, err := os.OpenFile(filepath.Join(dir, "supervisor.log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, missing("supervisor's log: %w; name a directory of your own with --state", err)
	}
	return log, nil
}

// localBinaries finds the programs of a mesh: beside this one, else on PATH; Envoy
// also where package envoy looks for it.
func localBinaries(ctx context.Context, progress io.Writer) (local.Binaries, error) {
	var b local.Binaries
	var err error
	if b.Sluiced, err = besideOrPath("sluiced"); err != nil {
		return b, err
	}
	if b.Agents, err = besideOrPath("sluice-agents"); err != nil {
		return b, err
	}
	if os.Getenv("ENVOY") == "" {
		if b.Envoy = beside("envoy"); b.Envoy != "" {
			return b, nil
		}
	}
	found, err := envoy.Find(ctx, "", progress)
	if err != nil {
		return b, missing("%w", err)
	}
	b.Envoy = found.Path
	return b, nil
}

// besideOrPath finds a program.
func besideOrPath(name string) (string, error) {
	if path := beside(name); path != "" {
		return path, nil
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", missing("%s is neither beside sluice nor on PATH: build it with `make build`", name)
	}
	return path, nil
}

// beside returns the program called name in the folder of this one, "" if none.
func beside(name string) string {
	self, err := os.Executable()
	if err != nil {
		return ""
	}
	path := filepath.Join(filepath.Dir(self), name)
	if info, err := os.Stat(path); err != nil || info.IsDir() || info.Mode()&0o111 == 0 {
		return ""
	}
	return path
}

// dir returns the state directory of a mesh that is up.
func (l *localMesh) dir() (string, error) {
	if l.state != "" {
		return filepath.Abs(l.state)
	}
	home, err := local.FindHome(os.Getenv)
	if err != nil {
		return "", err
	}
	current, err := home.Current()
	if errors.Is(err, fs.ErrNotExist) {
		return "", missing("no mesh is up: start one with `sluice local up -f FILE`, or name its directory with --state")
	}
	return current.State, err
}

func (l *localMesh) downCommand() *cobra.Command {
	return &cobra.Command{
		Use: "down", Short: "Take the mesh down", Args: cobra.NoArgs,
		Example: "  sluice local down",
		RunE:    func(cmd *cobra.Command, _ []string) error { return l.down(cmd) },
	}
}

// down asks the supervisor to take the mesh down, or, where it was killed, ends what
// it left.
func (l *localMesh) down(cmd *cobra.Command) error {
	dir, err := l.dir()
	if err != nil {
		return err
	}
	ctx, cancel := localWithin(cmd, 6*time.Minute) // the longest grace and some
	defer cancel()
	err = local.Dial(local.Socket(dir)).Down(ctx)
	var away *local.Error
	if errors.As(err, &away) {
		var left int
		if left, err = local.Sweep(dir); err == nil {
			fmt.Fprintf(cmd.ErrOrStderr(), "no supervisor was running; ended %d children\n", left)
		}
	}
	if err != nil {
		return err
	}
	home, err := local.FindHome(os.Getenv)
	if err != nil {
		return err
	}
	return home.Withdraw(dir)
}
