package files

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/topology"
)

// Columns of CSV files, as their first line names them.
const (
	spanColumns = "trace_id,span_id,parent_id,service,instance,operation,kind,peer,start_us,duration_us,error"
	edgeColumns = "caller,callee,rpctype,calls" // and optionally errors, p50_us, p95_us
	moreColumns = ",errors,p50_us,p95_us"
)

// table reads CSV records and knows where it is.
type table struct {
	file   *file
	reader *csv.Reader
	column map[string]int
	record []string
}

// newTable reads the first line.
func (f *file) newTable(in io.Reader) (*table, error) {
	t := &table{file: f, reader: csv.NewReader(&lines{in: in, left: MaxLine})}
	t.reader.ReuseRecord = true
	first, err := t.reader.Read()
	if err != nil {
		return nil, t.broken(err)
	}
	t.column = make(map[string]int, len(first))
	for i, name := range first {
		t.column[strings.Clone(name)] = i
	}
	if len(t.column) != len(first) {
		return nil, t.fault("the first line names a column twice", "keep one of them")
	}
	t.record = first
	return t, nil
}

// next reads a record; false at the end.
func (t *table) next() (bool, error) {
	record, err := t.reader.Read()
	if errors.Is(err, io.EOF) {
		return false, nil
	}
	if err != nil {
		return false, t.broken(err)
	}
	t.record = record
	return true, nil
}

// text returns a field, "" if there is no such column.
func (t *table) text(column string) string {
	i, found := t.column[column]
	if !found {
		return ""
	}
	return t.record[i]
}

// number reads a field that holds a whole number.
func (t *table) number(column string) (int64, error) {
	text := t.text(column)
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, t.fault(fmt.Sprintf("column %s: %q is no whole number", column, text), "correct the field")
	}
	return n, nil
}

// service reads a field that names a service, which may be empty.
func (t *table) service(column string) (string, error) {
	name := t.text(column)
	if reason := checkName(name); reason != "" {
		return "", t.fault("column "+column+": "+reason, "correct the field")
	}
	return t.file.intern(name), nil
}

// require fails unless each column is there.
func (t *table) require(columns ...string) error {
	for _, name := range columns {
		if _, found := t.column[name]; !found {
			return t.fault("no column "+name, "the first line must name "+strings.Join(columns, ","))
		}
	}
	return nil
}

func (t *table) fault(reason, remedy string) error {
	line := 1
	if len(t.record) > 0 {
		line, _ = t.reader.FieldPos(0)
	}
	return &Error{File: t.file.name, Line: line, Reason: reason, Remedy: remedy}
}

// broken explains what the CSV reader says.
func (t *table) broken(err error) error {
	var parse *csv.ParseError
	switch {
	case errors.Is(err, io.EOF):
		return &Error{File: t.file.name, Line: 1, Reason: "the file is empty", Remedy: "name another file"}
	case errors.As(err, &parse):
		return &Error{File: t.file.name, Line: parse.Line, Reason: parse.Err.Error(), Remedy: "correct the line"}
	}
	return &Error{File: t.file.name, Byte: t.reader.InputOffset(), Reason: err.Error(), Remedy: "check the file"}
}

// lines refuses a line that is longer than left, so that a record stays bounded: each
// newline gives the allowance back. A quoted field may not span more than one line's.
type lines struct {
	in   io.Reader
	left int
}

func (l *lines) Read(p []byte) (int, error) {
	n, err := l.in.Read(p)
	for _, b := range p[:n] {
		if l.left--; b == '\n' {
			l.left = MaxLine
		}
		if l.left < 0 {
			return 0, fmt.Errorf("a line of more than %d bytes", MaxLine)
		}
	}
	return n, err //nolint:wrapcheck // io.EOF must stay itself
}

// csv reads spans or edges, told apart by the first line.
func (f *file) csv(in io.Reader) error {
	t, err := f.newTable(in)
	if err != nil {
		return err
	}
	switch first := strings.Join(t.record, ","); {
	case first == spanColumns:
		f.join.blame = true
		return t.each((*table).span)
	case first == edgeColumns, strings.HasPrefix(edgeColumns+moreColumns, first) && len(t.record) >= 4:
		return t.each((*table).edge)
	default:
		return t.fault("unknown columns", "want "+spanColumns+" or "+edgeColumns+"["+moreColumns+"]")
	}
}

// each calls read for every record.
func (t *table) each(read func(*table) error) error {
	for {
		more, err := t.next()
		if err != nil || !more {
			return err
		}
		if err := read(t); err != nil {
			return err
		}
	}
}

// span reads a row of spans. Kind orphan is a server's span whose parent is missing.
func (t *table) span() error {
	kinds := map[string]kind{
		"server": server, "client": client, "internal": internal, "orphan": server, "producer": producer, "consumer": consumer,
	}
	side, found := kinds[t.text("kind")]
	if !found {
		return t.fault(fmt.Sprintf("kind %q", t.text("kind")), "want server, client, internal, orphan, producer or consumer")
	}
	start, err1 := t.number("start_us")
	duration, err2 := t.number("duration_us")
	service, err3 := t.service("service")
	peer, err4 := t.service("peer")
	if err := cmpOr(err1, err2, err3, err4); err != nil {
		return err
	}
	switch {
	case service == "" || t.text("trace_id") == "" || t.text("span_id") == "":
		return t.fault("a span without trace_id, span_id or service", "leave the row out")
	case duration < 0:
		return t.fault(fmt.Sprintf("duration_us %d is negative", duration), "correct the field")
	case !slices.Contains([]string{"", "0", "1"}, t.text("error")):
		return t.fault(fmt.Sprintf("error %q", t.text("error")), "want 0, 1 or nothing")
	}
	if !side.caller() {
		peer = ""
	}
	t.file.join.add(span{
		trace: t.file.join.name(t.text("trace_id")), id: strings.Clone(t.text("span_id")),
		parent: strings.Clone(t.text("parent_id")), service: service, instance: t.file.intern(t.text("instance")), peer: peer,
		kind: side, start: t.file.Origin.Add(micros(start)), duration: micros(duration), failed: t.text("error") == "1",
	})
	return nil
}

// name returns the trace id without a new copy if the trace is open.
func (j *joiner) name(id string) string {
	if t := j.traces[id]; t != nil {
		return t.id
	}
	return strings.Clone(id)
}

// edge reads a row of edges: calls of one time, Origin, since the file has none.
func (t *table) edge() error {
	caller, err1 := t.service("caller")
	callee, err2 := t.service("callee")
	calls, err3 := t.number("calls")
	failed, latency, err4 := t.edgeFigures()
	if err := cmpOr(err1, err2, err3, err4); err != nil {
		return err
	}
	if calls < 0 || failed < 0 || failed > calls {
		return t.fault(fmt.Sprintf("%d calls, %d errors", calls, failed), "want 0 <= errors <= calls")
	}
	t.file.counts.Records++
	t.file.counts.Timeless++
	if caller == "" || callee == "" {
		t.file.counts.Dropped++
		return nil
	}
	call := topology.Call{
		Caller: mesh.Service(caller), Callee: mesh.Service(callee), At: t.file.Origin, Latency: latency, Source: topology.Span,
	}
	t.file.calls(call, uint64(calls-failed), uint64(failed))
	return nil
}

// edgeFigures reads the optional columns.
func (t *table) edgeFigures() (failed int64, latency time.Duration, err error) {
	if t.text("errors") != "" {
		if failed, err = t.number("errors"); err != nil {
			return 0, 0, err
		}
	}
	if t.text("p50_us") != "" {
		us, err := strconv.ParseFloat(t.text("p50_us"), 64)
		if err != nil || !(us >= 0 && us < 1e15) {
			return 0, 0, t.fault(fmt.Sprintf("p50_us %q", t.text("p50_us")), "want microseconds")
		}
		latency = micros(int64(us))
	}
	return failed, latency, nil
}

// calls hands on good and bad calls like call; without any, that the edge exists.
func (f *file) calls(call topology.Call, good, bad uint64) {
	f.counts.Calls += good + bad
	if good+bad == 0 {
		call.Existence = true
		f.Sink(call)
		return
	}
	for _, part := range []struct {
		n      uint64
		failed bool
	}{{good, false}, {bad, true}} {
		if part.n > 0 {
			call.Weight, call.Failed = part.n, part.failed
			f.Sink(call)
		}
	}
}

// cmpOr returns the first error.
func cmpOr(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
