"""The scripts behind the images: pins, digests, the check of imports, builds without a registry."""

import importlib.util
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCKER = ROOT / "docker"
DIGEST = "sha256:" + "a" * 64


@pytest.fixture
def load() -> Callable[[str], ModuleType]:
    def load(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(f"docker_{name}", DOCKER / f"{name}.py")
        assert spec
        assert spec.loader
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


def test_entries_of_requirements_keep_their_hashes(load: Callable[[str], ModuleType]) -> None:
    resolve = load("resolve_gpu")
    text = (
        "# comment\na-b==1.0 \\\n    --hash=sha256:1\n    # via c\nc[x]==2 ; python_version > '3'\n"
    )
    first, second = resolve.entries(text)
    assert first == "a-b==1.0 \\\n    --hash=sha256:1\n"
    assert [resolve.pin(first), resolve.pin(second)] == [("a-b", "1.0"), ("c", "2")]
    with pytest.raises(ValueError, match="not pinned with ==: d>=1"):
        resolve.pin("d>=1\n")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with the same packages, empty, and the import check beside it."""
    shutil.copy(DOCKER / "check_imports.py", tmp_path)
    for package in ("omnistage", "components", "pipelines", "recipes"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").touch()
    return tmp_path


def check_imports(project: Path, *absent: str) -> tuple[int, str]:
    command = [sys.executable, "check_imports.py", *absent]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def test_imports_are_right_when_only_what_is_left_out_on_purpose_is_missing(project: Path) -> None:
    (project / "components" / "stage.py").write_text("import left_out.part\n")
    assert check_imports(project, "left_out")[0] == 0


def test_a_module_that_misses_a_package_fails_the_build(project: Path) -> None:
    (project / "components" / "stage.py").write_text("import forgotten\n")
    code, said = check_imports(project, "left_out")
    assert code == 1
    assert "components.stage: No module named 'forgotten'" in said


def test_a_module_that_cannot_be_imported_fails_the_build(project: Path) -> None:
    (project / "pipelines" / "dag.py").write_text("1 / 0\n")
    code, said = check_imports(project)
    assert code == 1
    assert "pipelines.dag: ZeroDivisionError" in said


def test_a_package_that_must_not_be_there_fails_the_build(project: Path) -> None:
    (project / "left_out.py").touch()
    code, said = check_imports(project, "left_out")
    assert code == 1
    assert "left_out is installed; this image is made without it" in said


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A docker that knows one image; anything else is refused."""
    script = tmp_path / "bin" / "docker"
    script.parent.mkdir()
    script.write_text(
        '#!/bin/sh\n[ "$*" = "buildx imagetools inspect example/base:1 --format '
        f'{{{{.Manifest.Digest}}}}" ] && echo {DIGEST} || {{ echo "not found" >&2; exit 1; }}\n'
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")


@pytest.mark.usefixtures("registry")
def test_bases_are_pinned_by_the_digest_that_the_registry_gives(
    load: Callable[[str], ModuleType],
) -> None:
    assert f"\nBASE=example/base:1@{DIGEST}\n" in load("digests").bases(
        "# x\nBASE=example/base:1\n"
    )


@pytest.mark.usefixtures("registry")
def test_a_base_that_the_registry_does_not_have_is_named(load: Callable[[str], ModuleType]) -> None:
    digests = load("digests")
    with pytest.raises(digests.DigestError, match="example/base:2: .* no digest: not found"):
        digests.bases("BASE=example/base:2\n")


def test_what_was_pushed_becomes_arguments_of_compile(load: Callable[[str], ModuleType]) -> None:
    digests = load("digests")
    pushed = '{"image.name": "reg:5000/o/%s:0.1.0", "containerimage.digest": "%s"}'
    both = ", ".join(f'"{n}": {pushed % (n, DIGEST)}' for n in ("trainer", "launcher"))
    assert digests.built(f"{{{both}}}") == [
        f"--image launcher=reg:5000/o/launcher@{DIGEST}",
        f"--image trainer=reg:5000/o/trainer@{DIGEST}",
    ]
    with pytest.raises(digests.DigestError, match="no pushed image 'launcher'"):
        digests.built('{"launcher": {"image.name": "o/launcher:1"}}')


def test_the_key_of_an_image_follows_its_inputs(
    load: Callable[[str], ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offline = load("offline")
    for name in offline.FILES:
        shutil.copy(ROOT / name, tmp_path)
    module = tmp_path / "omnistage" / "module.py"
    module.parent.mkdir()
    module.write_text("a = 1\n")
    monkeypatch.setattr(offline, "ROOT", tmp_path)
    first = offline.key("launcher")
    (module.parent / "__pycache__").mkdir()
    (module.parent / "__pycache__" / "module.pyc").touch()
    assert offline.key("launcher") == first
    assert offline.key("trainer-cpu") != first
    module.write_text("a = 2\n")
    assert offline.key("launcher") != first


def test_index_settings_are_handed_over_in_a_file_nobody_else_reads(
    load: Callable[[str], ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PIP_CERT", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    bundle = tmp_path / "ca.pem"
    bundle.touch()
    monkeypatch.setenv("PIP_CERT", str(bundle))
    monkeypatch.setenv("PIP_INDEX_URL", "https://user:pass word@index.example/simple")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "unrelated")
    arguments = load("offline").secrets(tmp_path)
    file = tmp_path / "packages"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert arguments == [
        "--secret",
        f"id=packages,src={file}",
        "--secret",
        f"id=ca,src={bundle}",
    ]
    shell = f". {file}; echo $UV_DEFAULT_INDEX $HTTPS_PROXY"
    said = subprocess.run(["sh", "-c", f"set -a; {shell}"], capture_output=True, text=True).stdout
    assert said == "https://user:pass word@index.example/simple http://proxy.example:3128\n"
    assert "unrelated" not in file.read_text()
    assert "PIP_CERT" not in file.read_text()


def test_a_saved_image_needs_no_daemon(
    load: Callable[[str], ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offline = load("offline")
    monkeypatch.setenv("PATH", "")
    (tmp_path / f"launcher-{offline.key('launcher')}.tar").write_text("image")
    target = tmp_path / "here.tar"
    arguments = ["--only", "launcher", "--cache", str(tmp_path), "--save", str(target)]
    assert offline.main(arguments) == 0
    assert target.read_text() == "image"


def test_a_machine_that_cannot_build_is_told_what_it_lacks(
    load: Callable[[str], ModuleType],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert load("offline").main(["--cache", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert error == "offline images: missing Debian packages: docker.io debootstrap\n"
