package files

import (
	"errors"
	"fmt"
	"io"
	"time"
)

// otlpObject is what is read of an ExportTraceServiceRequest, or of a TracesData, in
// the JSON of protobuf: names in lowerCamelCase, ids in hex, 64 bits as strings.
type otlpObject struct {
	Resources *[]otlpResource `json:"resourceSpans"`
}

type otlpResource struct {
	Resource struct {
		Attributes []otlpAttribute `json:"attributes"`
	} `json:"resource"`
	Scopes []struct {
		Spans []otlpSpan `json:"spans"`
	} `json:"scopeSpans"`
}

type otlpSpan struct {
	TraceID    string          `json:"traceId"`
	ID         string          `json:"spanId"`
	Parent     string          `json:"parentSpanId"`
	Kind       otlpKind        `json:"kind"`
	Start      number          `json:"startTimeUnixNano"`
	End        number          `json:"endTimeUnixNano"`
	Attributes []otlpAttribute `json:"attributes"`
	Status     struct {
		Code otlpStatus `json:"code"`
	} `json:"status"`
}

type otlpAttribute struct {
	Key   string `json:"key"`
	Value struct {
		Text *string `json:"stringValue"`
		Int  *number `json:"intValue"`
	} `json:"value"`
}

// otlpKind is SpanKind, by number or by name.
type otlpKind kind

// UnmarshalJSON implements json.Unmarshaler.
func (k *otlpKind) UnmarshalJSON(data []byte) error {
	kinds := map[string]kind{
		"0": internal, "1": internal, "2": server, "3": client, "4": producer, "5": consumer,
		`"SPAN_KIND_UNSPECIFIED"`: internal, `"SPAN_KIND_INTERNAL"`: internal, `"SPAN_KIND_SERVER"`: server,
		`"SPAN_KIND_CLIENT"`: client, `"SPAN_KIND_PRODUCER"`: producer, `"SPAN_KIND_CONSUMER"`: consumer,
	}
	side, found := kinds[string(data)]
	if !found {
		return fmt.Errorf("span kind %.40s is none of OTLP's", data)
	}
	*k = otlpKind(side)
	return nil
}

// otlpStatus is whether a status code is ERROR, by number or by name.
type otlpStatus bool

// UnmarshalJSON implements json.Unmarshaler.
func (s *otlpStatus) UnmarshalJSON(data []byte) error {
	switch string(data) {
	case "0", "1", `"STATUS_CODE_UNSET"`, `"STATUS_CODE_OK"`:
		*s = false
	case "2", `"STATUS_CODE_ERROR"`:
		*s = true
	default:
		return fmt.Errorf("status code %.40s is none of OTLP's", data)
	}
	return nil
}

// otlp reads objects one after the other: one file, or one object a line as the
// collector's file exporter writes them.
func (f *file) otlp(in io.Reader) error {
	d := f.newDocument(in)
	for {
		var object otlpObject
		err := d.decoder.Decode(&object)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return d.broken(err)
		}
		d.in.left = MaxElement
		if object.Resources == nil {
			return d.fault(`no member "resourceSpans"`, "want OTLP JSON of traces")
		}
		for i := range *object.Resources {
			if err := d.otlpResource(&(*object.Resources)[i]); err != nil {
				return err
			}
		}
	}
}

func (d *document) otlpResource(r *otlpResource) error {
	service, instance := text(r.Resource.Attributes, "service.name"), text(r.Resource.Attributes, "service.instance.id")
	for _, scope := range r.Scopes {
		for i := range scope.Spans {
			o := &scope.Spans[i]
			if o.End < o.Start || o.Start < 0 {
				return d.fault(fmt.Sprintf("span %.64q ends before it starts", o.ID), "leave the span out")
			}
			s := span{
				trace: o.TraceID, id: o.ID, parent: o.Parent, service: service, instance: instance, kind: kind(o.Kind),
				start: time.Unix(0, int64(o.Start)), duration: time.Duration(o.End - o.Start), failed: o.failed(),
			}
			if s.kind.caller() {
				s.peer = text(o.Attributes, "peer.service")
			}
			if err := d.add(&s); err != nil {
				return err
			}
		}
	}
	return nil
}

// failed reports whether the callee is to blame: a 4xx is its caller's fault.
func (o *otlpSpan) failed() bool {
	for _, key := range []string{"http.response.status_code", "http.status_code"} {
		for _, a := range o.Attributes {
			if a.Key == key && a.Value.Int != nil {
				return *a.Value.Int >= 500
			}
		}
	}
	return bool(o.Status.Code)
}

// text returns the value of a text attribute, "" if there is none.
func text(attributes []otlpAttribute, key string) string {
	for _, a := range attributes {
		if a.Key == key && a.Value.Text != nil {
			return *a.Value.Text
		}
	}
	return ""
}
