package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"connectrpc.com/connect"

	"github.com/sluicemesh/sluice/agents/rules"
	"github.com/sluicemesh/sluice/api/client"
	sluicev1 "github.com/sluicemesh/sluice/api/sluice/v1"
	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/topology"
)

const (
	callTimeout  = 3 * time.Second
	leastBackOff = 250 * time.Millisecond
	mostBackOff  = 5 * time.Second
	maxTokenSize = 4096
)

// agent feeds the rules with what the API says and hands in what they propose.
type agent struct {
	server, tokenFile string
	settings          rules.Settings
	log               *slog.Logger
	now               func() time.Time

	api   client.Client // nil until a token was read
	state rules.State
	graph *topology.Snapshot // of epoch; nil = none yet
	epoch string
	down  bool // the last look failed; said once
}

func newAgent(server, tokenFile string, settings rules.Settings, log *slog.Logger) *agent {
	return &agent{server: server, tokenFile: tokenFile, settings: settings, log: log, now: time.Now}
}

// watch looks again and again until ctx ends. A control plane that is away, or has not
// yet written its tokens, is waited for; only a wrong address is an error.
func (a *agent) watch(ctx context.Context, interval time.Duration) error {
	if _, err := client.BaseURL(a.server); err != nil {
		return fmt.Errorf("--server: %w", err)
	}
	wait := interval
	for {
		if err := a.look(ctx); err == nil {
			if a.down {
				a.log.Info("control plane is back")
			}
			a.down, wait = false, interval
		} else if ctx.Err() == nil {
			if !a.down {
				a.log.Warn("control plane does not answer, waiting for it", "error", err)
			}
			a.down, wait = true, min(max(2*wait, leastBackOff), mostBackOff)
			a.dropOnAuth(err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// dropOnAuth forgets the token that the server does not take, so that it is read again.
func (a *agent) dropOnAuth(err error) {
	if connect.CodeOf(err) == connect.CodeUnauthenticated {
		a.api = nil
	}
}

// look is one round: observe, decide, propose.
func (a *agent) look(ctx context.Context) error {
	if err := a.connect(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	symptoms, err := a.api.ListSymptoms(ctx, connect.NewRequest(&sluicev1.ListSymptomsRequest{}))
	if err != nil {
		return fmt.Errorf("list symptoms: %w", err)
	}
	if len(symptoms.Msg.GetSymptoms()) == 0 && len(a.state.Incidents) == 0 {
		return nil
	}
	observation, err := a.observe(ctx, symptoms.Msg.GetSymptoms())
	if err != nil {
		return err
	}
	state, proposal := rules.Decide(a.settings, a.state, observation)
	a.state = state
	if proposal == nil {
		return nil
	}
	answer := a.propose(ctx, proposal)
	a.state = rules.Learn(a.settings, a.state, answer, a.now())
	return nil
}

// connect reads the token and makes a client, if there is none.
func (a *agent) connect() error {
	if a.api != nil {
		return nil
	}
	token, err := readToken(a.tokenFile)
	if err != nil {
		return err
	}
	api, err := client.New(a.server, token)
	if err != nil {
		return fmt.Errorf("client: %w", err)
	}
	a.api = api
	return nil
}

// readToken reads the one line of a token file.
func readToken(path string) (string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("token: %w", err)
	}
	token := strings.TrimSpace(string(text))
	if token == "" || len(token) > maxTokenSize {
		return "", errors.New("token: the file is empty or too large")
	}
	return token, nil
}

// observe asks for everything a decision rests on.
func (a *agent) observe(ctx context.Context, present []*sluicev1.Symptom) (rules.Observation, error) {
	o := rules.Observation{Now: a.now()}
	graph, err := a.api.GetTopology(ctx, connect.NewRequest(&sluicev1.GetTopologyRequest{}))
	if err != nil {
		return o, fmt.Errorf("topology: %w", err)
	}
	if a.graph == nil || a.epoch != graph.Msg.GetEpoch() {
		a.graph, a.epoch = graphIn(graph.Msg), graph.Msg.GetEpoch()
	}
	o.Graph = a.graph
	o.Facts = factsIn(graph.Msg, a.graph)
	plans, err := a.api.ListPlans(ctx, connect.NewRequest(&sluicev1.ListPlansRequest{}))
	if err != nil {
		return o, fmt.Errorf("plans: %w", err)
	}
	o.Plans = plansIn(plans.Msg.GetPlans())
	for _, symptom := range present[:min(len(present), rules.MaxSymptoms)] {
		service, err := mesh.ParseService(symptom.GetService())
		if err != nil {
			continue
		}
		group, err := a.api.GetGroup(ctx, connect.NewRequest(&sluicev1.GetGroupRequest{
			Service: string(service), Onset: symptom.GetOnset(),
		}))
		if connect.CodeOf(err) == connect.CodeNotFound {
			continue // gone since the list was made
		}
		if err != nil {
			return o, fmt.Errorf("group of %s: %w", service, err)
		}
		o.Symptoms = append(o.Symptoms, rules.Symptom{
			Service: service, Onset: symptom.GetOnset().AsTime(), Group: groupIn(group.Msg),
			Slow: symptom.GetErrorShare() < failing && allAre(mesh.Ready, graph.Msg, string(service)),
		})
		if facts, known := o.Facts[service]; known {
			// Without a process its sidecar gives up on what is in flight within seconds.
			facts.AllFail = symptom.GetSucceeded() == 0 && !allAre(mesh.Stopped, graph.Msg, string(service))
			o.Facts[service] = facts
		}
	}
	return o, nil
}

// failing is the share of failed requests from which a symptom is more than slowness.
const failing = 0.005

// allAre reports whether every instance of service is in state.
func allAre(state mesh.InstanceState, graph *sluicev1.GetTopologyResponse, service string) bool {
	for _, s := range graph.GetServices() {
		for _, instance := range s.GetInstances() {
			if s.GetName() == service && instance.GetState() != string(state) {
				return false
			}
		}
	}
	return true
}

// propose hands in a program and says what became of it.
func (a *agent) propose(ctx context.Context, proposal *rules.Proposal) rules.Answer {
	answer := rules.Answer{ID: proposal.Program.ID, Verdict: rules.Lost}
	log := a.log.With("plan", proposal.Program.ID, "symptom", proposal.Symptom)
	response, err := a.api.ProposePlan(ctx, connect.NewRequest(&sluicev1.ProposePlanRequest{
		Program: &sluicev1.Program{
			Format: sluicev1.Program_FORMAT_JSON, Source: isa.FormatJSON(proposal.Program),
		},
	}))
	if err != nil {
		log.Warn("no answer to a proposal", "error", err)
		return answer
	}
	answer.Verdict, answer.Code = rules.Verdict(response.Msg.GetVerdict()), isa.Code(response.Msg.GetCode())
	answer.RetryAfter = response.Msg.GetRetryAfter().AsDuration()
	log.Info("proposed", "verdict", answer.Verdict, "code", answer.Code, "reason", proposal.Reason,
		"steps", len(proposal.Program.Steps))
	for _, fault := range response.Msg.GetFaults() {
		log.Warn("fault in a proposal", "code", fault.GetCode(), "path", fault.GetPath(),
			"fault", fault.GetReason(), "remedy", fault.GetRemedy())
	}
	return answer
}
