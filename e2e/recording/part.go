package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/topology"
)

// schema names the format of a part: gzip, one JSON object a line, a header and then the
// seconds in their order without a gap.
const schema = "sluice.recording/1"

// Bounds of a part.
const (
	maxSeconds  = 4 * 3600
	maxLine     = 4 << 20
	maxServices = 5000
	maxBuckets  = 1024
	maxRequests = 1 << 40
)

// header says how a part was recorded.
type header struct {
	Schema   string      `json:"schema"`
	Version  string      `json:"version"`
	Commit   string      `json:"commit"`
	Started  string      `json:"started"` // RFC 3339
	Topology string      `json:"topology"`
	RPS      float64     `json:"rps"`
	Seed     uint64      `json:"seed"`
	Cores    int         `json:"cores"`
	Services []service   `json:"services"`
	Edges    [][2]string `json:"edges"` // caller, callee
}

// service is one that was recorded, with what it promises; 0 = nothing.
type service struct {
	Name   string  `json:"name"`
	P99    float64 `json:"p99_s"`
	Errors float64 `json:"errors"`
}

// second is what happened in one Unix second.
type second struct {
	At    int64   `json:"at"`
	Load  float64 `json:"load"` // of the machine: processes that run or want to, mean of a minute
	Ticks []tick  `json:"ticks"`
}

// tick is a service with requests in a second.
type tick struct {
	Service   int      `json:"s"` // in header.Services
	Requests  uint64   `json:"n"`
	Errors    uint64   `json:"e"`
	Latencies []int64  `json:"l"` // middles of buckets, ns
	Counts    []uint64 `json:"c"`
}

// part is a recording without a gap, in memory: by second and service.
type part struct {
	header header
	first  int64
	load   []float64
	ticks  [][]topology.Tick
}

// writer writes a part as it is recorded.
type writer struct {
	file *os.File
	gzip *gzip.Writer
	json *json.Encoder
	path string
}

// create begins a part; it gets its name when it is closed.
func create(dir string, h *header, began time.Time) (*writer, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("directory of the parts: %w", err)
	}
	path := filepath.Join(dir, fmt.Sprintf("part-%d.jsonl.gz", began.Unix()))
	file, err := os.Create(path + ".new")
	if err != nil {
		return nil, fmt.Errorf("part: %w", err)
	}
	w := &writer{file: file, gzip: gzip.NewWriter(file), path: path}
	w.json = json.NewEncoder(w.gzip)
	return w, w.json.Encode(h)
}

func (w *writer) add(s *second) error { return w.json.Encode(s) }

// close makes the part whole; a part that was never closed is not read.
func (w *writer) close() error {
	if err := errors.Join(w.gzip.Close(), w.file.Close()); err != nil {
		return fmt.Errorf("part: %w", err)
	}
	return os.Rename(w.path+".new", w.path)
}

// readAll reads the parts in a directory, oldest first.
func readAll(dir string) ([]*part, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "part-*.jsonl.gz"))
	if err != nil {
		return nil, err
	}
	slices.Sort(paths)
	var parts []*part
	for _, path := range paths {
		p, err := readFile(path)
		if err != nil {
			return nil, err
		}
		parts = append(parts, p)
	}
	if len(parts) == 0 {
		return nil, fmt.Errorf("no part in %s: record with: make record MINUTES=120", dir)
	}
	return parts, nil
}

func readFile(path string) (*part, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("part: %w", err)
	}
	defer file.Close()
	plain, err := gzip.NewReader(file)
	if err == nil {
		var p *part
		if p, err = read(plain); err == nil {
			return p, nil
		}
	}
	return nil, fmt.Errorf("part %s: %w; record it again", path, err)
}

// read reads one part, strictly.
func read(from io.Reader) (*part, error) {
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, maxLine)
	p := &part{}
	number := 0
	for lines.Scan() {
		number++
		var err error
		if number == 1 {
			err = p.readHeader(lines.Bytes())
		} else {
			err = p.readSecond(lines.Bytes())
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
	}
	switch {
	case lines.Err() != nil:
		return nil, fmt.Errorf("line %d: %w", number+1, lines.Err())
	case number == 0:
		return nil, errors.New("it is empty")
	}
	return p, nil
}

func (p *part) readHeader(line []byte) error {
	if err := strict(line, &p.header); err != nil {
		return err
	}
	if p.header.Schema != schema {
		return fmt.Errorf("schema %q: want %s", p.header.Schema, schema)
	}
	if len(p.header.Services) > maxServices {
		return fmt.Errorf("%d services, at most %d are read", len(p.header.Services), maxServices)
	}
	names := map[string]bool{}
	for _, s := range p.header.Services {
		if _, err := mesh.ParseService(s.Name); err != nil {
			return err
		}
		if names[s.Name] || s.P99 < 0 || s.P99 > 3600 || s.Errors < 0 || s.Errors > 1 {
			return fmt.Errorf("service %s: it comes twice, or its objective is none", s.Name)
		}
		names[s.Name] = true
	}
	return nil
}

func (p *part) readSecond(line []byte) error {
	var s second
	if err := strict(line, &s); err != nil {
		return err
	}
	if len(p.ticks) == 0 {
		p.first = s.At
	}
	if s.At != p.first+int64(len(p.ticks)) || len(p.ticks) == maxSeconds {
		return fmt.Errorf("second %d: want the one after the last, and at most %d", s.At, maxSeconds)
	}
	ticks := make([]topology.Tick, len(p.header.Services))
	for i := range s.Ticks {
		if err := s.Ticks[i].into(ticks); err != nil {
			return err
		}
	}
	p.ticks, p.load = append(p.ticks, ticks), append(p.load, s.Load)
	return nil
}

// into puts t in its place.
func (t *tick) into(ticks []topology.Tick) error {
	if t.Service < 0 || t.Service >= len(ticks) || ticks[t.Service].Hist != nil {
		return fmt.Errorf("service %d: there is none, or it comes twice", t.Service)
	}
	if len(t.Latencies) != len(t.Counts) || len(t.Counts) > maxBuckets || t.Requests > maxRequests || t.Errors > t.Requests {
		return fmt.Errorf("service %d: counts that cannot be", t.Service)
	}
	hist := &topology.Histogram{}
	for i, n := range t.Counts {
		if n > t.Requests {
			return fmt.Errorf("service %d: more latencies than requests", t.Service)
		}
		hist.AddN(time.Duration(t.Latencies[i]), n)
	}
	ticks[t.Service] = topology.Tick{Requests: t.Requests, Errors: t.Errors, Hist: hist}
	return nil
}

// strict decodes one JSON object and nothing else.
func strict(line []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(line))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more than one object")
	}
	return nil
}
