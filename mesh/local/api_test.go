package local

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestOrdersAreDecodedStrictly(t *testing.T) {
	known := []string{"service", "uid", "incarnation", "grace", "mode"}
	for body, want := range map[string]string{
		`{"service":"a/b","uid":"x","incarnation":3}`: "",
		`{"Service":"a/b"}`:                           "unknown or given twice",
		`{"service":"a/b","service":"c/d"}`:           "unknown or given twice",
		`{"service":"a/b"} x`:                         "bytes follow",
		`{"service":["a/b"]}`:                         "neither text nor number",
		`{"service":null}`:                            "neither text nor number",
		`{"incarnation":-1}`:                          "cannot unmarshal",
		`{"incarnation":1e99}`:                        "cannot unmarshal",
		`[]`:                                          "one JSON object",
		`{`:                                           "at byte",
		``:                                            "one JSON object",
	} {
		var order restartOrder
		err := decodeObject([]byte(body), &order, known)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", body, err, want)
		}
	}
}

// FuzzDecodeObject: what is accepted is valid JSON and comes out the same again.
func FuzzDecodeObject(f *testing.F) {
	known := []string{"service", "uid", "incarnation", "grace", "mode"}
	f.Add([]byte(`{"service":"a/b","uid":"x","incarnation":3}`))
	f.Add([]byte(`{"uid":{"a":[1]},"uid":null}{}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var order, again restartOrder
		if decodeObject(data, &order, known) != nil {
			return
		}
		text, err := json.Marshal(order)
		if err != nil {
			t.Fatal(err)
		}
		if err := decodeObject(text, &again, known); err != nil || again != order {
			t.Fatalf("%q came out as %s, then %+v, %v", data, text, again, err)
		}
	})
}

func TestControlInterfaceRefuses(t *testing.T) {
	s := &supervisor{options: Options{File: &File{}}, changed: make(chan struct{})}
	handler := s.routes()
	for _, test := range []struct {
		method, target, body string
		want                 int
	}{
		{"GET", "/v1/world?after=x", "", http.StatusBadRequest},
		{"GET", "/v1/world?after=1&after=2", "", http.StatusBadRequest},
		{"GET", "/v1/world?before=1", "", http.StatusBadRequest},
		{"GET", "/v1/ps?x=1", "", http.StatusBadRequest},
		{"POST", "/v1/world", "", http.StatusMethodNotAllowed},
		{"GET", "/v2/world", "", http.StatusNotFound},
		{"POST", "/v1/kill", `{"name":"x","signal":"SEGV"}`, http.StatusBadRequest},
		{"POST", "/v1/restart", `{"service":"a/b","uid":"x","incarnation":1,"grace":"1h"}`, http.StatusBadRequest},
		{"POST", "/v1/restart", `{"service":"a/b","uid":"x","incarnation":1,"force":1}`, http.StatusBadRequest},
		{"POST", "/v1/down", `{"now":1}`, http.StatusBadRequest},
		{"POST", "/v1/kill", `{"name":"` + strings.Repeat("x", maxRequestBytes) + `"}`, http.StatusRequestEntityTooLarge},
	} {
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, httptest.NewRequest(test.method, test.target, bytes.NewReader([]byte(test.body))))
		if answer.Code != test.want {
			t.Errorf("%s %s %.40s: %d %s, want %d", test.method, test.target, test.body, answer.Code, answer.Body, test.want)
		}
	}
}
