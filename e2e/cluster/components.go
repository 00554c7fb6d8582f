package cluster

import "net"

// The command lines of the daemons. S stands for State.

func containerdLine() []string { return []string{"containerd", "-c", "$S/containerd.toml"} }

// etcdLine: without fsync, because nothing of a test cluster outlives the machine.
func etcdLine() []string {
	const client, peer = "http://127.0.0.1:2379", "http://127.0.0.1:2380"
	return []string{"etcd", "--data-dir", "$S/etcd", "--unsafe-no-fsync", "--listen-client-urls", client,
		"--advertise-client-urls", client, "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
		"--initial-cluster", "default=" + peer}
}

// apiserverLine: kubelets are reached by address, because no name of a node resolves.
func apiserverLine() []string {
	return []string{"kube-apiserver", "--etcd-servers=http://127.0.0.1:2379",
		"--bind-address=" + NodeIP, "--advertise-address=" + NodeIP, "--secure-port=" + apiPort,
		"--service-cluster-ip-range=" + serviceCIDR, "--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction", "--allow-privileged=true", "--anonymous-auth=false",
		"--kubelet-preferred-address-types=InternalIP",
		"--client-ca-file=$S/pki/ca.crt", "--tls-cert-file=$S/pki/apiserver.crt", "--tls-private-key-file=$S/pki/apiserver.key",
		"--kubelet-client-certificate=$S/pki/apiserver-kubelet-client.crt",
		"--kubelet-client-key=$S/pki/apiserver-kubelet-client.key", "--kubelet-certificate-authority=$S/pki/ca.crt",
		"--service-account-issuer=https://kubernetes.default.svc", "--service-account-key-file=$S/pki/sa.pub",
		"--service-account-signing-key-file=$S/pki/sa.key",
		"--requestheader-client-ca-file=$S/pki/ca.crt", "--requestheader-allowed-names=front-proxy-client",
		"--requestheader-username-headers=X-Remote-User", "--requestheader-group-headers=X-Remote-Group",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--proxy-client-cert-file=$S/pki/front-proxy-client.crt", "--proxy-client-key-file=$S/pki/front-proxy-client.key"}
}

// controllersLine: its client's usual limit of 20 requests a second makes service accounts
// seconds late; without credentials of their own the controllers are quietly forbidden.
func controllersLine() []string {
	const config = "$S/pki/kube-controller-manager.kubeconfig"
	return []string{"kube-controller-manager", "--kubeconfig=" + config, "--authentication-kubeconfig=" + config,
		"--authorization-kubeconfig=" + config, "--bind-address=127.0.0.1", "--leader-elect=false",
		"--use-service-account-credentials=true", "--kube-api-qps=500", "--kube-api-burst=1000",
		"--root-ca-file=$S/pki/ca.crt", "--service-account-private-key-file=$S/pki/sa.key",
		"--cluster-signing-cert-file=$S/pki/ca.crt", "--cluster-signing-key-file=$S/pki/ca.key",
		"--flex-volume-plugin-dir=$S/kubelet/volume-plugins"}
}

func schedulerLine() []string {
	const config = "$S/pki/kube-scheduler.kubeconfig"
	return []string{"kube-scheduler", "--kubeconfig=" + config, "--authentication-kubeconfig=" + config,
		"--authorization-kubeconfig=" + config, "--bind-address=127.0.0.1", "--leader-elect=false"}
}

func kubeletLine() []string {
	return []string{"kubelet", "--config=$S/kubelet.yaml", "--kubeconfig=$S/pki/node.kubeconfig",
		"--root-dir=$S/kubelet", "--hostname-override=" + NodeName, "--node-ip=" + NodeIP}
}

func proxyLine() []string { return []string{"kube-proxy", "--config=$S/proxy.yaml"} }

// namesLine is this package's own name server.
func namesLine(program string) []string {
	return []string{program, "-kubeconfig", "$S/pki/admin.kubeconfig", "-listen", net.JoinHostPort(NodeIP, "53")}
}
