package isa

import (
	"bytes"
	"strconv"
	"strings"
	"time"

	"github.com/sluicemesh/sluice/mesh"
)

// FormatText spells p compactly, one step a line, with a final newline. ParseText reads
// it back as p if p has valid names and numbers.
func FormatText(p Program) []byte {
	var w textWriter
	w.word("plan", p.ID)
	w.option("epoch", p.Epoch)
	w.duration("deadline", p.Deadline)
	w.end()
	for i := range p.Steps {
		w.step(&p.Steps[i])
	}
	for _, check := range p.Verify {
		w.word("verify", string(check.Service), "for", formatDuration(check.For))
		w.end()
	}
	return w.out.Bytes()
}

// FormatAction spells one action, as it stands to the right of "ID =".
func FormatAction(a Action) string {
	var w textWriter
	w.action(a)
	return w.out.String()
}

// FormatTarget spells a target as the compact text does: "shop/cart", "shop/cart#cart-0",
// "shop/cart@UID", "shop/cart{zone=a}", "[shop/a,shop/b]".
func FormatTarget(t Target) string {
	if len(t.Group) > 0 {
		return "[" + joined(t.Group) + "]"
	}
	out := string(t.Service)
	if t.Instance != "" {
		out += "#" + t.Instance
	}
	var subset []string
	if t.Zone != "" {
		subset = append(subset, "zone="+t.Zone)
	}
	if t.Version != "" {
		subset = append(subset, "version="+t.Version)
	}
	if len(subset) > 0 {
		out += "{" + strings.Join(subset, ",") + "}"
	}
	if t.UID != "" {
		out += "@" + string(t.UID)
	}
	if len(t.UIDs) > 0 {
		out += "@[" + joined(t.UIDs) + "]"
	}
	return out
}

func joined[T ~string](values []T) string {
	parts := make([]string, len(values))
	for i, value := range values {
		parts[i] = string(value)
	}
	return strings.Join(parts, ",")
}

// textWriter puts words on lines, one space apart.
type textWriter struct{ out bytes.Buffer }

func (w *textWriter) word(words ...string) {
	for _, word := range words {
		if n := w.out.Len(); n > 0 && w.out.Bytes()[n-1] != '\n' {
			w.out.WriteByte(' ')
		}
		w.out.WriteString(word)
	}
}

func (w *textWriter) end() { w.out.WriteByte('\n') }

// option writes a keyword and its value unless the value is empty.
func (w *textWriter) option(keyword, value string) {
	if value != "" {
		w.word(keyword, value)
	}
}

func (w *textWriter) duration(keyword string, d time.Duration) {
	if d != 0 {
		w.word(keyword, formatDuration(d))
	}
}

func (w *textWriter) count(keyword string, count uint32) {
	if count != 0 {
		w.word(keyword, strconv.FormatUint(uint64(count), 10))
	}
}

func (w *textWriter) step(s *Step) {
	w.word(string(s.ID), "=")
	w.action(s.Action)
	if len(s.After) > 0 {
		w.word("after", joined(s.After))
	}
	w.end()
}

func (w *textWriter) action(action Action) {
	switch a := action.(type) {
	case Restart:
		w.word("restart", FormatTarget(a.Target))
		if a.Mode != "" {
			w.word(string(a.Mode))
		}
		w.option("with", borrowed(a))
		w.duration("deadline", a.Deadline)
	case Drain:
		w.drain(a)
	case RestoreTraffic:
		w.word("restore", string(a.Drain))
		w.duration("ramp", a.Ramp)
	case CircuitBreak:
		w.circuitBreak(a)
	case RateLimit:
		w.word("limit", FormatTarget(a.Target))
		w.option("from", string(a.Caller))
		w.word(formatRate(a.PerSecond) + "/s")
		w.count("burst", a.Burst)
		w.duration("lease", a.Lease)
	case Scale:
		w.word("scale", FormatTarget(a.Target), "to", strconv.Itoa(a.Replicas))
	case RollbackConfig:
		w.word("rollback", a.Object, "to", a.Revision)
	case Await:
		w.word("await", string(a.Drain), "until", string(a.Until))
	}
}

func (w *textWriter) drain(a Drain) {
	w.word("drain", FormatTarget(a.Target))
	if a.Share != 0 {
		w.word(strconv.Itoa(a.Share) + "%")
	}
	w.option("to", string(a.To))
	if a.OnEmpty != mesh.OnEmptyNone {
		w.word(string(a.OnEmpty))
	}
	w.option("streams", string(a.Streams))
	w.duration("deadline", a.Deadline)
	w.duration("lease", a.Lease)
}

func (w *textWriter) circuitBreak(a CircuitBreak) {
	w.word("break", FormatTarget(a.Target))
	w.option("from", string(a.Caller))
	w.count("requests", a.MaxRequests)
	w.count("connections", a.MaxConnections)
	w.count("pending", a.MaxPending)
	w.count("retries", a.MaxRetries)
	w.count("5xx", a.Consecutive5xx)
	w.duration("lease", a.Lease)
}
