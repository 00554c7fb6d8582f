package scenario

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"
)

// api is a way to the operator's API: a port-forward to its leader, and a token.
type api struct {
	stage   *stage
	forward *exec.Cmd
	address string
	token   string // path of its file
}

// api opens a way as the administrator of Sluice.
func (s *stage) api(ctx context.Context) (*api, error) {
	token, err := s.ask(ctx, "", "--namespace", system, "create", "token", "sluice-admin", "--duration=1h")
	if err != nil {
		return nil, err
	}
	file, err := temporary(strings.TrimSpace(token))
	if err != nil {
		return nil, err
	}
	leader, err := s.ask(ctx, "", "--namespace", system, "get", "pods", "-l", "sluicemesh.io/leader=true",
		"-o", "jsonpath={.items[*].metadata.name}")
	if err != nil {
		return nil, err
	}
	name, more, _ := strings.Cut(strings.TrimSpace(leader), " ")
	if name == "" || more != "" {
		return nil, fmt.Errorf("leaders are %q, want one", leader)
	}
	a := &api{stage: s, token: file}
	return a, a.open(name)
}

// forwarding is what kubectl says when it forwards.
var forwarding = regexp.MustCompile(`^Forwarding from (127\.0\.0\.1:\d+) `)

// open forwards a port to the pod until close.
func (a *api) open(pod string) error {
	line := append(append([]string{}, a.stage.Kubectl...), "--namespace", system, "port-forward", "pod/"+pod, ":8090")
	a.forward = exec.Command(line[0], line[1:]...)
	a.forward.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := a.forward.StdoutPipe()
	if err != nil {
		return err
	}
	if err := a.forward.Start(); err != nil {
		return err
	}
	timer := time.AfterFunc(30*time.Second, a.kill)
	defer timer.Stop()
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if found := forwarding.FindStringSubmatch(lines.Text()); found != nil {
			a.address = found[1]
			go func() { // so that kubectl never waits for a reader
				for lines.Scan() {
				}
			}()
			return nil
		}
	}
	a.close()
	return errors.New("kubectl port-forward to the operator did not come up")
}

func (a *api) kill() { _ = a.forward.Process.Kill() }

// close ends the forwarding.
func (a *api) close() {
	a.kill()
	_ = a.forward.Wait()
	os.RemoveAll(filepath.Dir(a.token))
}

// sluice runs the command line of Sluice against the API.
func (a *api) sluice(ctx context.Context, args ...string) (string, error) {
	line := append(append([]string{}, a.stage.Prefix...), a.stage.Sluice)
	line = append(append(line, args...), "--server", a.address, "--token-file", a.token)
	return output(ctx, "", line...)
}
