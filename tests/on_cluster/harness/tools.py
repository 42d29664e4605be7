"""The programs of the cluster, built once from pinned Go modules into a folder outside the tree.

``python -m tests.on_cluster.harness.tools`` builds what is missing and says how long each took:
about 15 minutes from nothing on two cores, a minute with a warm Go build cache. The folder is
``$OMNISTAGE_CLUSTER_CACHE``, else ``omnistage/cluster`` in the user's cache.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

KUBERNETES = "1.34.4"
GO = "1.26"


class ToolsError(Exception):
    """What this machine lacks, in one line."""


@dataclass(frozen=True)
class Module:
    """Programs of one Go module.

    Attributes:
        path: Path of the module.
        version: Its version.
        sum: Its checksum in go.sum.
        programs: Package of each program, relative to the module, by the program's name.
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
# The programs of one row are built as one Go module: they name the same minor release of
# Kubernetes' libraries, whose newest patch that any of them names is compiled once for all.
ROWS: tuple[tuple[Module, ...], ...] = (
    (
        Module(
            "go.etcd.io/etcd/server/v3",
            "v3.5.35",
            "h1:FbHzp+5uIf1hu9KDmM4G/i/SjzDpxAABlWF8v8ZMn88=",
            {"etcd": "."},
        ),
    ),
    (
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
            "sigs.k8s.io/kueue",
            "v0.14.0",
            "h1:lDR34L42/k17opLfkZbZ+taymLaPpryj3ZBbvKqs/N4=",
            {"kueue": "./cmd/kueue"},
            keep=("charts",),
        ),
    ),
    (
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
    ),
    (
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
    ),
)
MODULES = tuple(module for row in ROWS for module in row)

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
    # A sixth of the compiler's time is its garbage collection; it takes 2 GB instead.
    "GOGC": "400",
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
    """Build what is not yet in the cache, one row of modules after the other.

    Raises:
        ToolsError: If Go is missing, a module is not the pinned one or does not build.
    """
    with _locked(cache_folder()):
        if not _is_built("pause", _stamp(_PAUSE)):
            _timed("pause", _build_pause)
        for row in ROWS:
            names = [name for module in row for name in module.programs]
            if not all(_is_built(name, _stamp(repr(row))) for name in names):
                _timed(" ".join(names), lambda row=row: _build_row(row))


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


def _stamp(source: str) -> str:
    """Return what tells whether a program was built from this."""
    return hashlib.sha256(source.encode()).hexdigest()


def _build_pause() -> None:
    with tempfile.TemporaryDirectory(dir=cache_folder()) as folder:
        (Path(folder) / "pause.go").write_text(_PAUSE)
        _go(Path(folder), "build", "-trimpath", "-ldflags", "-s -w", "-o", "pause", "pause.go")
        _install(Path(folder) / "pause", "pause", _stamp(_PAUSE))


def _build_row(row: tuple[Module, ...]) -> None:
    """Build modules' programs in a module that requires them all."""
    sources = [(module, _fetched(module)) for module in row]
    with tempfile.TemporaryDirectory(dir=cache_folder()) as made:
        folder, out = Path(made), Path(made, "bin")
        lines, sums = ["module cluster", f"go {GO}"], set()
        for number, (module, source) in enumerate(sources):
            lines.append(f"require {module.path} {module.version}")
            lines += _sibling_releases(source, module.siblings)
            # What the module's authors saw is what it is built from.
            sums.update((source / "go.sum").read_text().splitlines(keepends=True))
            if module.files:
                lines.append(f"replace {module.path} => ./{number}")
                _copy(source, folder / str(number))
                for path, text in module.files.items():
                    (folder / str(number) / path).write_text(text)
        (folder / "go.mod").write_text("\n".join(lines) + "\n")
        (folder / "go.sum").write_text("".join(sorted(sums)))
        packages = {
            name: str(PurePosixPath(module.path, package))
            for module in row
            for name, package in module.programs.items()
        }
        _go(
            folder,
            *("build", "-trimpath", "-mod=mod", "-ldflags"),
            " ".join(["-s -w", *(module.flags for module in row if module.flags)]),
            *("-o", f"{out}/", *packages.values()),
        )
        for module, source in sources:
            for name in module.programs:
                shutil.rmtree(manifests(name), ignore_errors=True)
                for part in module.keep:
                    _copy(source / part, manifests(name) / part)
        for name, package in packages.items():
            _install(out / _go_name(package), name, _stamp(repr(row)))


def _fetched(module: Module) -> Path:
    """Return the folder of a module's sources in Go's cache, where nothing may be changed."""
    found = json.loads(
        _go(cache_folder(), "mod", "download", "-json", f"{module.path}@{module.version}")
    )
    if found["Sum"] != module.sum:
        raise ToolsError(
            f"{module.path} {module.version} has checksum {found['Sum']}, not {module.sum}: "
            "the module proxy serves something else than what was pinned"
        )
    return Path(found["Dir"])


def _sibling_releases(source: Path, version: str) -> list[str]:
    """Name releases of the modules that a go.mod takes from folders of its repository."""
    if not version:
        return []
    replaced = json.loads(_go(source, "mod", "edit", "-json"))["Replace"] or []
    beside = [one["Old"]["Path"] for one in replaced if one["New"]["Path"].startswith(".")]
    return [f"replace {path} => {path} {version}" for path in beside]


def _go_name(package: str) -> str:
    """Return how Go names the program of a package: a major version at the end does not count."""
    path = PurePosixPath(package)
    return path.parent.name if re.fullmatch(r"v\d+", path.name) else path.name


def _copy(source: Path, target: Path) -> None:
    shutil.copytree(source, target, copy_function=shutil.copyfile)
    for place in (target, *(p for p in target.rglob("*") if p.is_dir())):
        place.chmod(0o755)


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


def _install(program: Path, name: str, stamp: str) -> None:
    binaries().mkdir(parents=True, exist_ok=True)
    program.chmod(0o755)
    program.replace(binaries() / name)
    _stamp_file(name).parent.mkdir(exist_ok=True)
    _stamp_file(name).write_text(stamp)


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
