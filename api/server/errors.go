package server

import (
	"context"
	"errors"
	"fmt"

	"connectrpc.com/connect"

	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/microkernel"
	"github.com/sluicemesh/sluice/microkernel/driver"
)

// ErrUnknownService is returned by a Topology that does not know the service.
var ErrUnknownService = errors.New("unknown service")

// invalid is an error about one field of a request, named by its path.
func invalid(path, format string, args ...any) error {
	return connect.NewError(connect.CodeInvalidArgument, fmt.Errorf(path+": "+format, args...))
}

func unknownPlan(id microkernel.PlanID) error {
	return connect.NewError(connect.CodeNotFound,
		fmt.Errorf("id: no plan %+q is remembered: see `sluice plan list`", string(id)))
}

// kernelError translates an error of the kernel's ports.
func kernelError(err error) error {
	var refused *driver.Refused
	switch {
	case err == nil:
		return nil
	case errors.As(err, &refused):
		return connect.NewError(refusedCode(refused.Code), refused)
	case errors.Is(err, context.DeadlineExceeded):
		return connect.NewError(connect.CodeDeadlineExceeded, err)
	case errors.Is(err, context.Canceled):
		return connect.NewError(connect.CodeCanceled, err)
	}
	return connect.NewError(connect.CodeInternal, err)
}

func refusedCode(code isa.Code) connect.Code {
	switch code {
	case isa.CodeAuthz:
		return connect.CodePermissionDenied
	case isa.CodeAuthn:
		return connect.CodeUnauthenticated
	case isa.CodeUnknownTarget, isa.CodeUnknownStep:
		return connect.CodeNotFound
	case isa.CodeRate, isa.CodeAgentBudget, isa.CodeDrainBudget:
		return connect.CodeResourceExhausted
	case isa.CodeFrozen:
		return connect.CodeUnavailable
	}
	return connect.CodeFailedPrecondition
}

// refusedBy is the error of a call that the kernel answered with verdict. Its details
// are the verdict's faults.
func refusedBy(verdict microkernel.Verdict) error {
	reason := "nothing was changed"
	if len(verdict.Faults) > 0 {
		reason = verdict.Faults[0].Reason
	}
	err := connect.NewError(refusedCode(verdict.Code), fmt.Errorf("%s: %s: %s", verdict.Outcome, verdict.Code, reason))
	for _, fault := range faultsOut(verdict.Faults) {
		if detail, failed := connect.NewErrorDetail(fault); failed == nil {
			err.AddDetail(detail)
		}
	}
	return err
}
