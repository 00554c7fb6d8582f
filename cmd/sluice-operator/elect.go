package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// Times of the Lease. A leader that cannot renew stops, by its own clock, before another
// can take over.
const (
	leaseFor   = 15 * time.Second
	renewUntil = 10 * time.Second
	leaseRetry = 2 * time.Second
)

// leaderLabel is on the pod of the replica that leads, so that Services find it.
const leaderLabel = "sluicemesh.io/leader"

// errLost says that leadership was lost: the process ends, and is started as a follower.
var errLost = errors.New("the Lease was lost")

// elect waits for the Lease, leads, and gives the Lease back only when everything that was
// done as the leader has ended.
func (o *operator) elect(ctx context.Context) error {
	o.label(ctx, false)
	held, release := context.WithCancel(context.WithoutCancel(ctx))
	defer release()
	result := make(chan error, 1)
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: &resourcelock.LeaseLock{
			LeaseMeta:  metav1.ObjectMeta{Namespace: o.opts.namespace, Name: o.opts.lease},
			Client:     o.client.CoordinationV1(),
			LockConfig: resourcelock.ResourceLockConfig{Identity: o.opts.identity},
		},
		Name: o.opts.lease, LeaseDuration: leaseFor, RenewDeadline: renewUntil, RetryPeriod: leaseRetry,
		ReleaseOnCancel: true,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(lost context.Context) {
				leading, stop := context.WithCancelCause(ctx)
				defer stop(nil)
				defer context.AfterFunc(lost, func() { stop(errLost) })()
				result <- errors.Join(o.leading(leading), context.Cause(leading))
				release()
			},
			OnStoppedLeading: func() {},
			OnNewLeader:      func(who string) { o.log.Info("leader", "identity", who) },
		},
	})
	if err != nil {
		return fmt.Errorf("leader election: %w", err)
	}
	waiting := context.AfterFunc(ctx, func() {
		if !elector.IsLeader() {
			release()
		}
	})
	defer waiting()
	elector.Run(held)
	select {
	case err = <-result: // it leads no more, or ended by itself
		return err
	default:
	}
	if elector.IsLeader() || held.Err() == nil {
		return errors.Join(<-result, errLost)
	}
	return ctx.Err()
}

// leading leads until ctx ends.
func (o *operator) leading(ctx context.Context) error {
	l := &leader{operator: o, log: o.log}
	o.log.Info("leading", "identity", o.opts.identity)
	defer o.label(context.WithoutCancel(ctx), false)
	return l.run(ctx)
}

// label puts the label of the leader on this replica's pod, or takes it away. Outside of a
// cluster there is no such pod, and no harm.
func (o *operator) label(ctx context.Context, leads bool) {
	bound, cancel := context.WithTimeout(ctx, farewell)
	defer cancel()
	value := "null"
	if leads {
		value = `"true"`
	}
	patch := fmt.Appendf(nil, `{"metadata":{"labels":{%q:%s}}}`, leaderLabel, value)
	_, err := o.client.CoreV1().Pods(o.opts.namespace).Patch(bound, o.opts.identity, types.MergePatchType, patch,
		metav1.PatchOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		o.log.Warn("pod not labelled", "label", leaderLabel, "leads", leads, "error", err)
	}
}
