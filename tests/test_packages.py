"""Compiled packages: as stored in tests/golden, of pinned images, with types that fit."""

# KFP itself gives the outputs in a component's signature.
# pyright: reportCallIssue=false

from pathlib import Path
from typing import Any

import pytest
import yaml
from kfp import dsl
from kfp.dsl.types.type_utils import InconsistentTypeException

from components.download.component import download, download_model
from components.rewrite_paths.component import rewrite_paths
from components.sft.component import sft
from omnistage.cli import main
from omnistage.errors import InputError
from omnistage.recipe import read_recipe, validate
from pipelines.post_training import IMAGES, STAGES, Recipe, check_images, compile_packages

GOLDEN = Path(__file__).with_name("golden") / "packages"
RECIPE = Path(__file__).with_name("recipes") / "golden.yaml"
PINNED = {
    "launcher": "registry.example/launcher@sha256:" + "1" * 64,
    "trainer": "registry.example/trainer@sha256:" + "2" * 64,
}
PACKAGES = ["post_training", *STAGES]


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    recipe = validate(read_recipe(RECIPE), Recipe)
    paths = compile_packages(recipe, tmp_path_factory.mktemp("p"), "s3://bucket/store", PINNED)
    return {path.stem: path for path in paths}


def normalized(package: Path) -> str:
    """The package without what the SDK's version alone decides."""
    [specification] = yaml.safe_load_all(package.read_text())
    del specification["sdkVersion"], specification["schemaVersion"]
    return yaml.safe_dump(specification, width=100, sort_keys=True)


def executors(package: Path) -> dict[str, Any]:
    [specification] = yaml.safe_load_all(package.read_text())
    return specification["deploymentSpec"]["executors"]


def test_there_is_a_package_of_the_pipeline_and_of_each_stage(packages: dict[str, Path]) -> None:
    assert list(packages) == PACKAGES


@pytest.mark.parametrize("name", PACKAGES)
def test_packages_are_as_stored(name: str, packages: dict[str, Path], update_golden: bool) -> None:
    golden = GOLDEN / f"{name}.yaml"
    compiled = normalized(packages[name])
    if update_golden:
        golden.parent.mkdir(parents=True, exist_ok=True)
        golden.write_text(compiled)
    assert compiled == golden.read_text(), (
        "the package changed; if it should: pytest tests/test_packages.py --update-golden"
    )


@pytest.mark.parametrize("name", PACKAGES)
def test_every_task_has_the_pinned_image_of_its_stage(name: str, packages: dict[str, Path]) -> None:
    image_of = {stage: PINNED[image] for image, stages in IMAGES.items() for stage in stages}
    image_of |= {"evaluate": image_of["eval"], "download-model": image_of["download_model"]}
    image_of |= {"rewrite-paths": image_of["rewrite_paths"]}
    containers = {
        executor.removeprefix("exec-"): found["container"]["image"]
        for executor, found in executors(packages[name]).items()
        if "container" in found
    }
    assert containers == {stage: image_of[stage] for stage in containers}
    assert len(containers) == (len(STAGES) if name == "post_training" else 1)


@pytest.mark.parametrize("name", list(STAGES))
def test_a_stage_alone_takes_a_manifest_uri_for_each_input(
    name: str, packages: dict[str, Path]
) -> None:
    [specification] = yaml.safe_load_all(packages[name].read_text())
    parameters = specification["root"]["inputDefinitions"]["parameters"]
    assert set(parameters) == {*STAGES[name].inputs, "store"}
    imported = [e["importer"] for e in executors(packages[name]).values() if "importer" in e]
    kinds = sorted(found["typeSchema"]["schemaTitle"] for found in imported)
    assert kinds == sorted(f"system.{kind}" for kind in STAGES[name].inputs.values())


def test_nothing_that_decides_a_result_is_an_environment_variable(
    packages: dict[str, Path],
) -> None:
    for package in packages.values():
        for executor in executors(package).values():
            assert "env" not in executor.get("container", {})


@pytest.mark.parametrize(
    ("images", "said"),
    [
        ({}, "launcher (for download, download_model, rewrite_paths) is missing; trainer (for"),
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
        check_images(images)
    assert said in str(e.value)


def test_compile_writes_no_package_without_pinned_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "build"
    assert main(["compile", str(RECIPE), "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert "launcher (for download, download_model, rewrite_paths) is missing" in error
    assert "--image NAME=REPOSITORY@sha256:" in error
    assert not out.exists()


def test_compile_prints_the_packages_it_wrote(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = [f"--image={name}={reference}" for name, reference in PINNED.items()]
    assert main(["compile", str(RECIPE), "--out", str(tmp_path / "build"), *images]) == 0
    printed = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert [path.stem for path in printed] == PACKAGES
    assert all(path.is_file() for path in printed)


def test_an_artifact_of_another_kind_is_refused_when_the_pipeline_is_compiled() -> None:
    with pytest.raises(InconsistentTypeException, match=r"DatasetTarball.*RewrittenJSONL"):

        @dsl.pipeline(name="wrong")
        def wrong() -> None:
            data = download(config="{}", store="s3://bucket/store")
            model = download_model(config="{}", store="s3://bucket/store")
            sft(
                config="{}",
                runtime="{}",
                store="s3://bucket/store",
                data=data.outputs["tarball"],
                records=data.outputs["tarball"],
                model=model.outputs["model"],
            )


def test_artifacts_of_the_right_kind_are_taken() -> None:
    @dsl.pipeline(name="right")
    def right() -> None:
        data = download(config="{}", store="s3://bucket/store")
        rewrite_paths(config="{}", store="s3://bucket/store", data=data.outputs["tarball"])

    made: Any = right
    assert set(made.pipeline_spec.components) == {"comp-download", "comp-rewrite-paths"}
