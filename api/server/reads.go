package server

import (
	"context"
	"errors"
	"slices"
	"strings"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	sluicev1 "github.com/sluicemesh/sluice/api/sluice/v1"
	"github.com/sluicemesh/sluice/mesh"
)

// GetStatus implements the method of the same name.
func (s *service) GetStatus(
	ctx context.Context, _ *connect.Request[sluicev1.GetStatusRequest],
) (*connect.Response[sluicev1.GetStatusResponse], error) {
	by := principal(ctx)
	kernel := s.config.Kernel.Status()
	answer := &sluicev1.GetStatusResponse{
		Version: s.config.Version, Commit: s.config.Commit, Mode: string(kernel.Mode), Term: kernel.Term,
		Epoch: s.config.Topology.Graph().GetEpoch(), Paused: kernel.Paused != "", Frozen: kernel.Frozen,
		RunningPlans: int32(kernel.Open), Started: timeOut(s.config.Started),
		Caller: by.Name, Role: string(by.Role),
	}
	world := s.config.Registry.World()
	answer.Services = int32(len(world.Services))
	for i := range world.Services {
		answer.Instances += int32(len(world.Services[i].Instances))
	}
	for _, proxy := range s.proxies() {
		if proxy.Connected {
			answer.Proxies++
			answer.EnvoyVersion = proxy.EnvoyVersion
		}
	}
	return connect.NewResponse(answer), nil
}

// GetTopology implements the method of the same name.
func (s *service) GetTopology(
	context.Context, *connect.Request[sluicev1.GetTopologyRequest],
) (*connect.Response[sluicev1.GetTopologyResponse], error) {
	return connect.NewResponse(s.config.Topology.Graph()), nil
}

// GetGroup implements the method of the same name.
func (s *service) GetGroup(
	_ context.Context, request *connect.Request[sluicev1.GetGroupRequest],
) (*connect.Response[sluicev1.GetGroupResponse], error) {
	question := request.Msg
	if _, err := mesh.ParseService(question.GetService()); err != nil {
		return nil, invalid("service", "%v", err)
	}
	if onset := question.GetOnset(); onset != nil && !onset.IsValid() {
		return nil, invalid("onset", "is no valid time")
	}
	if err := checkWindow(question.GetWindow()); err != nil {
		return nil, err
	}
	group, err := s.config.Topology.Group(question)
	switch {
	case errors.Is(err, ErrUnknownService):
		return nil, connect.NewError(connect.CodeNotFound, err)
	case err != nil:
		return nil, connect.NewError(connect.CodeFailedPrecondition, err)
	}
	return connect.NewResponse(group), nil
}

func checkWindow(window *durationpb.Duration) error {
	if window != nil && (!window.IsValid() || window.AsDuration() < 0) {
		return invalid("window", "must be a duration of 0 or more")
	}
	return nil
}

// ListSymptoms implements the method of the same name.
func (s *service) ListSymptoms(
	context.Context, *connect.Request[sluicev1.ListSymptomsRequest],
) (*connect.Response[sluicev1.ListSymptomsResponse], error) {
	answer := &sluicev1.ListSymptomsResponse{}
	if s.config.Symptoms == nil {
		return connect.NewResponse(answer), nil
	}
	for _, symptom := range s.config.Symptoms.Symptoms() {
		answer.Symptoms = append(answer.Symptoms, &sluicev1.Symptom{
			Service: string(symptom.Service), Onset: timeOut(symptom.Onset), Noticed: timeOut(symptom.Noticed),
			Evidence: symptom.Evidence, ErrorShare: symptom.ErrorShare, P99Seconds: symptom.P99.Seconds(),
			Succeeded: symptom.Succeeded,
		})
	}
	return connect.NewResponse(answer), nil
}

// ListProxies implements the method of the same name.
func (s *service) ListProxies(
	_ context.Context, request *connect.Request[sluicev1.ListProxiesRequest],
) (*connect.Response[sluicev1.ListProxiesResponse], error) {
	node := request.Msg.GetNode()
	if node == "" && (request.Msg.GetConfig() || request.Msg.GetDiff()) {
		return nil, connect.NewError(connect.CodeInvalidArgument, errors.New("config and diff: of one node only: name it"))
	}
	answer := &sluicev1.ListProxiesResponse{}
	for _, proxy := range s.proxies() {
		if node == "" || node == proxy.Node {
			answer.Proxies = append(answer.Proxies, s.details(proxyOut(proxy), request.Msg))
		}
	}
	if node != "" && len(answer.Proxies) == 0 {
		return nil, connect.NewError(connect.CodeNotFound, errors.New("node: no such proxy: see `sluice proxies`"))
	}
	return connect.NewResponse(answer), nil
}

// proxies returns the proxies sorted by node.
func (s *service) proxies() []Proxy {
	if s.config.Proxies == nil {
		return nil
	}
	proxies := slices.Clone(s.config.Proxies.Proxies())
	slices.SortFunc(proxies, func(a, b Proxy) int { return strings.Compare(a.Node, b.Node) })
	return proxies
}

// details adds to a proxy what was asked for and is known of its configuration.
func (s *service) details(out *sluicev1.Proxy, request *sluicev1.ListProxiesRequest) *sluicev1.Proxy {
	configs, known := s.config.Proxies.(ProxyConfigs)
	if !known {
		return out
	}
	if request.GetConfig() {
		out.Config = configs.Config(out.GetNode())
	}
	if request.GetDiff() {
		out.Diff = configs.Overlaid(out.GetNode())
	}
	return out
}

func proxyOut(proxy Proxy) *sluicev1.Proxy {
	out := &sluicev1.Proxy{
		Node: proxy.Node, Service: string(proxy.Service), Connected: proxy.Connected,
		Since: timeOut(proxy.Since), EnvoyVersion: proxy.EnvoyVersion,
	}
	for _, t := range proxy.Types {
		out.Types = append(out.Types, &sluicev1.ProxyType{
			Type: t.Type, Version: t.Sent, Acked: t.Acked, Nack: t.Nack, At: timeOut(t.At), Resources: int32(t.Resources),
		})
	}
	for _, key := range proxy.Overlays {
		name := string(key.Kind) + " " + string(key.Callee)
		if key.Caller != "" {
			name += " from " + string(key.Caller)
		}
		out.Overlays = append(out.Overlays, name)
	}
	return out
}
