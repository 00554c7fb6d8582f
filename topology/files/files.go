// Package files reads recorded traces and call graphs from files and turns them into
// the evidence of calls. It streams: what it holds of a file is bounded by the Max
// constants, whatever the size of the file. It is not for live telemetry (see
// topology/otlp and topology/als), and does not judge what it reads.
//
//	spans (OTLP, Jaeger, Zipkin, CSV) ──► joined by trace: client and server side of a call
//	call rows (Alibaba, edges)        ──► one call, or many equal ones
//	                                           └──► Sink(topology.Call)
//
// Names are taken as written. A record that is not what its format says is an error
// with file, place and remedy; a file is read to that place and no further.
package files

import (
	"bufio"
	"compress/gzip"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"os"
	"strings"
	"time"

	"github.com/sluicemesh/sluice/topology"
)

// Format is the way that a file is written.
type Format string

// Formats of files.
const (
	OTLP    Format = "otlp"    // OTLP JSON: ExportTraceServiceRequest objects, one or one a line
	Jaeger  Format = "jaeger"  // {"data": [trace...]} as the Jaeger query API answers
	Zipkin  Format = "zipkin"  // v2 JSON: an array of spans, or of arrays of spans
	Alibaba Format = "alibaba" // MSCallGraph of cluster-trace-microservices v2021 and v2022
	Meta    Format = "meta"    // service-characteristics.csv of distributed_traces (Huye et al., ATC'23): no calls
	CSV     Format = "csv"     // spans or edges, told apart by their first line
)

// Formats lists all formats in a fixed order.
func Formats() []Format { return []Format{OTLP, Jaeger, Zipkin, Alibaba, CSV, Meta} }

// Bounds of what is held of a file at once.
const (
	MaxOpen    = 1 << 18  // spans waiting for the rest of their trace; the oldest trace is closed first
	MaxTrace   = 1 << 16  // spans of one trace that are joined with each other
	MaxElement = 64 << 20 // bytes of one JSON element: a span, a Jaeger trace, an OTLP object
	MaxLine    = 1 << 20  // bytes of one CSV record
	MaxName    = 1 << 10  // bytes of a service name
	MaxNames   = 1 << 20  // distinct service names
	MaxTwins   = 1 << 18  // rows of Alibaba's files among which the second of a call is found
)

// Counts say what became of the records of a file.
type Counts struct {
	Records    uint64 // spans or rows read
	Calls      uint64 // calls found, a joined pair of spans counts once
	Joined     uint64 // of Calls, those seen from both sides
	Served     uint64 // server spans, statistics of the callee
	Orphans    uint64 // spans whose parent is not in the file, or too far away in it
	Unresolved uint64 // client spans that do not say whom they called
	Skewed     uint64 // joined pairs whose clocks disagree: the callee's span lies outside
	Async      uint64 // messages: they show that an edge exists, not how long it takes
	Dropped    uint64 // rows that name no caller or no callee
	Timeless   uint64 // rows of calls that name no time
}

// Add adds all of other.
func (c *Counts) Add(other Counts) {
	c.Records += other.Records
	c.Calls += other.Calls
	c.Joined += other.Joined
	c.Served += other.Served
	c.Orphans += other.Orphans
	c.Unresolved += other.Unresolved
	c.Skewed += other.Skewed
	c.Async += other.Async
	c.Dropped += other.Dropped
	c.Timeless += other.Timeless
}

// Settings say how to read.
type Settings struct {
	// Sink takes each call; a call without a caller is what the callee saw itself. Required.
	Sink func(topology.Call)
	// Service takes the names of services that a file lists without their calls; nil =
	// they are only counted.
	Service func(name string)
	// Origin is the time 0 of formats whose times are relative: the zero value is the
	// Unix epoch.
	Origin time.Time
}

// Error is a fault of a file.
type Error struct {
	File   string
	Line   int   // of the record, 0 = see Byte
	Byte   int64 // how far the file was read
	Reason string
	Remedy string
}

// Error implements error.
func (e *Error) Error() string {
	place := fmt.Sprintf("%s:%d", e.File, e.Line)
	if e.Line == 0 {
		place = fmt.Sprintf("%s: byte %d", e.File, e.Byte)
	}
	return fmt.Sprintf("%s: %s; %s", place, e.Reason, e.Remedy)
}

// Read reads all of r, called name in errors, and hands each call to the Sink.
func Read(format Format, name string, r io.Reader, settings Settings) (Counts, error) {
	if settings.Origin.IsZero() {
		settings.Origin = time.Unix(0, 0)
	}
	in, err := plain(name, r)
	if err != nil {
		return Counts{}, err
	}
	f := &file{name: name, Settings: settings, names: map[string]string{}}
	f.join = joiner{file: f, traces: map[string]*trace{}, most: MaxOpen}
	switch format {
	case OTLP:
		err = f.otlp(in)
	case Jaeger:
		err = f.jaeger(in)
	case Zipkin:
		err = f.zipkin(in)
	case Alibaba:
		err = f.alibaba(in)
	case Meta:
		err = f.meta(in)
	case CSV:
		err = f.csv(in)
	default:
		return Counts{}, fmt.Errorf("format %q: want one of %s", format, known())
	}
	if err == nil {
		f.join.close()
	}
	return f.counts, err
}

// known lists the formats for people.
func known() string {
	var names []string
	for _, format := range Formats() {
		names = append(names, string(format))
	}
	return strings.Join(names, ", ")
}

// ReadFile reads the file at path, which may be compressed with gzip.
func ReadFile(format Format, path string, settings Settings) (Counts, error) {
	in, err := os.Open(path)
	if err != nil {
		return Counts{}, fmt.Errorf("open trace file: %w", err)
	}
	counts, err := Read(format, path, in, settings)
	return counts, errors.Join(err, in.Close())
}

// plain undoes gzip, told by its first two bytes.
func plain(name string, r io.Reader) (*bufio.Reader, error) {
	in := bufio.NewReaderSize(r, 1<<16)
	magic, _ := in.Peek(2)
	if len(magic) < 2 || magic[0] != 0x1f || magic[1] != 0x8b {
		return in, nil
	}
	unpacked, err := gzip.NewReader(in)
	if err != nil {
		return nil, &Error{File: name, Reason: "gzip: " + err.Error(), Remedy: "download the file again"}
	}
	return bufio.NewReaderSize(unpacked, 1<<16), nil
}

// file is the state of reading one file.
type file struct {
	Settings
	name   string
	counts Counts
	names  map[string]string // interned
	join   joiner
	twins  map[uint64]struct{} // of Alibaba's rows that were read
	seed   maphash.Seed
}

// intern returns name as a string that all its uses share.
func (f *file) intern(name string) string {
	if known, found := f.names[name]; found {
		return known
	}
	if len(f.names) < MaxNames {
		name = strings.Clone(name)
		f.names[name] = name
	}
	return name
}

// checkName says what is wrong with a service name, "" if nothing is.
func checkName(name string) string {
	if len(name) > MaxName {
		return fmt.Sprintf("service name of %d bytes, at most %d", len(name), MaxName)
	}
	if at := strings.IndexFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\uFFFD' }); at >= 0 {
		return fmt.Sprintf("service name %q has a control character or is not UTF-8", name)
	}
	return ""
}

// micros returns n microseconds as a duration; those that do not fit are cut off.
func micros(n int64) time.Duration {
	const most = int64(1<<63-1) / int64(time.Microsecond)
	return time.Duration(min(max(n, -most), most)) * time.Microsecond
}
