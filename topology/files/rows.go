package files

import (
	"fmt"
	"hash/maphash"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/topology"
)

// alibaba reads the call rows of MSCallGraph: timestamp (ms), traceid, rpcid, um (the
// caller), rpctype, dm (the callee), interface, rt (ms, negative as the caller saw it).
// The two rows of a call, one
// recorded at each side, count once. Calls through a message queue are asynchronous. "(?)", "UNKNOWN" and nothing name
// nobody. A column without a name, the row number of v2021, is skipped.
func (f *file) alibaba(in io.Reader) error {
	t, err := f.newTable(in)
	if err != nil {
		return err
	}
	for _, two := range [][2]string{{"traceid", "traceId"}, {"rpcid", "rpcId"}, {"rpctype", "rpcType"}} {
		if at, found := t.column[two[1]]; found {
			t.column[two[0]] = at
		}
	}
	if err := t.require("timestamp", "traceid", "rpcid", "um", "rpctype", "dm", "rt"); err != nil {
		return err
	}
	return t.each((*table).alibabaRow)
}

func (t *table) alibabaRow() error {
	at, err1 := t.decimal("timestamp")
	took, err2 := t.decimal("rt")
	caller, err3 := t.service("um")
	callee, err4 := t.service("dm")
	if err := cmpOr(err1, err2, err3, err4); err != nil {
		return err
	}
	counts := &t.file.counts
	counts.Records++
	if nobody(caller) || nobody(callee) {
		counts.Dropped++
		return nil
	}
	if t.file.twin(t.text("traceid"), t.text("rpcid"), callee) {
		counts.Joined++
		return nil
	}
	latency := max(took, -took)
	call := topology.Call{
		Caller: mesh.Service(caller), Callee: mesh.Service(callee), Source: topology.Span,
		At: t.file.Origin.Add(at).Add(latency), Latency: latency,
	}
	if t.text("rpctype") == "mq" {
		counts.Async++
		call.Existence = true
	} else {
		counts.Calls++
	}
	t.file.Sink(call)
	return nil
}

// twin reports whether a row is the second of a call, which caller and callee may each
// have recorded. Beyond MaxTwins rows between the two it is taken for another call.
func (f *file) twin(parts ...string) bool {
	if f.twins == nil || len(f.twins) >= MaxTwins {
		f.twins, f.seed = map[uint64]struct{}{}, maphash.MakeSeed()
	}
	var hash maphash.Hash
	hash.SetSeed(f.seed)
	for _, part := range parts {
		_, _ = hash.WriteString(part)
		_ = hash.WriteByte(0)
	}
	_, seen := f.twins[hash.Sum64()]
	f.twins[hash.Sum64()] = struct{}{}
	return seen
}

// nobody reports whether a name of Alibaba's data means that it is not known.
func nobody(name string) bool {
	return slices.Contains([]string{"", "(?)", "UNKNOWN", "NAN", "nan", "USER"}, name)
}

// decimal reads milliseconds, with or without a fraction.
func (t *table) decimal(column string) (time.Duration, error) {
	ms, err := strconv.ParseFloat(t.text(column), 64)
	if err != nil || !(ms > -1e15 && ms < 1e15) {
		return 0, t.fault(fmt.Sprintf("column %s: %q is no number of milliseconds", column, t.text(column)), "correct the field")
	}
	return micros(int64(ms * 1e3)), nil
}

// meta reads service-characteristics.csv of Meta's distributed_traces. What Meta
// published names services and counts their callers and callees, but no edge: services
// are all that can be taken from it, and are handed to Settings.Service.
func (f *file) meta(in io.Reader) error {
	t, err := f.newTable(in)
	if err != nil {
		return err
	}
	if err := t.require("service_id", "num_fan_in_all", "num_fan_out_all"); err != nil {
		return err
	}
	return t.each((*table).metaRow)
}

func (t *table) metaRow() error {
	name, err1 := t.service("service_id")
	callers, err2 := t.number("num_fan_in_all")
	callees, err3 := t.number("num_fan_out_all")
	if err := cmpOr(err1, err2, err3); err != nil {
		return err
	}
	if name == "" || callers < 0 || callees < 0 {
		return t.fault("a service without a name, or with a negative count", "correct the row")
	}
	t.file.counts.Records++
	if t.file.Service != nil {
		t.file.Service(name)
	}
	return nil
}
