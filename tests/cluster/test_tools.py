"""The programs of the cluster are the pinned ones, and what a machine lacks is said in one line."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster import tools
from tests.cluster.cluster import Cluster
from tests.cluster.tools import Module, ToolsError


def test_without_root_one_line_says_so() -> None:
    program = "import os; os.geteuid = lambda: 1000; from tests.cluster import tools; tools.main()"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        "the cluster tests need root: they start containers on this machine"
    ]


def test_without_go_one_line_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMNISTAGE_CLUSTER_CACHE", str(tmp_path))
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(ToolsError, match=r"^the cluster tests need Go 1\.26 or newer on PATH"):
        tools.build()


def test_a_debian_package_that_cannot_be_installed_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    present = {"apt-get": None, "containerd": None}
    monkeypatch.setattr(shutil, "which", lambda name: present.get(name, f"/usr/bin/{name}"))
    with pytest.raises(ToolsError, match="need these Debian packages: containerd$"):
        tools.require_machine()


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Module:
    """A module of one small program that requires one that lies beside it, and its proxy."""
    monkeypatch.setenv("OMNISTAGE_CLUSTER_CACHE", str(tmp_path / "cache"))
    proxy = tmp_path / "proxy"
    monkeypatch.setenv("GOPROXY", f"file://{proxy}")
    monkeypatch.setenv("GONOSUMDB", "*")
    monkeypatch.setenv("GOMODCACHE", str(tmp_path / "modules"))
    monkeypatch.setenv("GOFLAGS", "-modcacherw")
    library = "package word\n\nconst Word = "
    publish(proxy, "example.org/word", "v0.1.0", {"word.go": f'{library}"published"\n'})
    program = (
        'package main\n\nimport "example.org/word"\n\n'
        'var version = "none"\n\nfunc main() { println(version, word.Word) }\n'
    )
    requires = "\nrequire example.org/word v0.1.0\n\nreplace example.org/word => ../word\n"
    path = "example.org/say"
    files = {"main.go": program, "charts/say/Chart.yaml": "name: say\n"}
    publish(proxy, path, "v0.2.0", files, requires)
    found = subprocess.run(
        ["go", "mod", "download", "-json", f"{path}@v0.2.0"],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "GOFLAGS": "-modcacherw", "GOWORK": "off"},
        cwd=tmp_path,
    )
    checksum = json.loads(found.stdout)["Sum"]
    return Module(path, "v0.2.0", checksum, {"say": "."}, "-X main.version=0.2", keep=("charts",))


def publish(
    proxy: Path, path: str, version: str, files: dict[str, str], requires: str = ""
) -> None:
    """Put a module into a folder that serves as module proxy."""
    place = proxy / path / "@v"
    place.mkdir(parents=True)
    described = f"module {path}\n\ngo 1.24\n{requires}"
    (place / f"{version}.mod").write_text(described)
    (place / f"{version}.info").write_text(json.dumps({"Version": version}))
    source = proxy / "source" / f"{path}@{version}"
    for name, text in {**files, "go.mod": described}.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(text)
    archive = shutil.make_archive(
        str(place / version), "zip", proxy / "source", f"{path}@{version}"
    )
    assert Path(archive).exists()
    shutil.rmtree(proxy / "source")


def test_a_program_is_built_from_its_pin_and_from_published_siblings(
    module: Module, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tools, "MODULES", (module,))
    tools.build()
    done = subprocess.run([tools.binaries() / "say"], capture_output=True, text=True, check=True)
    assert done.stderr == "0.2 published\n"
    assert (tools.manifests("say") / "charts/say/Chart.yaml").read_text() == "name: say\n"
    assert "building say ..." in capsys.readouterr().err
    tools.build()
    assert capsys.readouterr().err == ""


def test_a_module_that_is_not_the_pinned_one_is_refused(
    module: Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Module(module.path, module.version, "h1:other=", module.programs)
    monkeypatch.setattr(tools, "MODULES", (other,))
    with pytest.raises(ToolsError, match=r"has checksum h1:.*, not h1:other="):
        tools.build()
    assert not (tools.binaries() / "say").exists()


def test_programs_say_the_version_of_their_pin(cluster: Cluster) -> None:
    versions = json.loads(cluster.kubectl("version", "-o", "json"))
    assert {versions[side]["gitVersion"] for side in ("clientVersion", "serverVersion")} == {
        f"v{tools.KUBERNETES}"
    }
