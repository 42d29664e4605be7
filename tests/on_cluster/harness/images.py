"""Images made of a few files of this machine, without a registry or a daemon.

``local/pause:1`` keeps a pod's network, ``local/host:1`` runs this repository and its Python on
the machine's own /usr (mounted read-only through claims, see storage.py), ``local/nslookup:1`` is
what the training operator's workers wait with, and each operator is its binary alone.
"""

import hashlib
import io
import json
import subprocess
import sys
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from tests.on_cluster.harness.cluster import REPOSITORY
from tests.on_cluster.harness.components import NODES, Node

PAUSE = "docker.io/local/pause:1"
HOST = "docker.io/local/host:1"
NSLOOKUP = "docker.io/local/nslookup:1"
USER = 65532

_PASSWD = f"root:x:0:0::/:/bin/sh\nnonroot:x:{USER}:{USER}::/tmp:/bin/sh\n"
_GROUP = f"root:x:0:\nnonroot:x:{USER}:\n"
# BusyBox's nslookup fails as soon as one search domain does.
_NSLOOKUP = '#!/bin/sh\nexec getent hosts "$1"\n'


class Image:
    """A docker-archive of one layer, written a file at a time.

    Args:
        name: Reference with registry and tag, as pods name it.
        entrypoint: Command of the image; empty where pods bring their own.
        path: Folder of programs beside /usr/bin and /bin.
        workdir: Folder in which its processes start.
    """

    def __init__(
        self, name: str, entrypoint: str = "", path: str = "/usr/local/bin", workdir: str = "/"
    ) -> None:
        self.name = name
        self._config = {
            "User": f"{USER}:{USER}",
            "Entrypoint": [entrypoint] if entrypoint else None,
            "Env": [f"PATH={path}:/usr/bin:/bin"],
            "WorkingDir": workdir,
        }
        self._bytes = io.BytesIO()
        self._layer = tarfile.open(fileobj=self._bytes, mode="w")  # noqa: SIM115
        self._folders: set[str] = set()

    def folder(self, path: str, mode: int = 0o755) -> None:
        """Add a folder and those above it."""
        parent = str(Path(path).parent)
        if parent not in (".", "/"):
            self.folder(parent)
        if path not in self._folders:
            self._folders.add(path)
            self._add(path, tarfile.DIRTYPE, mode)

    def file(self, path: str, content: bytes | str, mode: int = 0o644) -> None:
        """Add a file."""
        self.folder(str(Path(path).parent))
        self._add(path, tarfile.REGTYPE, mode, content)

    def link(self, path: str, target: str) -> None:
        """Add a symbolic link."""
        self._add(path, tarfile.SYMTYPE, 0o777, target=target)

    def _add(
        self, path: str, kind: bytes, mode: int, content: bytes | str = b"", target: str = ""
    ) -> None:
        data = content.encode() if isinstance(content, str) else content
        member = tarfile.TarInfo(path.lstrip("/"))
        member.type, member.mode, member.size, member.linkname = kind, mode, len(data), target
        self._layer.addfile(member, io.BytesIO(data))

    def archive(self) -> bytes:
        """Return the docker-archive."""
        self._layer.close()
        layer = self._bytes.getvalue()
        config = json.dumps(
            {
                "architecture": "amd64",
                "os": "linux",
                "config": self._config,
                "rootfs": {
                    "type": "layers",
                    "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"],
                },
            }
        ).encode()
        config_name = f"{hashlib.sha256(config).hexdigest()}.json"
        manifest = [{"Config": config_name, "RepoTags": [self.name], "Layers": ["layer.tar"]}]
        parts: Mapping[str, bytes] = {
            "layer.tar": layer,
            config_name: config,
            "manifest.json": json.dumps(manifest).encode(),
        }
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as tar:
            for name, data in parts.items():
                member = tarfile.TarInfo(name)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
        return out.getvalue()


def program_image(name: str, binary: Path, entrypoint: str) -> Image:
    """Return an image of one static program, at the path where its manifests expect it."""
    image = Image(name, entrypoint)
    image.file(entrypoint, binary.read_bytes(), 0o755)
    image.folder("tmp", 0o1777)
    return image


def host_image() -> Image:
    """Return the image that lives on this machine's /usr, mounted into it."""
    image = Image(HOST, path=f"{sys.prefix}/bin", workdir=str(REPOSITORY))
    for top in ("bin", "lib", "lib64", "sbin"):
        image.link(top, f"usr/{top}")
    for top in ("usr", "proc", "sys", "dev"):
        image.folder(top)
    image.folder("tmp", 0o1777)
    image.file("etc/passwd", _PASSWD)
    image.file("etc/group", _GROUP)
    return image


def nslookup_image() -> Image:
    """Return a shell with an ``nslookup`` that is ``getent hosts``, from this machine's files."""
    image = Image(NSLOOKUP)
    libraries: set[str] = set()
    for name in ("dash", "seq", "sleep", "getent"):
        program = Path("/usr/bin", name)
        image.file(f"bin/{'sh' if name == 'dash' else name}", program.read_bytes(), 0o755)
        listed = subprocess.run(["ldd", program], check=True, capture_output=True, text=True)
        libraries.update(w for w in listed.stdout.split() if w.startswith("/"))
    for library in sorted(libraries):
        image.file(library.lstrip("/"), Path(library).read_bytes(), 0o755)
    image.file("bin/nslookup", _NSLOOKUP, 0o755)
    image.file("etc/passwd", _PASSWD)
    image.file("etc/nsswitch.conf", "hosts: files dns\n")
    image.folder("tmp", 0o1777)
    return image


def load(archive: bytes, nodes: Iterable[Node] = NODES) -> None:
    """Import a docker-archive into nodes.

    Raises:
        RuntimeError: With ctr's output.
    """
    for node in nodes:
        done = subprocess.run(
            ["ctr", "-a", str(node.socket), "-n", "k8s.io", "images", "import", "-"],
            input=archive,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        if done.returncode != 0:
            raise RuntimeError(f"{node.name} takes no image: {done.stdout.decode()[-1000:]}")


def pinned(name: str, nodes: Iterable[Node] = NODES) -> str:
    """Return the reference by digest of an image that the nodes have; pods may use it from now on.

    Raises:
        RuntimeError: If a node does not have it.
    """
    reference = ""
    for node in nodes:
        ctr = ["ctr", "-a", str(node.socket), "-n", "k8s.io", "images"]
        listed = subprocess.run([*ctr, "ls"], check=True, capture_output=True, text=True).stdout
        rows = (line.split() for line in listed.splitlines())
        digest = next((row[2] for row in rows if row[0] == name), "")
        if not digest:
            raise RuntimeError(f"{node.name} has no image {name}")
        reference = f"{name.rpartition(':')[0]}@{digest}"
        tag = [*ctr, "tag", "--force", name, reference]
        subprocess.run(tag, check=True, capture_output=True)
    return reference
