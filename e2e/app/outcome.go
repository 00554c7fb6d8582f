package main

import "net/http"

// Headers of requests and responses; the same names are metadata of gRPC.
const (
	headerApp      = "x-app"
	headerFault    = "x-fault"
	headerFailedAt = "x-failed-at"
	headerKey      = "x-request-key"
)

// outcome is how a request, or a call of an upstream, ended.
type outcome struct {
	status   int    // as in HTTP
	fault    string // the injected fault behind it, "" = none known
	failedAt string // the service that could not be reached, "" = all answered
}

// succeeded is the outcome of a request that nothing disturbed.
var succeeded = outcome{status: http.StatusOK}

func (o outcome) failed() bool { return o.status >= http.StatusBadRequest }

// unreachable is a call of callee that no process answered.
func unreachable(callee string) outcome {
	return outcome{status: http.StatusServiceUnavailable, failedAt: callee}
}

// answered judges the response of callee by its status and headers. A failure that
// does not say which service made it comes from a proxy: callee was not reached.
func answered(callee string, status int, get func(string) string) outcome {
	o := outcome{status: status, fault: get(headerFault), failedAt: get(headerFailedAt)}
	if o.failed() && get(headerApp) == "" && o.failedAt == "" {
		o.failedAt = callee
	}
	return o
}

// above is what the caller of a call that ended so answers: marks are passed on.
func (o outcome) above() outcome {
	if !o.failed() {
		return o
	}
	up := o
	up.status = http.StatusBadGateway
	if o.failedAt != "" {
		up.status = http.StatusServiceUnavailable
	}
	return up
}

// write puts o into the header of a response.
func (o outcome) write(service string, set func(key, value string)) {
	set(headerApp, service)
	if o.fault != "" {
		set(headerFault, o.fault)
	}
	if o.failedAt != "" {
		set(headerFailedAt, o.failedAt)
	}
}
