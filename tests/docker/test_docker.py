"""What goes into the images: pinned, from the lock, without secrets, for a user without rights."""

import re
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipelines.steps import STAGES

ROOT = Path(__file__).resolve().parents[2]
DOCKER = ROOT / "docker"
DOCKERFILES = ["launcher.Dockerfile", "trainer.Dockerfile"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@dataclass
class BuildStage:
    base: str
    name: str
    instructions: list[tuple[str, str]]

    def of(self, keyword: str) -> list[str]:
        return [words for key, words in self.instructions if key == keyword]


def parse(dockerfile: str) -> tuple[dict[str, str | None], list[BuildStage]]:
    """The arguments before the first FROM with their defaults, and the stages."""
    text = (DOCKER / dockerfile).read_text()
    text = re.sub(r"^\s*#.*\n", "", text, flags=re.M).replace("\\\n", " ")
    arguments: dict[str, str | None] = {}
    stages: list[BuildStage] = []
    for line in filter(str.strip, text.splitlines()):
        keyword, _, words = line.partition(" ")
        words = " ".join(words.split())
        if keyword == "FROM":
            base, _, name = words.partition(" AS ")
            stages.append(BuildStage(base, name, []))
        elif stages:
            stages[-1].instructions.append((keyword, words))
        else:
            name, given, default = words.partition("=")
            arguments[name] = default if given else None
    return arguments, stages


def shipped(dockerfile: str) -> list[BuildStage]:
    return [s for s in parse(dockerfile)[1] if s.name in ("launcher", "trainer", "trainer-cpu")]


def lineage(stage: BuildStage, stages: list[BuildStage]) -> list[BuildStage]:
    """A stage and those it is built on."""
    below = [s for s in stages if s.name == stage.base]
    return [stage, *(s for b in below for s in lineage(b, stages))]


def bake() -> dict[str, str]:
    """The text of each target of the bake file."""
    text = (DOCKER / "docker-bake.hcl").read_text()
    return dict(re.findall(r'^target "([\w-]+)" \{\n(.*?)^\}', text, re.M | re.S))


def pins(file: str) -> dict[str, str]:
    text = (DOCKER / file).read_text()
    return dict(re.findall(r"^([a-z0-9._-]+)==([^\s\\;]+)", text, re.M))


@pytest.mark.parametrize("dockerfile", DOCKERFILES)
def test_hadolint_finds_nothing(dockerfile: str) -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, DOCKER / dockerfile], capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize("dockerfile", DOCKERFILES)
def test_hadolint_is_silenced_only_with_a_reason(dockerfile: str) -> None:
    ignores = re.findall(r"hadolint ignore=(.*)", (DOCKER / dockerfile).read_text())
    assert [i for i in ignores if not re.fullmatch(r"DL\d+ # \S.*", i)] == []


@pytest.mark.parametrize("dockerfile", DOCKERFILES)
def test_every_base_is_an_argument_that_must_be_given(dockerfile: str) -> None:
    arguments, stages = parse(dockerfile)
    for stage in stages:
        earlier = {s.name for s in stages[: stages.index(stage)]}
        if stage.base not in earlier:
            assert stage.base.strip("${}") in arguments
    assert set(arguments.values()) == {None}


def test_base_tags_are_those_that_bake_passes_on() -> None:
    tags = (DOCKER / "base-images.tags").read_text()
    text = (DOCKER / "docker-bake.hcl").read_text()
    wanted = set(re.findall(r'variable "(\w+)" \{\n\s*default = ""', text))
    assert dict(re.findall(r"^(\w+)=(\S+:\S+)$", tags, re.M)).keys() == wanted


@pytest.mark.parametrize("dockerfile", DOCKERFILES)
def test_images_run_as_a_numeric_user_without_writing_beside_the_code(dockerfile: str) -> None:
    _, stages = parse(dockerfile)
    for stage in shipped(dockerfile):
        assert stage.of("USER") == ["65532:65532"]
        environment = " ".join(e for s in lineage(stage, stages) for e in s.of("ENV"))
        for wanted in ("HOME=/tmp", "PYTHONDONTWRITEBYTECODE=1", "PYTHONUNBUFFERED=1"):
            assert wanted in environment


@pytest.mark.parametrize("dockerfile", DOCKERFILES)
def test_images_are_labelled_with_the_version_of_the_project(dockerfile: str) -> None:
    for stage in shipped(dockerfile):
        assert f"VERSION={PROJECT['version']}" in stage.of("ARG")
        [label] = stage.of("LABEL")
        for name in ("title", "description", "licenses", "version", "revision"):
            assert f"org.opencontainers.image.{name}=" in label


def test_bake_gives_the_same_version() -> None:
    assert f'VERSION  = "{PROJECT["version"]}"' in bake()["image"]
    text = (DOCKER / "docker-bake.hcl").read_text()
    assert f'variable "TAG" {{\n  default = "{PROJECT["version"]}"' in text


@pytest.mark.parametrize(
    ("dockerfile", "extra"), [("launcher.Dockerfile", "pipeline"), ("trainer.Dockerfile", "train")]
)
def test_packages_come_from_the_lock(dockerfile: str, extra: str) -> None:
    [dependencies] = [s for s in parse(dockerfile)[1] if s.name == "dependencies"]
    [sync] = [r for r in dependencies.of("RUN") if "uv sync" in r]
    assert sync.endswith(f"uv sync --frozen --no-dev --no-install-project --extra {extra}")
    assert extra in PROJECT["optional-dependencies"]


@pytest.mark.parametrize("dockerfile", DOCKERFILES)
def test_whatever_else_is_installed_is_checked_against_hashes(dockerfile: str) -> None:
    runs = [r for s in parse(dockerfile)[1] for r in s.of("RUN")]
    installs = [c for r in runs for c in re.findall(r"(?:pip|uv pip) (?:install|wheel) [^&]+", r)]
    assert len(installs) >= 2
    for command in installs:
        assert "--require-hashes" in command or "--offline" in command


@pytest.mark.parametrize("dockerfile", DOCKERFILES)
def test_the_project_is_installed_after_its_packages(dockerfile: str) -> None:
    for stage in shipped(dockerfile):
        *_, installed, checked = [i for i in stage.instructions if i[0] == "RUN"]
        assert "/dist/*.whl" in installed[1]
        assert "check_imports.py" in checked[1]
        assert "--check" in checked[1]
        assert not [w for w in stage.of("COPY") if "--from" not in w]


@pytest.mark.parametrize("dockerfile", DOCKERFILES)
def test_every_stage_of_the_pipeline_is_checked_in_its_image(dockerfile: str) -> None:
    for stage in shipped(dockerfile):
        *_, checked = stage.of("RUN")
        trains = stage.name != "launcher"
        for kind in [s for s in STAGES.values() if bool(s.libraries) == trains]:
            assert f"python -m {kind.program} --check" in checked


@pytest.mark.parametrize("dockerfile", DOCKERFILES)
def test_index_settings_come_as_secrets_only(dockerfile: str) -> None:
    _, stages = parse(dockerfile)
    for stage in stages:
        for words in stage.of("ARG") + stage.of("ENV"):
            assert not re.search(r"INDEX|PROXY|TOKEN|PASSWORD|SECRET", words, re.I)
        for words in stage.of("RUN"):
            if "with-packages.sh " in words:
                assert "type=secret,id=packages" in words
                assert "type=secret,id=ca" in words


@pytest.mark.parametrize("dockerfile", DOCKERFILES)
def test_what_is_copied_is_there_and_let_through(dockerfile: str) -> None:
    patterns = [
        line
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    assert patterns[0] == "*"
    passed = {p[1:] for p in patterns if p.startswith("!")}
    used = set()
    for stage in parse(dockerfile)[1]:
        for words in stage.of("COPY"):
            if "--from" not in words:
                used.update(words.split()[:-1])
        used.update(re.findall(r"type=bind,source=([\w./-]+)", " ".join(stage.of("RUN"))))
    assert used >= {"pyproject.toml", "uv.lock", "omnistage", "docker/check_imports.py"}
    for path in used:
        assert (ROOT / path).exists()
        assert path.split("/")[0] in passed
        assert path not in patterns


def test_nothing_private_is_sent_to_the_builder() -> None:
    ignore = (ROOT / ".dockerignore").read_text()
    passed = set(re.findall(r"^!(.*)$", ignore, re.M))
    assert passed.isdisjoint({".git", ".venv", ".uv", ".omnistage", "tests", "build", ".env"})
    assert {"**/__pycache__", "**/*.pyc"} <= set(ignore.splitlines())


def test_bake_builds_the_stages_of_the_dockerfiles() -> None:
    targets = bake()
    assert set(targets) == {"image", "launcher", "trainer", "trainer-cpu"}
    for name in ("launcher", "trainer", "trainer-cpu"):
        text = targets[name]
        found = re.search(r'dockerfile = "docker/(.*)"\n\s*target\s+= "(.*)"', text)
        assert found
        arguments, stages = parse(found[1])
        assert found[2] in {s.name for s in stages}
        given = set(re.findall(r"(\w+)\s+= (?:\w*BASE)\b", text))
        required = {n for n, default in arguments.items() if default is None}
        assert required <= given <= set(arguments)
        assert 'inherits   = ["image"]' in text


def test_bake_attests_contents_and_origin() -> None:
    assert {"type=sbom", "type=provenance,mode=max"} <= set(
        re.findall(r'"(type=.*)"', bake()["image"])
    )


def test_the_gpu_packages_leave_alone_what_decides_results() -> None:
    extra = "\n".join(PROJECT["optional-dependencies"]["train"])
    decisive = dict(re.findall(r"^([\w-]+)==([^;\s]+)", extra, re.M))
    gpu = pins("trainer-gpu.txt")
    assert {"torch", "transformers", "ms-swift", "trl", "peft"} <= set(decisive)
    assert set(gpu).isdisjoint(decisive)
    assert "kfp" not in gpu
    assert gpu["vllm"] == pins("trainer-gpu.in")["vllm"]


@pytest.mark.parametrize("file", ["build-tools.txt", "flash-attn.txt", "trainer-gpu.txt"])
def test_every_requirement_has_a_hash(file: str) -> None:
    text = (DOCKER / file).read_text()
    entries = re.findall(r"^[a-z0-9].*\n(?:^ .*\n)*", text, re.M)
    assert entries
    assert [e for e in entries if "--hash=sha256:" not in e] == []


def test_build_tools_are_those_asked_for() -> None:
    assert pins("build-tools.in").items() <= pins("build-tools.txt").items()
