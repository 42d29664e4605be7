"""The commands of docs/kubeflow.md, run one after the other as the page shows them."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from omnistage.recipe.document import find_recipe, read_recipe, validate
from omnistage.store.open import open_store
from pipelines.graph import graph_of
from pipelines.recipe import Recipe
from tests.kubeflow import kfp_api
from tests.pipelines.test_packages import PINNED
from tests.store.store_kit import store_results

PAGE = Path(__file__).parents[2] / "docs" / "kubeflow.md"
CACHED = ("download", "download-model", "rewrite-paths", "sft", "grpo")
DONE = {**dict.fromkeys(CACHED, "SKIPPED"), "eval": "SUCCEEDED", "end-run": "SUCCEEDED"}


def commands() -> list[str]:
    """The page's commands, without the block of variables, continued lines joined."""
    blocks = re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(), re.M | re.S)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line for line in lines if line and not line.startswith("export ")]


@pytest.fixture
def store(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A store that has what the stages before eval make, of a few bytes."""
    monkeypatch.setenv("OMNISTAGE_SCRATCH", str(tmp_path / "scratch"))
    recipe = validate(read_recipe(find_recipe("omnicritic-3b")), Recipe)
    uri = f"s3://{bucket}/page"
    graph = graph_of(recipe)
    store_results(open_store(uri), graph, list(graph)[:-1], tmp_path)
    return uri


@pytest.fixture
def api() -> Iterator[kfp_api.Server]:
    with kfp_api.serve() as server:
        server.script = [("SUCCEEDED", DONE)]
        yield server


def test_the_commands_of_the_page_do_what_it_says(
    api: kfp_api.Server, store: str, tmp_path: Path
) -> None:
    lines = commands()
    assert len(lines) == 10
    env = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "KUBECONFIG": str(tmp_path / "none"),
        "KF_PIPELINES_ENDPOINT": api.url,
        "LAUNCHER": PINNED["launcher"],
        "TRAINER": PINNED["trainer"],
        "STORE": store,
    }
    said = []
    for line in lines:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", line],
            cwd=tmp_path,
            env=env,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        said.append(done.stdout)

    runs = list(api.runs.values())
    named = [r["display_name"] for r in runs if not r["display_name"].startswith("post-training")]
    assert named == ["first", "two-nodes", "again"]
    given = [run["runtime_config"].get("parameters", {}) for run in runs]
    assert {"nodes": 2, "queue": "team"} in given
    assert {"data": "hf://TMFK/omnir1-dataset@main", "gpus_per_node": 8} in given
    assert set(given[-1]) == {"data", "records", "start"}
    assert all(uri.startswith(f"{store}/") for uri in given[-1].values())
    assert said[0].splitlines()[-1].endswith("exit: done")
    assert "kind: PyTorchJob" in said[-1]
