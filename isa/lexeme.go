package isa

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/sluicemesh/sluice/mesh"
)

// Greatest values of operands. They are far beyond any sensible plan; policy limits
// are lower and may be lifted by approval, these may not.
const (
	MaxReplicas  = 10_000
	MaxPerSecond = 1e9
	MaxThreshold = 1 << 30
	MaxDuration  = 24 * time.Hour
	MaxGroup     = 1024 // services that one group target names
)

const (
	maxID    = 64  // bytes of a step's or plan's id
	maxToken = 128 // bytes of a UID, epoch or revision
	// maxExpandedID leaves room for what Expand appends to a step's id.
	maxExpandedID = maxID + len("-2048-d")
)

// idFault returns what is wrong with the id of a plan or step, "" if nothing.
func idFault(id string, limit int) string {
	if id == "" {
		return "is empty"
	}
	if len(id) > limit {
		return fmt.Sprintf("is %d bytes long, at most %d are allowed", len(id), limit)
	}
	for i := range len(id) {
		c := id[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return fmt.Sprintf("has byte %#02x at offset %d; allowed are a-z, 0-9 and '-'", c, i)
		}
	}
	return ""
}

// tokenFault returns what is wrong with an opaque token (UID, epoch, revision).
func tokenFault(token string) string {
	if token == "" {
		return "is empty"
	}
	if len(token) > maxToken {
		return fmt.Sprintf("is %d bytes long, at most %d are allowed", len(token), maxToken)
	}
	for i := range len(token) {
		c := token[i]
		if !alphanumeric(c) && strings.IndexByte("._:-", c) < 0 {
			return fmt.Sprintf("has byte %#02x at offset %d; allowed are letters, digits and . _ : -", c, i)
		}
	}
	return ""
}

// selectorFault returns what is wrong with the value of a label (zone, version).
func selectorFault(value string) string {
	switch {
	case len(value) > mesh.MaxLabel:
		return fmt.Sprintf("is %d bytes long, at most %d are allowed", len(value), mesh.MaxLabel)
	case value != "" && (!alphanumeric(value[0]) || !alphanumeric(value[len(value)-1])):
		return "does not begin and end with a letter or digit"
	case strings.Contains(value, ":"):
		return "has a colon"
	}
	return tokenFault(value)
}

func alphanumeric(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

// objectFault returns what is wrong with "kind/namespace/name".
func objectFault(object string) string {
	parts := strings.Split(object, "/")
	if len(parts) != 3 {
		return "is not KIND/NAMESPACE/NAME"
	}
	for _, part := range parts {
		if err := mesh.CheckLabel(part); err != nil {
			return "has a part that is no DNS-1123 label"
		}
	}
	return ""
}

// lexFault is what is wrong with a literal: a code, a reason and a remedy.
type lexFault struct {
	code   Code
	reason string
	remedy string
}

// parseDuration reads a duration as Go spells it: "250ms", "30s", "1m30s", "1.5s".
func parseDuration(text string) (time.Duration, *lexFault) {
	malformed := &lexFault{CodeDecode, quote(text) + " is not a duration",
		`write a number and a unit, such as "30s" or "1m30s"`}
	if text == "" || len(text) > 32 {
		return 0, malformed
	}
	if text[0] == '-' {
		return 0, &lexFault{CodeRange, quote(text) + " is negative", "write a positive duration"}
	}
	if text[0] == '+' || text[0] == '.' || !strings.ContainsAny(text, "smhn") {
		return 0, malformed
	}
	for i := range len(text) {
		if strings.IndexByte("0123456789.nsumh", text[i]) < 0 {
			return 0, malformed
		}
	}
	d, err := time.ParseDuration(text)
	switch {
	case err != nil && strings.Trim(text, "0123456789.") != text && tooLong(text):
		return 0, &lexFault{CodeRange, quote(text) + " is too long", "at most " + formatDuration(MaxDuration)}
	case err != nil:
		return 0, malformed
	case d > MaxDuration:
		return 0, &lexFault{CodeRange, quote(text) + " is too long", "at most " + formatDuration(MaxDuration)}
	}
	return d, nil
}

// tooLong tells an overflow from a malformed duration: with every digit made a zero
// it would parse.
func tooLong(text string) bool {
	zeroed := strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return '0'
		}
		return r
	}, text)
	_, err := time.ParseDuration(zeroed)
	return err == nil
}

// formatDuration spells d in its greatest unit up to seconds that leaves no fraction.
func formatDuration(d time.Duration) string {
	units := [...]struct {
		unit time.Duration
		name string
	}{{time.Second, "s"}, {time.Millisecond, "ms"}, {time.Microsecond, "us"}, {time.Nanosecond, "ns"}}
	for _, u := range units {
		if d%u.unit == 0 {
			return strconv.FormatInt(int64(d/u.unit), 10) + u.name
		}
	}
	return d.String()
}

// parseCount reads an integer in [0, limit]: digits only, no leading zero.
func parseCount(text string, limit int64) (int64, *lexFault) {
	digits := strings.TrimPrefix(text, "-")
	if !plainDigits(digits) {
		return 0, &lexFault{CodeDecode, quote(text) + " is not a whole number", "write digits only"}
	}
	if digits != text && digits != "0" {
		return 0, &lexFault{CodeRange, quote(text) + " is negative", "write a positive number"}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n > limit {
		return 0, &lexFault{CodeRange, quote(text) + " is too large", fmt.Sprintf("at most %d", limit)}
	}
	return n, nil
}

// parseRate reads a decimal number in [0, MaxPerSecond] without exponent.
func parseRate(text string) (float64, *lexFault) {
	unsigned := strings.TrimPrefix(text, "-")
	whole, fraction, pointed := strings.Cut(unsigned, ".")
	if !plainDigits(whole) || pointed && !digitsOnly(fraction) || len(text) > 400 {
		return 0, &lexFault{CodeDecode, quote(text) + " is not a decimal number",
			"write digits, at most one point, no exponent"}
	}
	rate, err := strconv.ParseFloat(unsigned, 64)
	switch {
	case unsigned != text && rate != 0:
		return 0, &lexFault{CodeRange, quote(text) + " is negative", "write a positive number"}
	case err != nil || math.IsInf(rate, 0) || rate > MaxPerSecond:
		return 0, &lexFault{CodeRange, quote(text) + " is too large", fmt.Sprintf("at most %d", int64(MaxPerSecond))}
	}
	return rate, nil
}

func plainDigits(text string) bool {
	return digitsOnly(text) && (len(text) == 1 || text[0] != '0')
}

func digitsOnly(text string) bool {
	return text != "" && strings.Trim(text, "0123456789") == ""
}

func formatRate(rate float64) string { return strconv.FormatFloat(rate, 'f', -1, 64) }
