package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"

	"github.com/sluicemesh/sluice/api/server"
	"github.com/sluicemesh/sluice/mesh/identity"
	"github.com/sluicemesh/sluice/xds/lease"
	"github.com/sluicemesh/sluice/xds/replica"
)

// replicaOptions is how several sluiced serve the proxies of one world. One leads: it has
// the kernel and the journal. The others only serve.
type replicaOptions struct {
	follow string // address where the leader connects; "" = this one leads
	peers  []replica.Peer
}

// register adds the flags.
func (o *replicaOptions) register(flags *flag.FlagSet) {
	flags.StringVar(&o.follow, "follow", "",
		"only serve proxies, by order of the sluiced that connects to this `ADDRESS` over mutual TLS; without kernel and API")
	flags.Func("replica", "sluiced that serves proxies by order of this one, as `NAME=HOST:PORT` of its --follow; may be repeated",
		o.add)
}

// add takes one --replica.
func (o *replicaOptions) add(text string) error {
	name, address, _ := strings.Cut(text, "=")
	if _, _, err := net.SplitHostPort(address); err != nil || name == "" {
		return errors.New("want NAME=HOST:PORT")
	}
	for _, p := range o.peers {
		if p.Name == name || p.Address == address {
			return fmt.Errorf("%s is named twice", text)
		}
	}
	o.peers = append(o.peers, replica.Peer{Name: name, Address: address})
	return nil
}

// several reports whether there is more than this one.
func (o *replicaOptions) several() bool { return o.follow != "" || len(o.peers) > 0 }

func (o *replicaOptions) validate() error {
	if o.follow != "" && len(o.peers) > 0 {
		return errors.New("--follow and --replica: a replica that only serves leads no other")
	}
	return nil
}

// lead orders the other replicas until ctx ends, or a later leader is seen: then this one
// must decide nothing any more, and ends.
func (d *daemon) lead(ctx context.Context) error {
	_, dialing, err := identity.PeerConfigs(d.own.source, d.own.domain)
	if err != nil {
		return err
	}
	leader := replica.Leader{
		Server: d.proxies, Epoch: d.kernel.Status().Term, Peers: d.opts.replicas.peers, TLS: dialing, Log: d.log,
	}
	return leader.Run(ctx)
}

// follow serves proxies, and obeys whoever leads, until ctx ends.
func (d *daemon) follow(ctx context.Context) error {
	serving, _, err := identity.PeerConfigs(d.own.source, d.own.domain)
	if err != nil {
		return err
	}
	var config net.ListenConfig
	orders, err := config.Listen(ctx, "tcp", d.opts.replicas.follow)
	if err != nil {
		return fmt.Errorf("--follow: %w; choose another address", err)
	}
	loopback, err := listen(d.opts.api, "--api")
	if err != nil {
		return errors.Join(err, orders.Close())
	}
	secrets, err := tokens(d.opts.state)
	if err != nil {
		return errors.Join(err, orders.Close(), loopback.Close())
	}
	links := replica.NewServer(d.proxies, serving)
	web := server.NewHTTP(d.pages(secrets))
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return d.registry.Watch(ctx, d.setWorld) })
	group.Go(func() error { return links.Serve(orders) })
	group.Go(func() error { return web.Serve(loopback) })
	group.Go(func() error {
		// Overlays that are in force are known only by the first order.
		d.proxies.AwaitOrder(ctx, lease.DefaultTTL)
		d.ready.Store(true)
		return d.proxies.Serve(ctx)
	})
	group.Go(func() error {
		<-ctx.Done()
		links.Stop()
		bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewell)
		defer cancel()
		return errors.Join(web.Shutdown(bound), ctx.Err())
	})
	d.log.Info("sluiced serves proxies for a leader", "follow", orders.Addr().String(), "api", loopback.Addr().String(),
		"xds", d.opts.xds, "version", version)
	return group.Wait()
}

// pages is what a replica without an API serves: whether it is ready and, to who holds a
// token, its metrics.
func (d *daemon) pages(holders server.Authenticator) http.Handler {
	mux := http.NewServeMux()
	metrics := promhttp.HandlerFor(d.metrics, promhttp.HandlerOpts{Timeout: 10 * time.Second})
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) {
		token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if _, known := holders.Authenticate(token); !known {
			w.Header().Set("WWW-Authenticate", `Bearer realm="sluice"`)
			http.Error(w, "authn: a token is needed", http.StatusUnauthorized)
			return
		}
		metrics.ServeHTTP(w, r)
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if !d.ready.Load() {
			http.Error(w, "no leader has spoken yet", http.StatusServiceUnavailable)
		}
	})
	return mux
}
