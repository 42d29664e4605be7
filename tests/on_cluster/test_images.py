"""The launcher image, built without a registry, does what its pods ask of it and has no more."""

import importlib.util
import json
import re
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
POD = ["--network", "none", "--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL"]
POD += ["--security-opt", "no-new-privileges"]
"""As a pod under the restricted standard with a read-only root and an emptyDir at /tmp."""

Run = Callable[..., str]


@pytest.fixture(scope="module")
def offline() -> ModuleType:
    spec = importlib.util.spec_from_file_location("offline", ROOT / "docker" / "offline.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if lacking := module.requirements():
        pytest.exit(lacking, returncode=1)
    return module


@pytest.fixture(scope="module")
def daemon(offline: ModuleType) -> Iterator[Any]:
    with offline.daemon() as docker:
        yield docker


@pytest.fixture(scope="module")
def image(offline: ModuleType, daemon: Any) -> str:
    """The image's id: a later build takes its name away."""
    name = offline.build(daemon, "launcher")
    return json.loads(daemon.run("image", "inspect", name))[0]["Id"]


@pytest.fixture(scope="module")
def run(daemon: Any, image: str) -> Run:
    """Runs a command in the image and returns what it prints; fails with its last lines."""
    return lambda *command: daemon.run("run", "--rm", *POD, image, *command)


@pytest.fixture(scope="module")
def config(daemon: Any, image: str) -> dict[str, Any]:
    return json.loads(daemon.run("image", "inspect", image))[0]["Config"]


@pytest.fixture(scope="module")
def files(offline: ModuleType, daemon: Any, image: str, tmp_path_factory: Any) -> list[str]:
    """Every file of every layer: what was deleted later is shipped all the same."""
    saved = tmp_path_factory.mktemp("image") / "launcher.tar"
    daemon.run("save", "--output", str(saved), image)
    names = []
    with tarfile.open(saved) as archive:
        manifest = archive.extractfile("manifest.json")
        assert manifest
        for layer in json.load(manifest)[0]["Layers"]:
            with tarfile.open(fileobj=archive.extractfile(layer)) as members:
                names += [m.name for m in members if m.isfile()]
    saved.unlink()
    return names


def test_it_runs_as_a_numeric_user_without_rights(config: dict[str, Any], run: Run) -> None:
    assert config["User"] == "65532:65532"
    assert run("sh", "-c", "id -u; id -g; whoami").split() == ["65532", "65532", "omnistage"]
    assert run("sh", "-c", "touch /opt/omnistage/x 2>&1 || true").endswith(
        ("Read-only file system\n", "Permission denied\n")
    )


def test_the_command_line_works_without_network_and_with_a_read_only_root(run: Run) -> None:
    assert run().startswith("usage: omnistage")
    assert "omnicritic-7b" in run("omnistage", "recipes")


@pytest.mark.parametrize("stage", ["download", "download.model", "rewrite_paths"])
def test_the_stages_that_need_no_gpu_are_ready(run: Run, stage: str) -> None:
    name = stage.replace(".", "_")
    assert run("python", "-m", f"components.{stage}", "--check") == f"{name}: ready\n"


def test_everything_of_the_launcher_imports_without_torch(run: Run) -> None:
    code = (
        "import pkgutil, importlib, importlib.util, sys, kfp, kfp.kubernetes, kubernetes\n"
        "import omnistage.cli.main, omnistage.cluster, pipelines.post_training\n"
        "for m in pkgutil.iter_modules(omnistage.cluster.__path__, 'omnistage.cluster.'):\n"
        "    importlib.import_module(m.name)\n"
        "print([n for n in ('torch', 'swift', 'vllm') if importlib.util.find_spec(n)])\n"
    )
    assert run("python", "-c", code) == "[]\n"


def test_a_task_of_kubeflow_can_start_in_it(run: Run) -> None:
    assert "--component_module_path" in run("python3", "-m", "kfp.dsl.executor_main", "--help")
    # KFP writes the task's code to a folder made with mktemp before it starts Python
    assert run("sh", "-ec", "cd $(mktemp -d) && printf 1 > code.py && cat code.py") == "1"


def test_it_computes_the_keys_of_training_stages_as_this_environment_does(run: Run) -> None:
    code = (
        "from pipelines.graph import STAGES\n"
        "from omnistage.stage.key import pinned_version\n"
        "print({s: {n: pinned_version(n) for n in STAGES[s].libraries} for s in sorted(STAGES)})\n"
    )
    here: dict[str, Any] = {}
    exec(code.replace("print(", "found = ("), here)
    assert run("python", "-c", code) == f"{here['found']}\n"


def test_it_runs_the_stages_that_make_and_rewrite_a_data_set(run: Run) -> None:
    specs = {
        "download": {"config": {"sources": [{"type": "tiny"}]}},
        "rewrite_paths": {"config": {}, "inputs": {"data": "file:///tmp/download.json"}},
    }
    script = "cd /tmp\n"
    for stage, spec in specs.items():
        whole = {**spec, "store": "file:///tmp/store", "manifest": f"/tmp/{stage}.json"}
        script += f"echo '{json.dumps(whole)}' > spec.json\n"
        script += f"python -m components.{stage} --spec spec.json >&2\n"
    manifest = json.loads(run("sh", "-ec", f"{script} cat rewrite_paths.json"))
    assert manifest["kind"] == "RewrittenJSONL"
    assert manifest["files"]


def test_no_layer_holds_caches_sources_or_settings_of_the_builder(
    files: list[str], config: dict[str, Any], daemon: Any, image: str
) -> None:
    unwanted = re.compile(
        r"(^|/)(\.git|\.venv|\.omnistage|\.netrc|pip\.conf|uv\.toml)(/|$)"
        r"|^root/\.cache/|^opt/tools/|^run/secrets/|^src/|^dist/|/tests?/cluster/|^etc/apt/auth"
    )
    assert "opt/omnistage/bin/omnistage" in files
    assert [name for name in files if unwanted.search(name)] == []
    history = daemon.run("history", "--no-trunc", "--format", "{{.CreatedBy}}", image)
    said = f"{history}\n{config['Env']}"
    assert not re.search(r"(INDEX_URL|_PROXY|PASSWORD|TOKEN|SECRET_ACCESS)\w*=", said, re.I)


def test_a_change_of_the_sources_leaves_the_large_layers_alone(
    offline: ModuleType, daemon: Any, image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (*offline.FILES, *offline.SOURCES):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    monkeypatch.setattr(offline, "ROOT", tmp_path)

    def layers() -> list[str]:
        built = offline.build(daemon, "launcher")
        return json.loads(daemon.run("image", "inspect", built))[0]["RootFS"]["Layers"]

    before = layers()
    (tmp_path / "omnistage" / "added.py").write_text("VALUE = 1\n")
    after = layers()
    base_user_packages = 3
    assert after[:base_user_packages] == before[:base_user_packages]
    assert after[base_user_packages] != before[base_user_packages]
