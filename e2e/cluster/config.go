package cluster

import (
	"os"
	"path/filepath"
	"strings"
)

// pauseImage holds the namespaces of a pod.
const pauseImage = ImagePrefix + "pause:1"

// writeConfigs writes the configuration files of the daemons. S stands for State.
func (c *Cluster) writeConfigs() error {
	for name, text := range map[string]string{
		"cni/10-pods.conflist": cniConfig(), "containerd.toml": containerdConfig(),
		"kubelet.yaml": kubeletConfig(), "proxy.yaml": proxyConfig(),
		"resolv.conf": "nameserver " + NodeIP + "\n",
	} {
		text = strings.NewReplacer("$S", c.state, "$C", cniDir(c.cache)).Replace(text)
		if err := os.WriteFile(c.path(filepath.FromSlash(name)), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

func cniConfig() string {
	return `{"cniVersion": "1.0.0", "name": "podnet", "plugins": [
 {"type": "bridge", "bridge": "` + bridge + `", "isGateway": true, "hairpinMode": true,
  "ipam": {"type": "host-local", "dataDir": "$S/ipam", "ranges": [[{"subnet": "` + podCIDR + `"}]],
           "routes": [{"dst": "0.0.0.0/0"}]}},
 {"type": "portmap", "capabilities": {"portMappings": true}}
]}
`
}

// containerdConfig: restrict_oom_score_adj because lowering a score needs
// CAP_SYS_RESOURCE, which a container that plays the machine may lack.
func containerdConfig() string {
	return `version = 2
root = "$S/containerd"
state = "$S/ctrd"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.aufs", "io.containerd.internal.v1.opt",
  "io.containerd.tracing.processor.v1.otlp", "io.containerd.internal.v1.tracing"]
[grpc]
  address = "$S/ctrd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "` + pauseImage + `"
  stream_server_address = "127.0.0.1"
  restrict_oom_score_adj = true
  enable_selinux = false
  disable_apparmor = true
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "$C"
    conf_dir = "$S/cni"
`
}

// kubeletConfig: eviction and image collection are off, because a full disk would evict
// pods and delete images that cannot be pulled again.
func kubeletConfig() string {
	return `apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: ` + NodeIP + `
healthzBindAddress: 127.0.0.1
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $S/pki/ca.crt}}
authorization: {mode: Webhook}
tlsCertFile: $S/pki/kubelet.crt
tlsPrivateKeyFile: $S/pki/kubelet.key
containerRuntimeEndpoint: unix://$S/ctrd.sock
cgroupDriver: cgroupfs
failCgroupV1: false
failSwapOn: false
enforceNodeAllocatable: [none]
localStorageCapacityIsolation: false
makeIPTablesUtilChains: false
evictionHard: {imagefs.available: "0%", nodefs.available: "0%", nodefs.inodesFree: "0%"}
imageGCHighThresholdPercent: 100
maxOpenFiles: 20000
podLogsDir: $S/podlogs
volumePluginDir: $S/kubelet/volume-plugins
volumeStatsAggPeriod: -1s
resolvConf: $S/resolv.conf
clusterDNS: [` + NodeIP + `]
clusterDomain: ` + domain + `
syncFrequency: 10s
`
}

func proxyConfig() string {
	return `apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
bindAddress: ` + NodeIP + `
mode: nftables
clusterCIDR: 10.244.0.0/16
clientConnection: {kubeconfig: $S/pki/kube-proxy.kubeconfig}
hostnameOverride: ` + NodeName + `
healthzBindAddress: 127.0.0.1:10256
metricsBindAddress: 127.0.0.1:10249
nodePortAddresses: ["` + NodeIP + `/32"]
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
nftables: {minSyncPeriod: 100ms}
`
}
