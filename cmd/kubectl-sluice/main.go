// Command kubectl-sluice is `kubectl sluice`: the command line of Sluice against the control
// plane in the cluster that kubectl is pointed at. It opens a port-forward to the replica that
// leads, takes a short-lived token of a service account, and runs `sluice` with both. It knows
// no more of a cluster than kubectl tells it.
package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Exit codes (the same for every program of Sluice).
const (
	exitUsage   = 2
	exitMissing = 3
)

// forwardIn bounds how long the port-forward may take to come up.
const forwardIn = 30 * time.Second

const usage = `kubectl sluice [--kubeconfig FILE] [--context NAME] [--sluice-namespace NAMESPACE] [--account NAME] COMMAND ...

Runs "sluice COMMAND ..." against the control plane in the cluster. Own flags stand before COMMAND:
  --kubeconfig, --context   as of kubectl
  --sluice-namespace        namespace of the control plane (default sluice-system)
  --account                 service account there whose token is taken (default sluice-admin); the chart
                            makes it with --set accounts={admin}
`

// options are the own flags, and what is left for sluice.
type options struct {
	kubectl   []string // flags
	namespace string
	account   string
	rest      []string
}

func main() {
	opts, err := parse(os.Args[1:])
	if err != nil {
		fmt.Fprintf(os.Stderr, "kubectl-sluice: %v\n\n%s", err, usage)
		os.Exit(exitUsage)
	}
	if len(opts.rest) == 0 || opts.rest[0] == "--help" || opts.rest[0] == "-h" {
		fmt.Print(usage)
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	code, err := run(ctx, opts)
	if err != nil {
		fmt.Fprintln(os.Stderr, "kubectl-sluice:", err)
	}
	os.Exit(code)
}

// parse takes the own flags, up to the first word that is none.
func parse(args []string) (options, error) {
	o := options{namespace: "sluice-system", account: "sluice-admin"}
	for len(args) > 0 && strings.HasPrefix(args[0], "--") && args[0] != "--help" {
		name, value, joined := strings.Cut(args[0], "=")
		if !slices.Contains([]string{"--kubeconfig", "--context", "--sluice-namespace", "--account"}, name) {
			return o, fmt.Errorf("%s stands after the command, or is no flag", name)
		}
		args = args[1:]
		if !joined {
			if len(args) == 0 {
				return o, fmt.Errorf("%s has no value", name)
			}
			value, args = args[0], args[1:]
		}
		switch name {
		case "--sluice-namespace":
			o.namespace = value
		case "--account":
			o.account = value
		default:
			o.kubectl = append(o.kubectl, name+"="+value)
		}
	}
	o.rest = args
	return o, nil
}

// run runs sluice, and returns its exit code.
func run(ctx context.Context, o options) (int, error) {
	program, err := find()
	if err != nil {
		return exitMissing, err
	}
	leader, err := o.ask(ctx, "get", "pods", "-l", "sluicemesh.io/leader=true", "-o", "jsonpath={.items[*].metadata.name}")
	if err != nil {
		return exitMissing, err
	}
	if leaders := strings.Fields(leader); len(leaders) != 1 {
		return exitMissing, fmt.Errorf("%d replicas lead in namespace %s, want one; is Sluice installed there? (helm list -A)",
			len(leaders), o.namespace)
	}
	token, done, err := o.token(ctx)
	if err != nil {
		return exitMissing, err
	}
	defer done()
	forward := &forward{}
	defer forward.close()
	address, err := forward.open(ctx, o.command(ctx, "port-forward", "pod/"+strings.TrimSpace(leader), ":8090"))
	if err != nil {
		return exitMissing, err
	}
	sluice := exec.CommandContext(ctx, program, append(slices.Clone(o.rest), "--server", address, "--token-file", token)...)
	sluice.Stdin, sluice.Stdout, sluice.Stderr = os.Stdin, os.Stdout, os.Stderr
	sluice.Cancel = func() error { return sluice.Process.Signal(syscall.SIGINT) }
	sluice.WaitDelay = 5 * time.Second
	err = sluice.Run()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return max(exit.ExitCode(), 1), nil
	}
	if err != nil {
		return exitMissing, err
	}
	return 0, nil
}

// find returns the path of sluice: beside this program, else in PATH.
func find() (string, error) {
	if own, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(own), "sluice")
		if info, err := os.Stat(beside); err == nil && !info.IsDir() {
			return beside, nil
		}
	}
	path, err := exec.LookPath("sluice")
	if err != nil {
		return "", fmt.Errorf("%w; install sluice beside kubectl-sluice", err)
	}
	return path, nil
}

// command is a kubectl command in the control plane's namespace.
func (o *options) command(ctx context.Context, args ...string) *exec.Cmd {
	line := slices.Concat(o.kubectl, []string{"--namespace", o.namespace}, args)
	return exec.CommandContext(ctx, "kubectl", line...)
}

// ask returns what kubectl prints.
func (o *options) ask(ctx context.Context, args ...string) (string, error) {
	cmd := o.command(ctx, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("kubectl %s: %w: %s", args[0], err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}

// token puts a token of the account into a file of mode 0600, which done removes.
func (o *options) token(ctx context.Context) (path string, done func(), err error) {
	text, err := o.ask(ctx, "create", "token", o.account, "--duration=1h")
	if err != nil {
		return "", nil, err
	}
	dir, err := os.MkdirTemp("", "kubectl-sluice-")
	if err != nil {
		return "", nil, err
	}
	path = filepath.Join(dir, "token")
	if err := os.WriteFile(path, []byte(strings.TrimSpace(text)+"\n"), 0o600); err != nil {
		return "", nil, errors.Join(err, os.RemoveAll(dir))
	}
	return path, func() { _ = os.RemoveAll(dir) }, nil
}

// forward is a kubectl port-forward under way.
type forward struct {
	cmd *exec.Cmd
	out io.ReadCloser
}

// forwarding is what kubectl prints when it forwards.
const forwarding = `^Forwarding from (127\.0\.0\.1:\d+) `

// open starts cmd and returns the address at which it forwards.
func (f *forward) open(ctx context.Context, cmd *exec.Cmd) (string, error) {
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	if err := cmd.Start(); err != nil {
		return "", fmt.Errorf("%w; kubectl must be in PATH", err)
	}
	f.cmd, f.out = cmd, out
	timer := time.AfterFunc(forwardIn, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	pattern, lines := regexp.MustCompile(forwarding), bufio.NewScanner(out)
	for lines.Scan() {
		if found := pattern.FindStringSubmatch(lines.Text()); found != nil {
			go func() { _, _ = io.Copy(io.Discard, out) }() // ends with kubectl; it must never wait for a reader
			return found[1], nil
		}
	}
	f.close()
	f.cmd = nil
	return "", errors.Join(ctx.Err(), fmt.Errorf("kubectl port-forward: %s", strings.TrimSpace(stderr.String())))
}

// close ends the forwarding.
func (f *forward) close() {
	if f.cmd != nil {
		_ = f.cmd.Process.Kill()
		_ = f.cmd.Wait()
	}
}
