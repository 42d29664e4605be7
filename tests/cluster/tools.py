"""The programs of the cluster, built once from pinned Go modules into a folder outside the tree.

``python -m tests.cluster.tools`` builds what is missing and says how long each took: about 25
minutes from nothing on two cores, seconds with a warm Go build cache. The folder is
``$OMNISTAGE_CLUSTER_CACHE``, else ``omnistage/cluster`` in the user's cache.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

KUBERNETES = "1.34.4"
GO = "1.26"


class ToolsError(Exception):
    """What this machine lacks, in one line."""


@dataclass(frozen=True)
class Module:
    """Programs built from one Go module.

    Attributes:
        path: Path of the module.
        version: Its version.
        sum: Its checksum in go.sum.
        programs: Package of each program by the program's name.
        flags: Flags for the linker.
        siblings: Version of the modules that its go.mod takes from folders beside it; empty for
            the version that it requires anyway.
        keep: Folders with manifests and charts that the cluster is set up from.
        files: Files of its sources that are others here, by path.
    """

    path: str
    version: str
    sum: str
    programs: dict[str, str]
    flags: str = ""
    siblings: str = ""
    keep: tuple[str, ...] = ()
    files: dict[str, str] = field(default_factory=dict)

    @property
    def stamp(self) -> str:
        """What tells whether a program was built from this pin."""
        return hashlib.sha256(repr(self).encode()).hexdigest()


_VERSION = "k8s.io/component-base/version"
# CoreDNS's plugins that components.py's Corefile names; others bring clouds' libraries along.
_DNS_PLUGINS = """\
package plugin

import (
	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/template"
)
"""
MODULES = (
    Module(
        "go.etcd.io/etcd/server/v3",
        "v3.5.35",
        "h1:FbHzp+5uIf1hu9KDmM4G/i/SjzDpxAABlWF8v8ZMn88=",
        {"etcd": "."},
    ),
    Module(
        "k8s.io/kubernetes",
        f"v{KUBERNETES}",
        "h1:Yy6R4QB8C9kJPp25GFqEvX5XQwY5qzKeqD0Xx6oAcmk=",
        {
            "kube-apiserver": "./cmd/kube-apiserver",
            "kube-controller-manager": "./cmd/kube-controller-manager",
            "kube-scheduler": "./cmd/kube-scheduler",
            "kubelet": "./cmd/kubelet",
            "kube-proxy": "./cmd/kube-proxy",
            "kubectl": "./cmd/kubectl",
        },
        # Without these, clients see version 0.0.0.
        flags=f"-X {_VERSION}.gitVersion=v{KUBERNETES} -X {_VERSION}.gitMajor=1 "
        f"-X {_VERSION}.gitMinor=34",
        siblings="v0.34.4",
    ),
    Module(
        "github.com/coredns/coredns",
        "v1.15.0",
        "h1:OBT+OEyHVdUiVxPhrNlC5XZVq3RkSxzQXfZQ76gm5ck=",
        {"coredns": "."},
        files={"core/plugin/zplugin.go": _DNS_PLUGINS},
    ),
    Module(
        "helm.sh/helm/v4",
        "v4.3.1",
        "h1:UndCoLe9UPmNoL7IvWzaUXveL7T5t/ijoorEmgJdI9g=",
        {"helm": "./cmd/helm"},
    ),
    Module(
        "github.com/yannh/kubeconform",
        "v0.8.0",
        "h1:loDYd3a3spjIFrauqW67CDKF55Oo9R6uvC8AvpVd4ug=",
        {"kubeconform": "./cmd/kubeconform"},
    ),
    Module(
        "github.com/kubeflow/training-operator",
        "v1.9.4",
        "h1:MjYXzeaHGBmF47BlhCo6+Mb7ypHrVfO6vsys1ZHF56A=",
        {"training-operator": "./cmd/training-operator.v1"},
        keep=("manifests",),
    ),
    Module(
        "sigs.k8s.io/jobset",
        "v0.12.0",
        "h1:YYPuV0px8Ongq/RXmJg6V0w2UC67aiR+rCMD06vhQQQ=",
        {"jobset": "."},
        keep=("charts",),
    ),
    Module(
        "github.com/kubeflow/trainer/v2",
        "v2.3.0",
        "h1:Je+e7zvTLzB4qW09J1fB7pZrqvPtWuGng2NqdN5p5QU=",
        {"trainer": "./cmd/trainer-controller-manager"},
        keep=("charts", "manifests"),
    ),
    Module(
        "sigs.k8s.io/kueue",
        "v0.14.0",
        "h1:lDR34L42/k17opLfkZbZ+taymLaPpryj3ZBbvKqs/N4=",
        {"kueue": "./cmd/kueue"},
        keep=("charts",),
    ),
)

# The process that keeps a pod's network namespace: it waits, and ends when it is told to.
_PAUSE = """\
package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGINT, syscall.SIGTERM)
	<-end
}
"""

# What must be there, a program or a file, by the Debian package that has it; the last two are for
# the tests of images.
_DEBIAN = {
    "containerd": "containerd",
    "runc": "runc",
    "containernetworking-plugins": "/usr/lib/cni/bridge",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "socat": "socat",
    "iproute2": "ip",
    "debootstrap": "debootstrap",
    "docker.io": "dockerd",
}
_BUILD = {
    "CGO_ENABLED": "0",
    "GOWORK": "off",
    "GOTOOLCHAIN": "local",
    # Nobody debugs these programs, and without what debuggers need they compile sooner.
    "GOFLAGS": "-buildvcs=false -gcflags=all=-dwarf=false",
}


def cache_folder() -> Path:
    """Return the folder of what was built."""
    if named := os.environ.get("OMNISTAGE_CLUSTER_CACHE"):
        return Path(named).absolute()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "omnistage/cluster"


def binaries() -> Path:
    """Return the folder of the programs."""
    return cache_folder() / "bin"


def manifests(program: str) -> Path:
    """Return the folder with the manifests and charts that a program's module has."""
    return cache_folder() / "modules" / program


def require_machine() -> None:
    """Make sure that a cluster can run here, installing Debian packages where that is possible.

    Raises:
        ToolsError: Saying what is missing.
    """
    if sys.platform != "linux":
        raise ToolsError("the cluster tests need Linux: they start a kubelet on this machine")
    if os.geteuid() != 0:
        raise ToolsError("the cluster tests need root: they start containers on this machine")
    os.environ["PATH"] += ":/usr/sbin:/sbin"  # su keeps a user's PATH
    lacking = [name for name, needed in _DEBIAN.items() if not shutil.which(needed)]
    if not lacking:
        return
    if not shutil.which("apt-get"):
        raise ToolsError(f"the cluster tests need these Debian packages: {' '.join(lacking)}")
    print(f"installing {' '.join(lacking)}", file=sys.stderr, flush=True)
    install = ["apt-get", "install", "--yes", "--no-install-recommends", *lacking]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (install, ["apt-get", "update"], install):
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if command is install and done.returncode == 0:
            return
    raise ToolsError(f"{' '.join(install)} failed: {done.stderr.strip().splitlines()[-1]}")


def build() -> None:
    """Build what is not yet in the cache, one module after the other.

    Raises:
        ToolsError: If Go is missing, a module is not the pinned one or does not build.
    """
    with _locked(cache_folder()):
        if not _is_built("pause", _stamp_of_pause()):
            _timed("pause", _build_pause)
        for module in MODULES:
            if not all(_is_built(name, module.stamp) for name in module.programs):
                _timed(" ".join(module.programs), lambda module=module: _build_module(module))


def _timed(what: str, action) -> None:
    print(f"building {what} ...", end=" ", file=sys.stderr, flush=True)
    begin = time.monotonic()
    action()
    print(f"{time.monotonic() - begin:.0f} s", file=sys.stderr, flush=True)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _stamp_file(program: str) -> Path:
    return cache_folder() / "stamps" / program


def _is_built(program: str, stamp: str) -> bool:
    file = _stamp_file(program)
    return (binaries() / program).exists() and file.exists() and file.read_text() == stamp


def _stamp_of_pause() -> str:
    return hashlib.sha256(_PAUSE.encode()).hexdigest()


def _build_pause() -> None:
    with tempfile.TemporaryDirectory(dir=cache_folder()) as folder:
        (Path(folder) / "pause.go").write_text(_PAUSE)
        _go(Path(folder), "build", "-trimpath", "-ldflags", "-s -w", "-o", "pause", "pause.go")
        _install(Path(folder) / "pause", _stamp_of_pause())


def _build_module(module: Module) -> None:
    found = json.loads(
        _go(cache_folder(), "mod", "download", "-json", f"{module.path}@{module.version}")
    )
    if found["Sum"] != module.sum:
        raise ToolsError(
            f"{module.path} {module.version} has checksum {found['Sum']}, not {module.sum}: "
            "the module proxy serves something else than what was pinned"
        )
    with tempfile.TemporaryDirectory(dir=cache_folder()) as folder:
        source, out = Path(folder, "source"), Path(folder, "bin")
        shutil.copytree(found["Dir"], source, copy_function=shutil.copyfile)
        for place in (source, *(p for p in source.rglob("*") if p.is_dir())):
            place.chmod(0o755)
        _replace_siblings(source, module.siblings)
        for path, text in module.files.items():
            (source / path).write_text(text)
        out.mkdir()
        names = list(module.programs)
        target = str(out) + "/" if len(names) > 1 else str(out / names[0])
        _go(
            source,
            *("build", "-trimpath", "-mod=mod", "-ldflags", f"-s -w {module.flags}".strip()),
            *("-o", target, *module.programs.values()),
        )
        for name in names:
            if module.keep:
                shutil.rmtree(manifests(name), ignore_errors=True)
                for part in module.keep:
                    shutil.copytree(source / part, manifests(name) / part)
            _install(out / name, module.stamp)


def _replace_siblings(source: Path, version: str) -> None:
    """Have a module's go.mod name versions where it names folders that only its repository has."""
    replaced = json.loads(_go(source, "mod", "edit", "-json"))["Replace"] or []
    edits = []
    for entry in replaced:
        path = entry["Old"]["Path"]
        if entry["New"]["Path"].startswith("."):
            edits.append(f"-replace={path}={path}@{version}" if version else f"-dropreplace={path}")
    if edits:
        _go(source, "mod", "edit", *edits)


def _go(folder: Path, *arguments: str) -> str:
    go = shutil.which("go") or shutil.which("/usr/local/go/bin/go")
    if not go:
        raise ToolsError(f"the cluster tests need Go {GO} or newer on PATH (https://go.dev/dl)")
    done = subprocess.run(
        [go, *arguments],
        cwd=folder,
        env={**os.environ, **_BUILD},
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        raise ToolsError(f"go {' '.join(arguments[:3])} failed:\n{done.stderr[-3000:]}")
    return done.stdout


def _install(program: Path, stamp: str) -> None:
    binaries().mkdir(parents=True, exist_ok=True)
    program.chmod(0o755)
    program.replace(binaries() / program.name)
    _stamp_file(program.name).parent.mkdir(exist_ok=True)
    _stamp_file(program.name).write_text(stamp)


def main() -> None:
    """Build everything, or say in one line why that cannot be."""
    try:
        require_machine()
        build()
    except ToolsError as e:
        sys.exit(str(e))
    print(binaries())


if __name__ == "__main__":
    main()
