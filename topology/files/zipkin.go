package files

import (
	"encoding/json"
	"io"
	"time"
)

// zipkinSpan is what is read of a Zipkin v2 span.
type zipkinSpan struct {
	TraceID  string            `json:"traceId"`
	ID       string            `json:"id"`
	ParentID string            `json:"parentId"`
	Kind     string            `json:"kind"`
	Start    number            `json:"timestamp"` // microseconds
	Duration number            `json:"duration"`  // microseconds
	Shared   bool              `json:"shared"`
	Local    zipkinEndpoint    `json:"localEndpoint"`
	Remote   zipkinEndpoint    `json:"remoteEndpoint"`
	Tags     map[string]string `json:"tags"`
}

type zipkinEndpoint struct {
	Service string `json:"serviceName"`
	IPv4    string `json:"ipv4"`
}

// zipkin reads an array of spans, or of traces, which are arrays of spans.
func (f *file) zipkin(in io.Reader) error {
	d := f.newDocument(in)
	err := d.array(func() error {
		var element json.RawMessage
		if err := d.decode(&element); err != nil {
			return err
		}
		if len(element) > 0 && element[0] == '[' {
			var trace []zipkinSpan
			if err := json.Unmarshal(element, &trace); err != nil {
				return d.broken(err)
			}
			return d.zipkinSpans(trace)
		}
		one := make([]zipkinSpan, 1)
		if err := json.Unmarshal(element, &one[0]); err != nil {
			return d.broken(err)
		}
		return d.zipkinSpans(one)
	})
	if err != nil {
		return err
	}
	return d.end()
}

func (d *document) zipkinSpans(spans []zipkinSpan) error {
	kinds := map[string]kind{"": internal, "CLIENT": client, "SERVER": server, "PRODUCER": producer, "CONSUMER": consumer}
	for i := range spans {
		z := &spans[i]
		side, found := kinds[z.Kind]
		if !found {
			return d.fault("kind is none of CLIENT, SERVER, PRODUCER, CONSUMER", "correct the span")
		}
		_, failed := z.Tags["error"]
		s := span{
			trace: z.TraceID, id: z.ID, parent: z.ParentID, service: z.Local.Service, instance: z.Local.IPv4, kind: side,
			shared: z.Shared, start: time.UnixMicro(int64(z.Start)), duration: micros(int64(z.Duration)), failed: failed,
		}
		if side != server && side != internal {
			s.peer = z.Remote.Service
		}
		if err := d.add(&s); err != nil {
			return err
		}
	}
	return nil
}
