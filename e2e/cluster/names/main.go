// Command names is the name server of a test cluster: it answers for services.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	kubeconfig := flag.String("kubeconfig", "", "kubeconfig `FILE` of the cluster")
	listen := flag.String("listen", "", "`ADDRESS` to answer at, over UDP")
	flag.Parse()
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := serve(ctx, *kubeconfig, *listen)
	cancel()
	if err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "names:", err)
		os.Exit(1)
	}
}
