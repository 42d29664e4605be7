"""What a cluster changes on the machine it runs on, and how every trace of it goes again.

Everything that is a file lies under ROOT or in the log folder. What is not a file (addresses,
sysctls, packet filter rules, control groups, mounts, processes) can be found by name: so a
cluster whose processes were all killed with SIGKILL can be cleared away by the next one.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

ROOT = Path("/var/lib/omnistage-cluster")
"""Folder of the running cluster: data, sockets, certificates, state.json. Gone when it ended."""
NETWORK = "198.18.0.0/15"
"""Reserved for tests of network devices (RFC 2544): nobody's real network is hidden by it."""
NODE_ADDRESSES = ("198.18.0.1", "198.18.0.2")
"""Aliases on the loopback device; the control plane listens on the first."""
POD_NETWORK = "198.18.16.0/20"
SERVICE_NETWORK = "198.19.0.0/20"
MARK = "omnistage-cluster"
"""In the name of every control group, bridge, CNI network and packet filter rule."""
BRIDGE_PREFIX = "omnibr"

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_SYSCTLS = {"net/ipv4/ip_forward": "1"}
# Set by the kubelet, by kube-proxy and by the bridge plugin.
_OTHERS_SYSCTLS = (
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
    "net/ipv4/conf/all/route_localnet",
    "net/netfilter/nf_conntrack_max",
    "net/netfilter/nf_conntrack_tcp_timeout_established",
    "net/netfilter/nf_conntrack_tcp_timeout_close_wait",
)
# Folders whose place is compiled into the kubelet, the CNI library and containerd's shim.
_FIXED_FOLDERS = (
    "/var/lib/kubelet/device-plugins",
    "/var/lib/kubelet",
    "/var/log/containers",
    "/var/lib/cni/results",
    "/var/lib/cni",
    "/run/containerd/s",
    "/run/containerd",
)

_COMPONENTS = (
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kube-proxy",
    "kubelet",
    "coredns",
    "containerd",
    "containerd-shim-runc-v2",
)


def run(*argv: str, check: bool = True, text: str | None = None) -> str:
    """Run a program and return what it printed.

    Raises:
        RuntimeError: With the end of its output, if it failed.
    """
    done = subprocess.run(
        argv, input=text, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if check and done.returncode != 0:
        raise RuntimeError(f"{' '.join(argv)}: exit {done.returncode}\n{done.stdout[-2000:]}")
    return done.stdout


def prepare() -> None:
    """Give the machine what the nodes need, and note what has to be put back.

    Raises:
        RuntimeError: If an address or a rule is refused.
    """
    ROOT.mkdir(mode=0o755, parents=True)
    before = {
        name: Path("/proc/sys", name).read_text().strip()
        for name in (*_OWN_SYSCTLS, *_OTHERS_SYSCTLS)
        if Path("/proc/sys", name).exists()
    }
    (ROOT / "before.json").write_text(json.dumps(before))
    for name, value in _OWN_SYSCTLS.items():
        Path("/proc/sys", name).write_text(value)
    for address in NODE_ADDRESSES:
        run("ip", "address", "add", f"{address}/32", "dev", "lo")
    # A Docker daemon sets the policy of FORWARD to DROP, which would cut pods from each other.
    for side in ("-s", "-d"):
        _insert_rule("FORWARD", side, NETWORK, "-j", "ACCEPT")
    # Also where there is no default route, this machine has to have one to services, or it gives
    # up before the packet filter turns their addresses into those of pods.
    run("ip", "route", "add", SERVICE_NETWORK, "dev", "lo", "src", NODE_ADDRESSES[0])
    # Before kube-proxy knows a service its address is as good as any other: nothing may go out
    # to the real network and be answered there, as by a proxy that takes every connection.
    for chain in ("FORWARD", "OUTPUT"):
        _insert_rule(chain, "-d", SERVICE_NETWORK, "-j", "REJECT")


def _insert_rule(chain: str, *rule: str) -> None:
    run("iptables", "-w", "-I", chain, *rule, "-m", "comment", "--comment", MARK)


def make_cgroup(name: str) -> str:
    """Make a control group for a node's pods and return its path in every hierarchy."""
    path = f"/{MARK}/{name}"
    if (_CGROUPS / "cgroup.controllers").exists():
        folder = _CGROUPS
        for part in (MARK, name):
            controllers = (folder / "cgroup.controllers").read_text().split()
            (folder / "cgroup.subtree_control").write_text(
                " ".join(f"+{controller}" for controller in controllers)
            )
            folder = folder / part
            folder.mkdir(exist_ok=True)
    else:
        for hierarchy in _CGROUPS.iterdir():
            if hierarchy.is_dir() and not hierarchy.is_symlink():
                (hierarchy / path[1:]).mkdir(parents=True, exist_ok=True)
    return path


def clean() -> None:
    """End what is left of a cluster's processes and take back all it did to the machine.

    Raises:
        RuntimeError: Naming what could not be removed.
    """
    for _ in range(50):
        left = _processes()
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        mounts = _mounts()
        for point in reversed(mounts):
            run("umount", "--lazy", point, check=False)
        for group in reversed(_cgroups()):
            with contextlib.suppress(OSError):  # a process in it has not quite ended
                group.rmdir()
        if not left and not mounts and not _cgroups():
            break
        time.sleep(0.1)
    for link in _links():
        run("ip", "link", "delete", link, check=False)
    run("ip", "route", "delete", SERVICE_NETWORK, "dev", "lo", check=False)
    for address in NODE_ADDRESSES:
        run("ip", "address", "delete", f"{address}/32", "dev", "lo", check=False)
    _drop_rules()
    noted = ROOT / "before.json"
    if noted.exists():
        for name, value in json.loads(noted.read_text()).items():
            if Path("/proc/sys", name).read_text().strip() != value:
                Path("/proc/sys", name).write_text(value)
    _drop_files()
    shutil.rmtree(ROOT, ignore_errors=True)
    if left := leftovers():
        raise RuntimeError("the cluster left behind: " + "; ".join(left))


def leftovers() -> list[str]:
    """Return what a cluster has left on this machine, or what a running one consists of."""
    found = [f"process {pid}" for pid in _processes()]
    found += [f"mount {point}" for point in _mounts()]
    found += [f"control group {group}" for group in _cgroups()]
    found += [f"network device {link}" for link in _links()]
    addresses = run("ip", "-o", "address", "show", "dev", "lo")
    found += [f"address {a}" for a in NODE_ADDRESSES if f" {a}/" in addresses]
    routes = run("ip", "route", "show", SERVICE_NETWORK).splitlines()
    found += [f"route {route}" for route in routes]
    for family in ("ip", "ip6"):
        lines = run(f"{family}tables-save").splitlines()
        found += [f"{family}tables rule {line}" for line in lines if _is_ours(line)]
    return found + ([f"folder {ROOT}"] if ROOT.exists() else [])


def _processes() -> list[int]:
    """Return containers, shims and components: by control group, else by what they name."""
    found = set()
    for group in _cgroups():
        with contextlib.suppress(OSError):
            found.update(int(pid) for pid in (group / "cgroup.procs").read_text().split())
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue  # it ended while we looked
        mine = any(os.fsencode(ROOT) in word for word in words[1:])
        if mine and Path(os.fsdecode(words[0])).name in _COMPONENTS:
            found.add(int(folder.name))
    return sorted(found - {0, os.getpid()})  # 0 is a process of another PID namespace


def _mounts() -> list[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    points = [line.split()[4].encode().decode("unicode_escape") for line in lines]
    return [point for point in points if point.startswith(f"{ROOT}/")]


def _cgroups() -> list[Path]:
    """Return the control groups of the nodes, parents before children."""
    if (_CGROUPS / MARK).is_dir():
        tops = [_CGROUPS / MARK]
    else:
        tops = [top for top in _CGROUPS.glob(f"*/{MARK}") if not top.parent.is_symlink()]
    return [
        group for top in tops for group in (top, *sorted(p for p in top.rglob("*") if p.is_dir()))
    ]


def _links() -> list[str]:
    return [path.name for path in Path("/sys/class/net").glob(f"{BRIDGE_PREFIX}*")]


def _is_ours(line: str) -> bool:
    return "KUBE-" in line or MARK in line


def _drop_rules() -> None:
    """Rewrite each table without the chains of kube-proxy and the kubelet and without our rules."""
    for family in ("ip", "ip6"):
        for table in ("filter", "nat", "mangle"):
            saved = run(f"{family}tables-save", "-c", "-t", table, check=False).splitlines()
            kept = [line for line in saved if not _is_ours(line)]
            if kept != saved:
                run(f"{family}tables-restore", "-w", "-c", text="\n".join(kept) + "\n")


def _drop_files() -> None:
    """Remove what lies in folders that are not the cluster's own, and those it made."""
    for entry in Path("/var/log/containers").glob("*.log"):
        if entry.is_symlink() and str(entry.readlink()).startswith(f"{ROOT}/"):
            entry.unlink()
    for result in Path("/var/lib/cni/results").glob("*"):
        if f"{ROOT}/" in result.read_text():
            result.unlink()
    listening = Path("/proc/net/unix").read_text()
    for socket in Path("/run/containerd/s").glob("*"):
        if str(socket) not in listening:
            socket.unlink()
    for socket in Path("/var/lib/kubelet/device-plugins").glob("*"):
        if str(socket) not in listening:
            socket.unlink()
    for folder in _FIXED_FOLDERS:
        with contextlib.suppress(OSError):  # not there, or others have files in it
            Path(folder).rmdir()
