package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/sluicemesh/sluice/e2e/cluster"
	"github.com/sluicemesh/sluice/e2e/cluster/scenario"
)

// runOptions are the flags of run.
type runOptions struct {
	match string
	keep  bool
	out   string
}

func (o *runOptions) register(flags *flag.FlagSet) {
	flags.StringVar(&o.match, "run", "", "`REGEXP` of the scenarios to run; \"\" = all")
	flags.BoolVar(&o.keep, "keep", false, "leave the cluster up, and say how to use and end it")
	flags.StringVar(&o.out, "out", "e2e.json", "report `FILE`")
}

// run brings a cluster up, runs the scenarios, writes the report and takes the cluster down.
func (o *runOptions) run(ctx context.Context, cache string) (err error) {
	match, err := regexp.Compile(o.match)
	if err != nil {
		fmt.Fprintln(os.Stderr, "-run:", err)
		return usageError{err}
	}
	started := time.Now()
	world, err := cluster.Ready(ctx, cache, os.Stderr)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, o.leave(context.WithoutCancel(ctx), world)) }()
	results := scenario.Run(ctx, scenario.Settings{
		Kubectl: world.Cluster.Kubectl(), Prefix: world.Cluster.Inside(), Sluice: world.Programs.Path("cmd/sluice"),
		Images: scenario.Images{App: cluster.AppImage, Load: cluster.LoadImage, Envoy: cluster.EnvoyImage,
			Netinit: cluster.NetinitImage, Operator: cluster.OperatorImage},
		Chart: world.Programs.Source("charts/sluice"), Progress: os.Stderr,
	}, match)
	report := scenario.Report{Schema: "sluice.e2e/1", Version: version, Commit: commit,
		Started: started.UTC().Format(time.RFC3339), Seconds: time.Since(started).Seconds(), Scenarios: results}
	if err := report.Write(o.out); err != nil {
		return err
	}
	report.Table(os.Stdout)
	return scenario.Verdict(results)
}

// leave takes the cluster down, or says how to use it.
func (o *runOptions) leave(ctx context.Context, world *cluster.World) error {
	defer world.Unlock()
	if !o.keep {
		return world.Cluster.Down(ctx)
	}
	fmt.Fprintf(os.Stderr, "the cluster stays up:\n  kubectl: %s\n  end it:  make e2e-cluster-down\n",
		strings.Join(world.Cluster.Kubectl(), " "))
	return world.Cluster.Keep()
}
