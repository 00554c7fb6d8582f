package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/sluicemesh/sluice/isa"
)

// answer is what the API says to a proposal.
type answer struct {
	Status  int    `json:"-"`
	ID      string `json:"id"`
	Verdict string `json:"verdict"`
	Code    string `json:"code"`
	Phase   string `json:"phase"`
	Epoch   string `json:"epoch"`
	Message string `json:"message"` // of an error
	Faults  []struct {
		Code   string `json:"code"`
		Path   string `json:"path"`
		Reason string `json:"reason"`
		Remedy string `json:"remedy"`
	} `json:"faults"`
}

// got spells the answer as the list of attacks does: ADMIT, HOLD:code, REJECT:code,
// THROTTLE, REPLAYED. What is none of these shows as it is.
func (a *answer) got() string {
	switch a.Verdict {
	case "admit":
		return "ADMIT"
	case "throttle":
		return "THROTTLE"
	case "replayed":
		return "REPLAYED"
	case "hold", "reject":
		return strings.ToUpper(a.Verdict) + ":" + a.Code
	}
	code, _, _ := strings.Cut(a.Message, ":")
	if code == string(isa.CodeRate) {
		return "THROTTLE"
	}
	for _, m := range isa.Meanings() {
		if string(m.Code) == code {
			a.Code = code
			return "REJECT:" + code
		}
	}
	return fmt.Sprintf("HTTP %d %s %s", a.Status, a.Code, a.Message)
}

// explains reports whether the answer says why, in plain text.
func (a *answer) explains() error {
	for _, f := range a.Faults {
		if f.Reason == "" || f.Remedy == "" {
			return fmt.Errorf("fault %s without reason or remedy", f.Code)
		}
		for _, c := range []byte(f.Path + f.Reason + f.Remedy) {
			if c < 0x20 || c >= 0x7f {
				return fmt.Errorf("raw byte %#x in the fault %s", c, f.Code)
			}
		}
	}
	if len(a.Faults) == 0 && a.Message == "" && a.Verdict != "admit" && a.Verdict != "replayed" {
		return errors.New("no reason was given")
	}
	return nil
}

// propose hands in a program through the API, as anybody with HTTP can.
func (p *plane) propose(token, source string) answer {
	program := map[string]any{"source": []byte(source)}
	if strings.HasPrefix(source, "id:") {
		program["format"] = "FORMAT_YAML" // the one that cannot be told from the others
	}
	body, _ := json.Marshal(map[string]any{"program": program})
	return p.call("ProposePlan", body, map[string]string{"Authorization": "Bearer " + token})
}

// call posts to a method of the API. An error of the transport is an answer too.
func (p *plane) call(method string, body []byte, header map[string]string) answer {
	request, err := http.NewRequest(http.MethodPost, p.url+"/sluice.v1.SluiceService/"+method, bytes.NewReader(body))
	if err != nil {
		return answer{Message: err.Error()}
	}
	request.Header.Set("Content-Type", "application/json")
	for name, value := range header {
		request.Header.Set(name, value)
	}
	response, err := p.client.Do(request)
	if err != nil {
		return answer{Message: err.Error()}
	}
	defer response.Body.Close()
	data, err := io.ReadAll(io.LimitReader(response.Body, 4<<20))
	if err != nil {
		return answer{Message: err.Error()}
	}
	a := answer{Status: response.StatusCode}
	if err := json.Unmarshal(data, &a); err != nil {
		a.Message = strings.TrimSpace(string(data[:min(len(data), 200)]))
	}
	return a
}

// act calls a method with the id of a plan.
func (p *plane) act(token, method, id string) answer {
	body, _ := json.Marshal(map[string]any{"id": id})
	return p.call(method, body, map[string]string{"Authorization": "Bearer " + token})
}
