package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	sluicev1 "github.com/sluicemesh/sluice/api/sluice/v1"
)

// statusView is the JSON of `sluice status`.
type statusView struct {
	header
	Server       string  `json:"server"`
	Remote       build   `json:"server_build"`
	Mode         string  `json:"mode"`
	Term         uint64  `json:"term"`
	Epoch        *string `json:"epoch"`
	Paused       bool    `json:"paused"`
	Frozen       *string `json:"frozen"`
	Services     int32   `json:"services"`
	Instances    int32   `json:"instances"`
	Proxies      int32   `json:"proxies"`
	EnvoyVersion *string `json:"envoy_version"`
	RunningPlans int32   `json:"running_plans"`
	Symptoms     int     `json:"symptoms"`
}

type build struct {
	Version string  `json:"version"`
	Commit  string  `json:"commit"`
	Started *string `json:"started"`
}

func (a *app) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Show the control plane's state: mode, topology, proxies, plans", Args: cobra.NoArgs,
		Example: "  sluice status\n  sluice status -o json | jq .running_plans",
		RunE: func(c *cobra.Command, _ []string) error {
			api, server, err := a.connect()
			if err != nil {
				return err
			}
			ctx, cancel := a.within(c.Context(), callTimeout)
			defer cancel()
			answer, err := api.GetStatus(ctx, connect.NewRequest(&sluicev1.GetStatusRequest{}))
			if err != nil {
				return apiError(server, err)
			}
			symptoms, err := api.ListSymptoms(ctx, connect.NewRequest(&sluicev1.ListSymptomsRequest{}))
			if err != nil {
				return apiError(server, err)
			}
			s := answer.Msg
			view := statusView{
				header: a.header("status"), Server: server,
				Remote: build{s.GetVersion(), s.GetCommit(), stamp(s.GetStarted())},
				Mode:   s.GetMode(), Term: s.GetTerm(), Epoch: null(s.GetEpoch()), Paused: s.GetPaused(),
				Frozen: null(s.GetFrozen()), Services: s.GetServices(), Instances: s.GetInstances(),
				Proxies: s.GetProxies(), EnvoyVersion: null(s.GetEnvoyVersion()),
				RunningPlans: s.GetRunningPlans(), Symptoms: len(symptoms.Msg.GetSymptoms()),
			}
			return a.print(view, func(w io.Writer) { a.statusTable(w, view, s, symptoms.Msg.GetSymptoms()) })
		},
	}
}

func (a *app) statusTable(w io.Writer, v statusView, s *sluicev1.GetStatusResponse, symptoms []*sluicev1.Symptom) {
	up := "-"
	if s.GetStarted() != nil {
		up = a.now().Sub(s.GetStarted().AsTime()).Truncate(time.Second).String()
	}
	table(w, func(w io.Writer) {
		row(w, "Control plane", fmt.Sprintf("%s, %s, up %s", v.Server, dash(v.Remote.Version), up))
		row(w, "Mode", fmt.Sprintf("%s, term %d", dash(v.Mode), v.Term))
		row(w, "Topology", fmt.Sprintf("%d services, %d instances, epoch %s", v.Services, v.Instances, shortEpoch(s.GetEpoch())))
		row(w, "Proxies", fmt.Sprintf("%d connected, Envoy %s", v.Proxies, dash(s.GetEnvoyVersion())))
		row(w, "Plans", fmt.Sprintf("%d running", v.RunningPlans))
	})
	if v.Paused {
		fmt.Fprintln(w, a.paint(a.terminal, caution, "PAUSED: no new step starts; `sluice resume --all` goes on"))
	}
	if v.Frozen != nil {
		fmt.Fprintln(w, a.paint(a.terminal, bad, "FROZEN: "+*v.Frozen))
	}
	for _, symptom := range symptoms {
		fmt.Fprintln(w, a.paint(a.terminal, bad, "SYMPTOM: "+symptom.GetService()+": "+symptom.GetEvidence()))
	}
}

// oneLine makes text that others wrote safe for a terminal: what is not printable, line
// ends and marks that turn the direction of writing too, is escaped.
func oneLine(text string) string {
	var out strings.Builder
	for _, r := range text {
		if unicode.IsPrint(r) {
			out.WriteRune(r)
			continue
		}
		quoted := strconv.QuoteRuneToASCII(r)
		out.WriteString(quoted[1 : len(quoted)-1])
	}
	return out.String()
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version of this program", Args: cobra.NoArgs,
		Example: "  sluice version\n  sluice version -o json",
		RunE: func(*cobra.Command, []string) error {
			return a.print(a.header("version"), func(w io.Writer) { fmt.Fprintf(w, "sluice %s (%s)\n", version, commit) })
		},
	}
}
