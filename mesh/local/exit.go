package local

import "fmt"

// Exit codes of the command line (docs/mesh-file.md, Faults).
const (
	exitFailed      = 1
	exitMalformed   = 2
	exitMissing     = 3
	exitInterrupted = 130
)

// Error is a failure to start or run a local mesh. Its message names the cause
// and the remedy; Code is the exit code of a command that ends with it.
type Error struct {
	Code   int
	Reason string
	Remedy string // "" = none known
	Err    error  // cause, may be nil
}

// Error implements error.
func (e *Error) Error() string {
	text := e.Reason
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	if e.Remedy != "" {
		text += " (" + e.Remedy + ")"
	}
	return text
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// ExitCode returns the exit code for a command that ends with e.
func (e *Error) ExitCode() int { return e.Code }

// failed returns an Error with exit code 1.
func failed(remedy, format string, args ...any) *Error {
	return &Error{Code: exitFailed, Reason: fmt.Sprintf(format, args...), Remedy: remedy}
}

// missing returns an Error with exit code 3: something that is needed is not there.
func missing(err error, remedy, format string, args ...any) *Error {
	return &Error{Code: exitMissing, Reason: fmt.Sprintf(format, args...), Remedy: remedy, Err: err}
}
