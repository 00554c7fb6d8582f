package files

import (
	"fmt"
	"io"
	"time"
)

// jaegerTrace is what is read of a trace as Jaeger's query API writes it. The processes
// come after the spans, so that a trace is read as a whole.
type jaegerTrace struct {
	Spans     []jaegerSpan `json:"spans"`
	Processes map[string]struct {
		Service string      `json:"serviceName"`
		Tags    []jaegerTag `json:"tags"`
	} `json:"processes"`
}

type jaegerSpan struct {
	TraceID    string `json:"traceID"`
	ID         string `json:"spanID"`
	Parent     string `json:"parentSpanID"`
	References []struct {
		Type string `json:"refType"`
		ID   string `json:"spanID"`
	} `json:"references"`
	Start    number      `json:"startTime"` // microseconds
	Duration number      `json:"duration"`  // microseconds
	Tags     []jaegerTag `json:"tags"`
	Process  string      `json:"processID"`
}

type jaegerTag struct {
	Key   string `json:"key"`
	Value any    `json:"value"`
}

// jaeger reads {"data": [trace...]}, other members are skipped.
func (f *file) jaeger(in io.Reader) error {
	d := f.newDocument(in)
	if err := d.open('{'); err != nil {
		return err
	}
	found := false
	for d.decoder.More() {
		name, err := d.key()
		if err != nil {
			return err
		}
		if name == "data" {
			found = true
			err = d.array(d.jaegerTrace)
		} else {
			var skipped any
			err = d.decode(&skipped)
		}
		if err != nil {
			return err
		}
	}
	if err := d.open('}'); err != nil {
		return err
	}
	if !found {
		return d.fault(`no member "data"`, "want what /api/traces of Jaeger answers")
	}
	return d.end()
}

// jaegerTrace reads one trace.
func (d *document) jaegerTrace() error {
	var t jaegerTrace
	if err := d.decode(&t); err != nil {
		return err
	}
	for i := range t.Spans {
		j := &t.Spans[i]
		process, found := t.Processes[j.Process]
		if !found {
			return d.fault(fmt.Sprintf("span %.64q names process %.64q, which the trace lacks", j.ID, j.Process), "export the trace again")
		}
		s := j.span()
		s.service, s.instance = process.Service, instanceOf(process.Tags)
		if err := d.add(&s); err != nil {
			return err
		}
	}
	return nil
}

// span reads all but the process of j.
func (j *jaegerSpan) span() span {
	s := span{
		trace: j.TraceID, id: j.ID, parent: j.Parent, start: time.UnixMicro(int64(j.Start)), duration: micros(int64(j.Duration)),
	}
	for _, ref := range j.References {
		if s.parent == "" || ref.Type == "CHILD_OF" {
			s.parent = ref.ID
		}
	}
	kinds := map[string]kind{"client": client, "server": server, "producer": producer, "consumer": consumer}
	for _, tag := range j.Tags {
		text, _ := tag.Value.(string)
		switch tag.Key {
		case "span.kind":
			s.kind = kinds[text]
		case "peer.service":
			s.peer = text
		case "error":
			yes, _ := tag.Value.(bool)
			s.failed = s.failed || yes || text == "true"
		}
	}
	if !s.kind.caller() && s.kind != consumer {
		s.peer = ""
	}
	return s
}

// instanceOf returns the instance that the tags of a process name, "" if none.
func instanceOf(tags []jaegerTag) string {
	for _, key := range []string{"service.instance.id", "hostname", "ip"} {
		for _, tag := range tags {
			if text, ok := tag.Value.(string); ok && tag.Key == key && len(text) <= MaxName {
				return text
			}
		}
	}
	return ""
}
