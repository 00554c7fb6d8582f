package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"connectrpc.com/connect"
)

// Exit codes, the same for every command.
const (
	exitDone        = 0
	exitNotAchieved = 1
	exitUsage       = 2
	exitMissing     = 3
	exitHeld        = 4
	exitInterrupted = 130
)

// exitError is an error with the exit code that it stands for. A silent one has been
// told to the user already.
type exitError struct {
	code   int
	err    error
	silent bool
}

// Error implements error.
func (e *exitError) Error() string { return e.err.Error() }

// Unwrap returns the error that e carries.
func (e *exitError) Unwrap() error { return e.err }

// ExitCode is the process's exit code.
func (e *exitError) ExitCode() int { return e.code }

func usage(format string, args ...any) error {
	return &exitError{code: exitUsage, err: fmt.Errorf(format, args...)}
}

func missing(format string, args ...any) error {
	return &exitError{code: exitMissing, err: fmt.Errorf(format, args...)}
}

func notAchieved(format string, args ...any) error {
	return &exitError{code: exitNotAchieved, err: fmt.Errorf(format, args...)}
}

// told ends the command with code; the result has said why.
func told(code int) error {
	if code == exitDone {
		return nil
	}
	return &exitError{code: code, err: errors.New("told"), silent: true}
}

// exitCode is the code of err: its own, else that of its kind.
func exitCode(ctx context.Context, err error) int {
	var own interface{ ExitCode() int }
	switch {
	case err == nil:
		return exitDone
	case errors.Is(ctx.Err(), context.Canceled):
		return exitInterrupted
	case errors.As(err, &own):
		return own.ExitCode()
	}
	return exitNotAchieved
}

// apiError gives an error of the API its exit code and its remedy.
func apiError(server string, err error) error {
	if err == nil {
		return nil
	}
	var failure *connect.Error
	if !errors.As(err, &failure) {
		return notAchieved("%s: %w", server, err)
	}
	switch text := failure.Message(); failure.Code() {
	case connect.CodeUnavailable:
		return missing("no answer from the control plane at %s: %s; start one with `sluice local up -f FILE`, "+
			"or name another with --server", server, reach(err, text))
	case connect.CodeUnauthenticated:
		return missing("%s refused the token: %s; name the right one with --token-file", server, text)
	case connect.CodePermissionDenied:
		return missing("%s: %s; use the token of another role with --token-file", server, text)
	case connect.CodeInvalidArgument:
		return usage("%s", text)
	case connect.CodeResourceExhausted:
		return &exitError{code: exitHeld, err: errors.New(text)}
	case connect.CodeDeadlineExceeded:
		return notAchieved("no answer from %s in time: %s; --timeout sets how long to wait", server, text)
	default:
		return notAchieved("%s", text)
	}
}

// reach says in a few words why a server cannot be reached.
func reach(err error, text string) string {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err.Error()
	}
	return strings.TrimPrefix(text, "unavailable: ")
}
