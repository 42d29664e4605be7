"""The programs a cluster consists of: their files and their command lines."""

import json
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.on_cluster.harness import machine
from tests.on_cluster.harness.certs import Authority, service_account_key

ADDRESS = machine.NODE_ADDRESSES[0]
"""Where the control plane and the cluster's DNS listen."""
SERVER = f"https://{ADDRESS}:6443"
GPU_TAINT = {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}


@dataclass(frozen=True)
class Node:
    """A node: a kubelet and a containerd of its own, on this machine.

    Attributes:
        pool: Name of its pool; the label omnistage.dev/pool of the node.
        address: Its IP address.
        pods: The network of its pods.
        gpus: How many it says it has.
    """

    pool: str
    address: str
    pods: str
    gpus: int = 0

    @property
    def name(self) -> str:
        """Name of the Node object."""
        return f"omnistage-{self.pool}"

    @property
    def folder(self) -> Path:
        """Where its data lies."""
        return machine.ROOT / self.pool

    @property
    def socket(self) -> Path:
        """Where its containerd listens."""
        return self.folder / "containerd.sock"


CPU_NODE = Node("cpu", machine.NODE_ADDRESSES[0], "198.18.16.0/24")
GPU_NODE = Node("gpu", machine.NODE_ADDRESSES[1], "198.18.17.0/24", gpus=8)
NODES = (CPU_NODE, GPU_NODE)


@dataclass(frozen=True)
class Program:
    """A program of the control plane or of a node, started with these arguments."""

    name: str
    argv: list[str]


class Plan:
    """All certificates, configuration files and command lines of a cluster.

    Attributes:
        admin: The kubeconfig of the cluster's administrator.
        store: etcd and the API server, which the others need.
        runtimes: The containerds of the nodes.
        others: All that talks to the API server.
    """

    def __init__(self, binaries: Path) -> None:
        self._bin = binaries
        self._etc = machine.ROOT / "etc"
        self._etc.mkdir()
        self._ca = Authority(self._etc, "kubernetes")
        self._front = Authority(self._etc, "front-proxy")
        self._tokens = service_account_key(self._etc)
        (self._etc / "resolv.conf").write_text("")
        self.admin = self._ca.kubeconfig(
            machine.ROOT / "admin.kubeconfig", SERVER, "admin", "system:masters"
        )
        self.store = [self._etcd(), self._api_server()]
        self.runtimes = [self._containerd(node) for node in NODES]
        self.others = [
            self._controller_manager(),
            self._scheduler(),
            self._dns(),
            self._proxy(),
            *(self._kubelet(node) for node in NODES),
        ]

    def _program(self, name: str, *arguments: str, **flags: str) -> Program:
        words = [f"--{flag.replace('_', '-')}={value}" for flag, value in flags.items()]
        return Program(name, [str(self._bin / name), *arguments, *words])

    def _user(self, name: str, user: str, group: str | None = None) -> str:
        return str(self._ca.kubeconfig(self._etc / f"{name}.kubeconfig", SERVER, user, group))

    def _etcd(self) -> Program:
        client, peer = f"http://{ADDRESS}:2379", f"http://{ADDRESS}:2380"
        return self._program(
            "etcd",
            # A crash of the machine loses the cluster, which no test minds.
            "--unsafe-no-fsync",
            data_dir=str(machine.ROOT / "etcd"),
            listen_client_urls=client,
            advertise_client_urls=client,
            listen_peer_urls=peer,
            initial_advertise_peer_urls=peer,
            initial_cluster=f"default={peer}",
        )

    def _api_server(self) -> Program:
        names = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost")
        first_service = machine.SERVICE_NETWORK.split("/")[0][:-1] + "1"
        crt, key = self._ca.issue("api", "kube-apiserver", None, (ADDRESS, first_service), names)
        kubelet_crt, kubelet_key = self._ca.issue("api-kubelet", "kube-apiserver", "system:masters")
        proxy_crt, proxy_key = self._front.issue("api-proxy", "front-proxy-client")
        return self._program(
            "kube-apiserver",
            "--allow-privileged=true",  # it is the pod standard that has to refuse them
            etcd_servers=f"http://{ADDRESS}:2379",
            bind_address=ADDRESS,
            advertise_address=ADDRESS,
            secure_port="6443",
            tls_cert_file=str(crt),
            tls_private_key_file=str(key),
            client_ca_file=str(self._ca.file),
            kubelet_certificate_authority=str(self._ca.file),
            kubelet_client_certificate=str(kubelet_crt),
            kubelet_client_key=str(kubelet_key),
            kubelet_preferred_address_types="InternalIP",  # nobody resolves the nodes' names
            authorization_mode="Node,RBAC",
            enable_admission_plugins="NodeRestriction",
            service_cluster_ip_range=machine.SERVICE_NETWORK,
            service_account_issuer="https://kubernetes.default.svc.cluster.local",
            service_account_key_file=str(self._tokens),
            service_account_signing_key_file=str(self._tokens),
            requestheader_client_ca_file=str(self._front.file),
            requestheader_allowed_names="front-proxy-client",
            requestheader_extra_headers_prefix="X-Remote-Extra-",
            requestheader_group_headers="X-Remote-Group",
            requestheader_username_headers="X-Remote-User",
            proxy_client_cert_file=str(proxy_crt),
            proxy_client_key_file=str(proxy_key),
        )

    def _controller_manager(self) -> Program:
        return self._program(
            "kube-controller-manager",
            "--leader-elect=false",
            "--use-service-account-credentials",
            "--pvclaimbinder-sync-period=1s",  # 15 s for a claim that came before its volume
            kubeconfig=self._user("controllers", "system:kube-controller-manager"),
            bind_address="127.0.0.1",
            root_ca_file=str(self._ca.file),
            service_account_private_key_file=str(self._tokens),
        )

    def _scheduler(self) -> Program:
        return self._program(
            "kube-scheduler",
            "--leader-elect=false",
            kubeconfig=self._user("scheduler", "system:kube-scheduler"),
            bind_address="127.0.0.1",
        )

    def _proxy(self) -> Program:
        # One for both nodes: they share this machine's packet filter.
        return self._program(
            "kube-proxy",
            kubeconfig=self._user("proxy", "system:kube-proxy"),
            hostname_override=CPU_NODE.name,
            proxy_mode="iptables",
            cluster_cidr=machine.POD_NETWORK,
            bind_address=ADDRESS,
            healthz_bind_address=f"{ADDRESS}:10256",
            metrics_bind_address=f"{ADDRESS}:10249",
            oom_score_adj="0",
            iptables_localhost_nodeports="false",
            conntrack_max_per_core="0",
            conntrack_tcp_timeout_established="0",
            conntrack_tcp_timeout_close_wait="0",
        )

    def _dns(self) -> Program:
        # What is not in the cluster does not exist: no test asks the network.
        corefile = f"""\
            cluster.local:53 {{
                bind {ADDRESS}
                errors
                kubernetes cluster.local {{
                    kubeconfig {self._user("dns", "system:coredns", "system:masters")}
                    ttl 1
                }}
            }}
            .:53 {{
                bind {ADDRESS}
                template ANY ANY {{
                    rcode NXDOMAIN
                }}
            }}
            """
        (self._etc / "Corefile").write_text(textwrap.dedent(corefile))
        return Program("coredns", [str(self._bin / "coredns"), "-conf", f"{self._etc}/Corefile"])

    def _containerd(self, node: Node) -> Program:
        """Write a node's containerd and CNI configuration."""
        state, cni = node.folder / "containerd", node.folder / "cni"
        cni.mkdir(parents=True)
        network = {
            "cniVersion": "0.4.0",
            "name": f"{machine.MARK}-{node.pool}",
            "plugins": [
                {
                    "type": "bridge",
                    "bridge": f"{machine.BRIDGE_PREFIX}-{node.pool}",
                    "isGateway": True,
                    "hairpinMode": True,
                    "ipam": {
                        "type": "host-local",
                        "ranges": [[{"subnet": node.pods}]],
                        "routes": [{"dst": "0.0.0.0/0"}],
                        "dataDir": str(node.folder / "addresses"),
                    },
                }
            ],
        }
        (cni / "10-bridge.conflist").write_text(json.dumps(network))
        config = f"""\
            version = 2
            root = "{state}/root"
            state = "{state}/state"
            disabled_plugins = ["io.containerd.internal.v1.opt"]
            [grpc]
              address = "{node.socket}"
            [plugins."io.containerd.grpc.v1.cri"]
              sandbox_image = "docker.io/local/pause:1"
              restrict_oom_score_adj = true
              netns_mounts_under_state_dir = true
              [plugins."io.containerd.grpc.v1.cri".containerd]
                snapshotter = "overlayfs"
                [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
                  runtime_type = "io.containerd.runc.v2"
                  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
                    Root = "{state}/runc"
              [plugins."io.containerd.grpc.v1.cri".cni]
                bin_dir = "/usr/lib/cni"
                conf_dir = "{cni}"
            """
        file = node.folder / "containerd.toml"
        file.write_text(textwrap.dedent(config))
        return Program(f"containerd-{node.pool}", ["containerd", "--config", str(file)])

    def _kubelet(self, node: Node) -> Program:
        crt, key = self._ca.issue(
            f"kubelet-{node.pool}", node.name, None, (node.address,), (node.name,)
        )
        config: dict[str, Any] = {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": node.address,
            "healthzPort": 0,
            "authentication": {
                "anonymous": {"enabled": False},
                "x509": {"clientCAFile": str(self._ca.file)},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": str(crt),
            "tlsPrivateKeyFile": str(key),
            "containerRuntimeEndpoint": f"unix://{node.socket}",
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": machine.make_cgroup(node.pool),
            "failCgroupV1": False,
            "failSwapOn": False,
            "oomScoreAdj": 0,
            "enforceNodeAllocatable": [],
            "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%"},
            "imageGCHighThresholdPercent": 100,  # nothing could be pulled again
            "serializeImagePulls": False,
            # A secret changed after a pod's start, such as a webhook's certificate, arrives soon.
            "syncFrequency": "5s",
            "clusterDNS": [ADDRESS],
            "clusterDomain": "cluster.local",
            "resolvConf": str(self._etc / "resolv.conf"),
            "podLogsDir": str(node.folder / "logs"),
            "volumePluginDir": str(node.folder / "plugins"),
            "registerWithTaints": [GPU_TAINT] if node.gpus else [],
        }
        file = node.folder / "kubelet.json"
        file.write_text(json.dumps(config))
        return Program(
            f"kubelet-{node.pool}",
            [
                str(self._bin / "kubelet"),
                f"--config={file}",
                f"--root-dir={node.folder}/kubelet",
                f"--kubeconfig={self._user(node.name, f'system:node:{node.name}', 'system:nodes')}",
                f"--hostname-override={node.name}",
                f"--node-ip={node.address}",
                f"--node-labels=omnistage.dev/pool={node.pool}",
            ],
        )
