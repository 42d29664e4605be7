"""Compiled packages: as stored in golden, of pinned images, safe in any namespace."""

# KFP itself gives the outputs in a component's signature.
# pyright: reportCallIssue=false

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from kfp import dsl
from kfp.dsl.types.type_utils import InconsistentTypeException

from omnistage.cli.main import main
from omnistage.cluster.settings import LaunchSettings
from omnistage.errors import InputError
from omnistage.recipe.document import read_recipe, validate, with_overrides
from pipelines.graph import graph_of
from pipelines.post_training import check_images, compile_packages
from pipelines.recipe import Recipe
from pipelines.step_component import step_component
from pipelines.task_pods import ClusterNames
from tests.pipelines.kfp_tasks import Task, package_tasks

GOLDEN = Path(__file__).with_name("golden")
RECIPE = Path(__file__).parents[1] / "recipes" / "golden.yaml"
PINNED = {
    "launcher": "registry.example/launcher@sha256:" + "1" * 64,
    "trainer": "registry.example/trainer@sha256:" + "2" * 64,
}
STEPS = ["download", "download_model", "rewrite_paths", "sft", "grpo", "eval"]
PACKAGES = ["post_training", *STEPS]
LAUNCHED = ["sft", "grpo", "eval"]
ANY = {"data": "d", "records": "r", "start": "m", "model": "m", "model_2": "s", "model_3": "g"}
INPUTS = {
    "sft": {"data": "DatasetTarball", "records": "RewrittenJSONL", "start": "BaseModel"},
    "grpo": {"data": "DatasetTarball", "records": "RewrittenJSONL", "start": "SFTCheckpoint"},
    "eval": {
        **{"data": "DatasetTarball", "records": "RewrittenJSONL", "model": "BaseModel"},
        **{"model_2": "SFTCheckpoint", "model_3": "LoRAAdapter"},
    },
    "rewrite_paths": {"data": "DatasetTarball"},
}
S3 = "s3://bucket/store"


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return compiled(tmp_path_factory.mktemp("p"))


def compiled(folder: Path, *overrides: str, store: str = S3, **options: Any) -> dict[str, Path]:
    document = with_overrides(read_recipe(RECIPE), overrides, Recipe, within="steps")
    recipe = validate(document, Recipe)
    paths = compile_packages(recipe, folder, store, PINNED, **options)
    return {path.stem: path for path in paths}


def specification(package: Path) -> dict[str, Any]:
    pipeline, _ = yaml.safe_load_all(package.read_text())
    return pipeline


def tasks(package: Path, **parameters: Any) -> dict[str, Task]:
    declared = specification(package)["root"]["inputDefinitions"]["parameters"]
    needed = {n: ANY[n] for n in declared if "defaultValue" not in declared[n]}
    return {t.title: t for t in package_tasks(package, {**needed, **parameters})}


def runtime(task: Task) -> Any:
    return yaml.safe_load(task.parameters["runtime"])


def normalized(package: Path) -> str:
    """The package without what the SDK's version alone decides."""
    pipeline, platform = yaml.safe_load_all(package.read_text())
    del pipeline["sdkVersion"], pipeline["schemaVersion"]
    return yaml.safe_dump_all([pipeline, platform], width=100, sort_keys=True)


def test_there_is_a_package_of_the_pipeline_and_of_each_step(packages: dict[str, Path]) -> None:
    assert list(packages) == PACKAGES


@pytest.mark.parametrize("name", PACKAGES)
def test_packages_are_as_stored(name: str, packages: dict[str, Path], update_golden: bool) -> None:
    golden = GOLDEN / f"{name}.yaml"
    now = normalized(packages[name])
    if update_golden:
        golden.parent.mkdir(parents=True, exist_ok=True)
        golden.write_text(now)
    assert now == golden.read_text(), (
        "the package changed; if it should: pytest tests/pipelines/test_packages.py --update-golden"
    )


@pytest.mark.parametrize("name", PACKAGES)
def test_every_task_runs_in_the_launcher_image_and_every_job_in_the_trainers(
    name: str, packages: dict[str, Path]
) -> None:
    found = tasks(packages[name])
    wanted = STEPS if name == "post_training" else [name]
    assert list(found) == [*wanted, "exit"]
    assert {task.container["image"] for task in found.values()} == {PINNED["launcher"]}
    for stage in set(wanted) & set(LAUNCHED):
        assert runtime(found[stage])["cluster"]["image"] == PINNED["trainer"]


def test_the_pipeline_has_parameters_for_what_one_changes_at_submit_time(
    packages: dict[str, Path],
) -> None:
    declared = specification(packages["post_training"])["root"]["inputDefinitions"]["parameters"]
    names = {"data", "model", "store", "node_pool", "queue", "nodes", "gpus_per_node"}
    assert set(declared) == names
    assert {n: d["defaultValue"] for n, d in declared.items()} == {
        **dict.fromkeys(["data", "model", "node_pool", "queue"], ""),
        **dict.fromkeys(["nodes", "gpus_per_node"], 0),
        "store": S3,
    }
    assert all(d["description"] for d in declared.values())


def test_parameters_reach_the_tasks_they_are_for(packages: dict[str, Path]) -> None:
    found = tasks(
        packages["post_training"], data="s3://b/d", model="hf://o/m", nodes=4, store="s3://b/s"
    )
    assert found["download"].parameters["source"] == "s3://b/d"
    assert found["download_model"].parameters["source"] == "hf://o/m"
    assert [found[s].parameters["nodes"] for s in ("sft", "grpo")] == [4, 4]
    assert "nodes" not in found["eval"].parameters
    assert {t.parameters["store"] for t in found.values()} == {"s3://b/s"}


@pytest.mark.parametrize("name", STEPS)
def test_a_step_alone_takes_a_manifest_uri_for_each_input(
    name: str, packages: dict[str, Path]
) -> None:
    pipeline = specification(packages[name])
    parameters = pipeline["root"]["inputDefinitions"]["parameters"]
    place = {"sft": 4, "grpo": 4, "eval": 3}.get(name, 0)
    source = {"download": {"data"}, "download_model": {"model"}}.get(name, set())
    needed = {n for n in parameters if "defaultValue" not in parameters[n]}
    assert needed == set(INPUTS.get(name, {}))
    assert len(parameters) == len(needed) + len(source) + place + 1
    executors = pipeline["deploymentSpec"]["executors"].values()
    imported = [e["importer"] for e in executors if "importer" in e]
    kinds = sorted(found["typeSchema"]["schemaTitle"] for found in imported)
    assert kinds == sorted(f"system.{kind}" for kind in INPUTS.get(name, {}).values())
    assert not any(found.get("reimport") for found in imported)


@pytest.mark.parametrize("name", PACKAGES)
def test_stages_are_cached_and_the_exit_task_is_not(name: str, packages: dict[str, Path]) -> None:
    cached = {task.title: task.caching for task in tasks(packages[name]).values()}
    assert cached.pop("exit") is False
    assert set(cached.values()) == {True}


def test_no_argument_changes_from_run_to_run(packages: dict[str, Path]) -> None:
    """KFP's cache compares arguments: a run's id or a time among them would never hit."""
    for package in packages.values():
        text = package.read_text()
        assert "{{$.pipeline" not in text
        assert "{{workflow" not in text


def test_the_same_recipe_compiles_to_the_same_bytes(
    packages: dict[str, Path], tmp_path: Path
) -> None:
    """What was submitted is known by the bytes of its package."""
    again = compiled(tmp_path, only=["post_training"])["post_training"]
    assert again.read_bytes() == packages["post_training"].read_bytes()


def test_nothing_that_decides_a_result_is_an_environment_variable(
    packages: dict[str, Path],
) -> None:
    for package in packages.values():
        for task in tasks(package).values():
            names = {e["name"] for e in task.container["env"]}
            assert names == {"HOME", "OMNISTAGE_SCRATCH", "OMNISTAGE_CREDENTIALS_FROM"}


@pytest.mark.parametrize("name", PACKAGES)
def test_every_task_may_run_where_the_restricted_pod_standard_holds(
    name: str, packages: dict[str, Path]
) -> None:
    for task in tasks(packages[name]).values():
        assert task.kubernetes["securityContext"] == {
            "runAsNonRoot": True,
            "runAsUser": "65532",
            "runAsGroup": "65532",
        }
        writable = [m["mountPath"] for m in task.kubernetes["emptyDirMounts"]]
        assert writable == ["/tmp", "/scratch"]
        resources = task.container["resources"]
        assert {"resourceCpuRequest", "resourceCpuLimit"} <= set(resources)
        assert {"resourceMemoryRequest", "resourceMemoryLimit"} <= set(resources)


def test_every_task_ends_in_time_and_a_launcher_not_before_its_job(
    packages: dict[str, Path], tmp_path: Path
) -> None:
    found = tasks(packages["post_training"])
    seconds = {n: int(t.kubernetes["activeDeadlineSeconds"]) for n, t in found.items()}
    defaults = LaunchSettings()
    assert all(0 < s <= 14 * 86400 for s in seconds.values())
    assert seconds["sft"] > defaults.queue_timeout + defaults.run_timeout
    assert seconds["exit"] == 3600
    short = compiled(tmp_path, "cluster.run_timeout=600", "cluster.queue_timeout=60")
    deadline = tasks(short["sft"])["sft"].kubernetes["activeDeadlineSeconds"]
    both = 2 * (600 + 60 + defaults.start_timeout)  # that of encoding, and the training job
    assert int(deadline) == both + 3600


def test_secrets_are_named_and_only_downloads_get_the_hubs(packages: dict[str, Path]) -> None:
    found = tasks(packages["post_training"])
    names = {
        title: [s["secretName"] for s in task.kubernetes["secretAsEnv"]]
        for title, task in found.items()
    }
    both = ["omnistage-store", "omnistage-hub"]
    assert names == {
        **{title: ["omnistage-store"] for title in found},
        "download": both,
        "download_model": both,
    }
    assert all(s["optional"] for t in found.values() for s in t.kubernetes["secretAsEnv"])


def test_a_task_knows_its_run_its_workflow_and_its_pod(packages: dict[str, Path]) -> None:
    for task in tasks(packages["post_training"]).values():
        fields = {f["name"]: f["fieldPath"] for f in task.kubernetes["fieldPathAsEnv"]}
        assert fields == {
            "OMNISTAGE_RUN_ID": "metadata.labels['pipeline/runid']",
            "OMNISTAGE_WORKFLOW": "metadata.labels['workflows.argoproj.io/workflow']",
            "OMNISTAGE_POD_NAME": "metadata.name",
            "OMNISTAGE_NAMESPACE": "metadata.namespace",
        }


def test_names_of_the_namespaces_objects_come_from_the_recipe_or_the_options(
    tmp_path: Path,
) -> None:
    made = compiled(
        tmp_path,
        "cluster.store_secret=keys",
        "cluster.store_config=''",
        "cluster.image_pull_secrets=[pull]",
        "cluster.run_as_user=1000",
        names=ClusterNames("tokens", "defaults", "disk"),
        only=["download"],
        store="file:///store/x",
    )
    asked = tasks(made["download"])["download"].kubernetes
    assert [s["secretName"] for s in asked["secretAsEnv"]] == ["keys", "tokens"]
    assert "configMapAsEnv" not in asked
    assert [c["configMapName"] for c in asked["configMapAsVolume"]] == ["defaults"]
    assert [(c["constant"], c["mountPath"]) for c in asked["pvcMount"]] == [("disk", "/store")]
    assert [s["secretName"] for s in asked["imagePullSecret"]] == ["pull"]
    assert asked["securityContext"]["runAsUser"] == "1000"


def test_a_volume_of_the_recipe_is_mounted_instead_of_the_charts(tmp_path: Path) -> None:
    made = compiled(
        tmp_path,
        "cluster.volumes=[{claim: nfs, mount_path: /mnt/nfs, sub_path: omni}]",
        store="file:///mnt/nfs/store",
        only=["sft"],
    )
    found = tasks(made["sft"])
    mounts = found["sft"].kubernetes["pvcMount"]
    assert [(m["constant"], m["mountPath"], m["subPath"]) for m in mounts] == [
        ("nfs", "/mnt/nfs", "omni")
    ]
    assert runtime(found["sft"])["cluster"]["settings"]["volumes"][0]["claim"] == "nfs"


def test_a_store_that_a_cluster_does_not_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"file:///home/me/store: a cluster does not have"):
        compiled(tmp_path / "p", store="file:///home/me/store")
    assert not (tmp_path / "p").exists()


def test_jobs_get_what_the_recipe_sets_and_leave_the_rest_to_the_cluster(tmp_path: Path) -> None:
    made = compiled(tmp_path, "cluster.nodes=2", "cluster.env={NCCL_DEBUG: INFO}", only=["grpo"])
    cluster = runtime(tasks(made["grpo"])["grpo"])["cluster"]
    assert cluster["settings"] == {"nodes": 2, "env": {"NCCL_DEBUG": "INFO"}}


def test_stages_before_the_first_are_taken_from_the_store(tmp_path: Path) -> None:
    made = compiled(tmp_path, first="grpo", only=["post_training"])
    variables = {
        title: {e["name"]: e["value"] for e in task.container["env"]}
        for title, task in tasks(made["post_training"]).items()
    }
    only = {t: v["OMNISTAGE_CACHED_ONLY"] for t, v in variables.items() if len(v) == 4}
    assert only == {n: n for n in ("download", "download_model", "rewrite_paths", "sft")}


@pytest.mark.parametrize(
    ("images", "said"),
    [
        ({}, "launcher (for download, download_model, rewrite_paths, sft, grpo, eval) is missing"),
        ({"launcher": PINNED["launcher"]}, "trainer (for sft, grpo, eval) is missing"),
        (
            {**PINNED, "trainer": "registry.example/trainer:1.0"},
            "trainer (for sft, grpo, eval) is not pinned by digest",
        ),
        ({**PINNED, "trainer": PINNED["trainer"][:-1]}, "trainer (for sft, grpo, eval) is not"),
        ({**PINNED, "evaluator": PINNED["trainer"]}, "'evaluator': no such image; there are lau"),
    ],
)
def test_images_that_are_missing_or_not_pinned_are_named(images: dict[str, str], said: str) -> None:
    with pytest.raises(InputError) as e:
        check_images(images, graph_of(validate(read_recipe(RECIPE), Recipe)))
    assert said in str(e.value)


def test_compile_writes_no_package_without_pinned_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "build"
    assert main(["compile", str(RECIPE), "--out", str(out), "--store", S3]) == 2
    error = capsys.readouterr().err
    assert "launcher (for download, download_model, rewrite_paths, sft, grpo, eval) is" in error
    assert "--image NAME=REPOSITORY@sha256:" in error
    assert not out.exists()


def test_compile_prints_the_packages_it_wrote(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = [f"--image={name}={reference}" for name, reference in PINNED.items()]
    arguments = ["--out", str(tmp_path / "build"), "--store", S3, *images]
    assert main(["compile", str(RECIPE), *arguments, "--hub-secret", "tokens"]) == 0
    printed = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert [path.stem for path in printed] == PACKAGES
    assert all(path.is_file() for path in printed)
    assert re.search(r"secretName: tokens$", printed[0].read_text(), re.M)


def test_an_artifact_of_another_kind_is_refused_when_the_pipeline_is_compiled() -> None:
    graph = graph_of(validate(read_recipe(RECIPE), Recipe))
    download, sft = (step_component(graph[name], graph) for name in ("download", "sft"))
    given = {"config": "{}", "store": S3}
    with pytest.raises(InconsistentTypeException, match=r"DatasetTarball.*RewrittenJSONL"):

        @dsl.pipeline(name="wrong")
        def wrong() -> None:
            data = download(step="download", **given).outputs["result"]
            sft(step="sft", data=data, records=data, start=data, **given)


def test_a_step_has_the_inputs_of_its_recipe_and_no_others(tmp_path: Path) -> None:
    """Two adapters in a row, and an evaluation of one of them on two data sets."""
    more = (
        "data.more={sources: [{type: tiny}]}",
        "sft.records=tiny",
        "grpo.records=more",
        "steps.again={stage: grpo, from: grpo, records: {tiny: 1, more: 1}}",
        "eval.tests=[tiny, more]",
        "eval.models=[grpo]",
    )
    made = compiled(tmp_path, *more, only=["post_training", "again"])
    found = tasks(made["post_training"])
    assert {name: source for name, (source, _) in found["again"].artifacts.items()} == {
        "data": "download-tiny",
        "data_2": "download-more",
        "records": "mix-again",
        "start": "grpo",
    }
    assert set(found["eval"].artifacts) == {"data", "data_2", "records", "model"}
    alone = specification(made["again"])["deploymentSpec"]["executors"].values()
    kinds = [e["importer"]["typeSchema"]["schemaTitle"] for e in alone if "importer" in e]
    assert sorted(kinds) == [
        *["system.DatasetTarball"] * 2,
        *("system.LoRAAdapter", "system.RewrittenJSONL"),
    ]
    parameters = specification(made["post_training"])["root"]["inputDefinitions"]["parameters"]
    assert {"data_tiny", "data_more", "model"} <= set(parameters)
