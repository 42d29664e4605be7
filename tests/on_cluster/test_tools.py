"""The programs of the cluster are the pinned ones, and what a machine lacks is said in one line."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.on_cluster.harness import tools
from tests.on_cluster.harness.cluster import Cluster
from tests.on_cluster.harness.tools import Module, ToolsError


def test_without_root_one_line_says_so() -> None:
    program = (
        "import os; os.geteuid = lambda: 1000\n"
        "from tests.on_cluster.harness import tools; tools.main()"
    )
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
def proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module proxy with two patches of a library, and caches of one's own."""
    monkeypatch.setenv("OMNISTAGE_CLUSTER_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "proxy"
    monkeypatch.setenv("GOPROXY", f"file://{folder}")
    monkeypatch.setenv("GONOSUMDB", "*")
    monkeypatch.setenv("GOMODCACHE", str(tmp_path / "modules"))
    monkeypatch.setenv("GOFLAGS", "-modcacherw")
    for version in ("v0.1.0", "v0.1.1"):
        library = f'package word\n\nconst Word = "word {version}"\n'
        publish(folder, "example.org/word", version, {"word.go": library})
    return folder


def program(
    proxy: Path, name: str, path: str, library: str = "v0.1.0", more: str = "", sums: str = ""
) -> Module:
    """Publish a module of one small program that requires the library; return its pin."""
    source = (
        'package main\n\nimport "example.org/word"\n\n'
        'var version = "none"\n\nfunc main() { println(version, word.Word) }\n'
    )
    files = {"main.go": source, "charts/say/Chart.yaml": "name: say\n", "go.sum": sums}
    publish(proxy, path, "v2.0.0", files, f"\nrequire example.org/word {library}\n{more}")
    found = subprocess.run(
        ["go", "mod", "download", "-json", f"{path}@v2.0.0"],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "GOFLAGS": "-modcacherw", "GOWORK": "off"},
        cwd=proxy,
    )
    return Module(path, "v2.0.0", json.loads(found.stdout)["Sum"], {name: "."})


@pytest.fixture
def module(proxy: Path) -> Module:
    """A module that takes the library from a folder beside it in its repository."""
    beside = "\nreplace example.org/word => ../word\n"
    made = program(proxy, "say", "example.org/say/v2", more=beside)
    return dataclasses.replace(made, flags="-X main.version=0.2", keep=("charts",))


def output(program: str) -> str:
    """Run a program that was built; return what it prints."""
    path = tools.binaries() / program
    return subprocess.run([path], capture_output=True, text=True, check=True).stderr


def publish(
    proxy: Path, path: str, version: str, files: dict[str, str], requires: str = ""
) -> None:
    """Put a module into a folder that serves as module proxy."""
    place = proxy / path / "@v"
    place.mkdir(parents=True, exist_ok=True)
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
    monkeypatch.setattr(tools, "ROWS", ((module,),))
    tools.build()
    assert output("say") == "0.2 word v0.1.0\n"
    assert (tools.manifests("say") / "charts/say/Chart.yaml").read_text() == "name: say\n"
    assert "building say ..." in capsys.readouterr().err
    tools.build()
    assert capsys.readouterr().err == ""


def test_siblings_are_of_the_release_that_the_pin_names(
    module: Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tools, "ROWS", ((dataclasses.replace(module, siblings="v0.1.1"),),))
    tools.build()
    assert output("say") == "0.2 word v0.1.1\n"


def test_modules_of_one_row_share_the_newest_patch_that_any_of_them_names(
    proxy: Path, module: Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = program(proxy, "shout", "example.org/shout/v2", library="v0.1.1")
    monkeypatch.setattr(tools, "ROWS", ((module, other),))
    tools.build()
    assert [output(name) for name in ("say", "shout")] == ["0.2 word v0.1.1\n"] * 2


def test_a_file_of_the_sources_can_be_another(
    module: Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"main.go": 'package main\n\nfunc main() { println("another") }\n'}
    monkeypatch.setattr(tools, "ROWS", ((dataclasses.replace(module, files=files),),))
    tools.build()
    assert output("say") == "another\n"


def test_a_module_that_is_not_the_pinned_one_is_refused(
    module: Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = dataclasses.replace(module, sum="h1:other=")
    monkeypatch.setattr(tools, "ROWS", ((other,),))
    with pytest.raises(ToolsError, match=r"has checksum h1:.*, not h1:other="):
        tools.build()
    assert not (tools.binaries() / "say").exists()


def test_a_library_that_is_not_the_one_of_the_pinned_module_is_refused(
    proxy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sums = f"example.org/word v0.1.0 h1:{'A' * 43}=\n"
    module = program(proxy, "say", "example.org/say/v2", sums=sums)
    monkeypatch.setattr(tools, "ROWS", ((module,),))
    with pytest.raises(ToolsError, match="example.org/word@v0.1.0: checksum mismatch"):
        tools.build()
    assert not (tools.binaries() / "say").exists()


def test_programs_say_the_version_of_their_pin(cluster: Cluster) -> None:
    versions = json.loads(cluster.kubectl("version", "-o", "json"))
    assert {versions[side]["gitVersion"] for side in ("clientVersion", "serverVersion")} == {
        f"v{tools.KUBERNETES}"
    }
