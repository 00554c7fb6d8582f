// Package cluster brings up a real Kubernetes of one node for tests, and takes it down
// again without a trace: etcd, kube-apiserver, kube-controller-manager, kube-scheduler,
// kubelet, kube-proxy, containerd, and a name server of its own. It is not for clusters
// that anybody depends on, and knows nothing of Sluice.
//
// Kubernetes is built once, from the Go module proxy, into the cache (Build); etcd,
// containerd, runc, the CNI plugins and iptables are Debian's. Images are made by hand
// out of programs that are here (Images): nothing is pulled.
//
//	machine ── namespace "sluice-e2e" (no way out of it) ───────────────────────────
//	           lo    10.250.0.1  the node: API server :6443, name server :53
//	           cni0  10.244.0.1  bridge; pods 10.244.0.0/24, services 10.96.0.0/16
//
// Everything runs as root in that network namespace, with sockets, certificates, logs
// and container files in one directory, State. There is one cluster a machine: the
// addresses are fixed, and a lock says so.
package cluster
