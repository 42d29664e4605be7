"""Build the images where no registry can be reached, and save them as docker archives.

``python docker/offline.py`` makes a base image with debootstrap, starts Debian's dockerd on a
data root of its own, builds the launcher and the CPU variant of the trainer on that base, and stops
the daemon. ``--only launcher --save FILE`` writes one image as FILE; if nothing of what goes into
it has changed since the last time, no daemon is started.

Packages come from the indexes that this machine's pip uses. It needs root and, from Debian,
docker.io and debootstrap. Only the standard library is used.
"""

import argparse
import contextlib
import fcntl
import hashlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "omnistage", "images")
TARGETS = {
    "launcher": ("launcher.Dockerfile", "launcher", "PYTHON_BASE"),
    "trainer-cpu": ("trainer.Dockerfile", "trainer-cpu", "TRAINER_BASE"),
}
"""Image to its Dockerfile, the stage of it, and the argument that names its base image."""
SOURCES = ("omnistage", "components", "pipelines", "recipes", "docker")
FILES = (".dockerignore", "pyproject.toml", "uv.lock", "README.md", "LICENSE")
SUITE = "bookworm"
BASE_PACKAGES = "ca-certificates,python3,python3-venv"
BASE = f"omnistage/base:{SUITE}"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SETTINGS = ("PIP_", "UV_INDEX", "UV_DEFAULT_INDEX", "UV_EXTRA_INDEX_URL", "UV_HTTP_TIMEOUT")
_PROXIES = ("http_proxy", "https_proxy", "no_proxy", "all_proxy")
_LOCAL_PATHS = ("PIP_CERT", "PIP_CONFIG_FILE", "PIP_FIND_LINKS", "PIP_CACHE_DIR")
_START_SECONDS = 60


class OfflineError(Exception):
    """Something that this machine lacks, or a step that failed; the message is for the user."""


class Docker:
    """The docker client, bound to one daemon.

    Args:
        socket: The daemon's.
    """

    def __init__(self, socket: Path) -> None:
        client = Path("/usr/bin/docker")  # Debian's; a newer one may want a plug-in to build
        self._command = [str(client if client.exists() else "docker"), "-H", f"unix://{socket}"]

    def run(self, *arguments: str, log: Path | None = None) -> str:
        """Run the client and return what it wrote to standard output.

        Args:
            arguments: Of the client.
            log: File that takes both outputs instead.

        Raises:
            OfflineError: If it fails, with the last lines of its output.
        """
        command = [*self._command, *arguments]
        env = {**os.environ, "DOCKER_BUILDKIT": "1"}
        if log is None:
            done = subprocess.run(command, env=env, capture_output=True, text=True)
            said, output = done.stderr, done.stdout
        else:
            with log.open("w") as file:
                done = subprocess.run(command, env=env, stdout=file, stderr=subprocess.STDOUT)
            said = output = log.read_text(errors="replace")
        if done.returncode != 0:
            last = "\n".join(said.splitlines()[-40:])
            raise OfflineError(f"docker {arguments[0]} failed ({done.returncode}):\n{last}")
        return output


def key(target: str) -> str:
    """Return the hash of all that goes into an image but the packages behind the lock."""
    paths = [ROOT / name for name in FILES]
    for folder in SOURCES:
        paths += [p for p in (ROOT / folder).rglob("*") if "__pycache__" not in p.parts]
    of = hashlib.sha256(f"{target} {SUITE} {BASE_PACKAGES}".encode())
    for path in sorted(p for p in paths if p.is_file()):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        of.update(f"\n{path.relative_to(ROOT)} {content}".encode())
    return of.hexdigest()[:16]


def requirements() -> str:
    """Return what this machine lacks to build images, in one line; empty if nothing."""
    if os.geteuid() != 0:
        return "building images offline needs root (debootstrap, dockerd)"
    needed = {"dockerd": "docker.io", "debootstrap": "debootstrap"}
    missing = [package for program, package in needed.items() if not shutil.which(program)]
    return f"missing Debian packages: {' '.join(missing)}" if missing else ""


@contextlib.contextmanager
def daemon(cache: Path = CACHE) -> Iterator[Docker]:
    """Run a dockerd of our own; it has no network of its own and touches no firewall rule.

    Args:
        cache: Folder for its images and layers, kept for the next time. One daemon at a time uses
            it; others wait.

    Raises:
        OfflineError: If it does not start.
    """
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock, tempfile.TemporaryDirectory(prefix="dockerd-") as run:
        fcntl.flock(lock, fcntl.LOCK_EX)
        log = cache / "dockerd.log"
        socket = Path(run, "docker.sock")
        command = ["dockerd", "--host", f"unix://{socket}", "--data-root", str(cache / "docker")]
        command += ["--exec-root", f"{run}/exec", "--pidfile", f"{run}/docker.pid"]
        command += ["--storage-driver", "overlay2", "--bridge", "none", "--iptables=false"]
        with log.open("w") as out:
            process = subprocess.Popen(
                command, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
            )
        try:
            docker = Docker(socket)
            _wait(docker, process, log)
            yield docker
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)
            _unmount_below(Path(run))


def _unmount_below(folder: Path) -> None:
    """Unmount what the daemon leaves mounted, such as the network namespace of its containers."""
    mounted = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for path in reversed([m for m in mounted if m.startswith(f"{folder}/")]):
        subprocess.run(["umount", path], check=True)


def _wait(docker: Docker, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + _START_SECONDS
    while True:
        try:
            docker.run("info")
            return
        except OfflineError as e:
            if process.poll() is not None or time.monotonic() > end:
                last = "\n".join(log.read_text(errors="replace").splitlines()[-10:])
                raise OfflineError(f"dockerd does not start ({e}):\n{last}") from e
        time.sleep(0.2)


def make_base(docker: Docker) -> None:
    """Make the base image with debootstrap, if the daemon does not have it.

    Raises:
        OfflineError: If debootstrap fails.
    """
    if docker.run("images", "--quiet", BASE).strip():
        return
    with tempfile.TemporaryDirectory(prefix="debootstrap-") as folder:
        root, archive = Path(folder, "root"), Path(folder, "base.tar")
        command = ["debootstrap", "--variant=minbase", f"--include={BASE_PACKAGES}", SUITE]
        done = subprocess.run([*command, str(root)], capture_output=True, text=True)
        if done.returncode != 0:
            last = "\n".join((done.stdout + done.stderr).splitlines()[-10:])
            raise OfflineError(f"debootstrap failed ({done.returncode}):\n{last}")
        for name in ("var/cache/apt/archives", "var/lib/apt/lists"):
            shutil.rmtree(root / name)
            (root / name).mkdir()
        shutil.rmtree(root / "dev")  # device nodes; a container brings its own
        (root / "dev").mkdir()
        # as on this machine by coincidence only: a container's come from its runtime
        for name in ("etc/resolv.conf", "etc/hostname"):
            (root / name).unlink(missing_ok=True)
        subprocess.run(["tar", "-C", str(root), "-cf", str(archive), "."], check=True)
        docker.run("import", "--change", f"ENV PATH={_PATH}", str(archive), BASE)


def secrets(folder: Path) -> list[str]:
    """Write the machine's way to the package indexes to files and return the build's arguments.

    They are secrets of the build: a proxy or an index may have a password in its address. What
    names a file of this machine is left out, but for the CA bundle, which goes along.
    """
    settings = {
        name: value
        for name, value in os.environ.items()
        if (name.startswith(_SETTINGS) or name.lower() in _PROXIES) and name not in _LOCAL_PATHS
    }
    pip = shutil.which("pip") or shutil.which("pip3")
    configured = ""
    if pip:
        command = [pip, "config", "list"]
        configured = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for option in ("index-url", "extra-index-url", "trusted-host"):
        found = re.search(rf"^global\.{option}='(.*)'$", configured, re.M)
        if found:
            settings.setdefault(f"PIP_{option.upper().replace('-', '_')}", found[1])
    if "PIP_INDEX_URL" in settings:
        settings.setdefault("UV_DEFAULT_INDEX", settings["PIP_INDEX_URL"])
    packages = folder / "packages"
    packages.touch(0o600)
    packages.write_text("".join(f"{k}={shlex.quote(v)}\n" for k, v in settings.items()))
    arguments = ["--secret", f"id=packages,src={packages}"]
    bundle = os.environ.get("PIP_CERT") or os.environ.get("SSL_CERT_FILE")
    if bundle and Path(bundle).is_file():
        arguments += ["--secret", f"id=ca,src={bundle}"]
    return arguments


def build(docker: Docker, target: str, cache: Path = CACHE) -> str:
    """Build an image and return its name.

    Raises:
        OfflineError: If the build fails, with its last lines; the whole log is in the cache.
    """
    make_base(docker)
    dockerfile, stage, base = TARGETS[target]
    name = f"omnistage/{target}:offline"
    arguments = ["--file", str(ROOT / "docker" / dockerfile), "--target", stage, "--tag", name]
    arguments += ["--build-arg", f"{base}={BASE}", "--network", "host", "--progress", "plain"]
    with tempfile.TemporaryDirectory(prefix="secrets-") as folder:
        arguments += secrets(Path(folder))
        docker.run("build", *arguments, str(ROOT), log=cache / f"build-{target}.log")
    docker.run("image", "prune", "--force")
    return name


def archive(docker: Docker, target: str, name: str, file: Path) -> None:
    """Save an image as a file of the cache, and drop those of earlier sources."""
    cache = file.parent
    with tempfile.TemporaryDirectory(prefix="save-", dir=cache) as folder:
        part = Path(folder, "image.tar")
        docker.run("save", "--output", str(part), name)
        for old in cache.glob(f"{target}-{'[0-9a-f]' * 16}.tar"):
            old.unlink()
        part.chmod(0o644)
        part.rename(file)


def saved(target: str, cache: Path = CACHE) -> Path:
    """Return an image as a docker archive, built only if its inputs changed since the last time.

    Raises:
        OfflineError: If the machine lacks something, or the build fails.
    """
    file = cache / f"{target}-{key(target)}.tar"  # of the sources as they are before the build
    if not file.is_file():
        lacking = requirements()
        if lacking:
            raise OfflineError(lacking)
        with daemon(cache) as docker:
            archive(docker, target, build(docker, target, cache), file)
    return file


def _build_all(targets: list[str], cache: Path) -> None:
    lacking = requirements()
    if lacking:
        raise OfflineError(lacking)
    with daemon(cache) as docker:
        for target in targets:
            began = time.monotonic()
            name = build(docker, target, cache)
            size = int(docker.run("image", "inspect", "--format", "{{.Size}}", name)) / 1e6
            print(f"{name}: {size:.0f} MB, {time.monotonic() - began:.0f} s", flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Build, and save if asked to; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", choices=TARGETS, help="one image (default: all)")
    parser.add_argument("--save", type=Path, metavar="FILE", help="write it as a docker archive")
    parser.add_argument("--cache", type=Path, default=CACHE, help="images and layers, kept")
    options = parser.parse_args(arguments)
    if options.save and not options.only:
        parser.error("--save needs --only")
    try:
        if options.save:
            shutil.copyfile(saved(options.only, options.cache), options.save)
        else:
            _build_all([options.only] if options.only else list(TARGETS), options.cache)
    except OfflineError as e:
        print(f"offline images: {e}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
