"""The artifact types, as KFP's executor makes them in a task."""

from typing import Optional

import pytest
from kfp import dsl
from kfp.dsl.executor import create_artifact_instance

from omnistage.kubeflow import types

TYPES = (
    types.DatasetTarball,
    types.BaseModel,
    types.RewrittenJSONL,
    types.SFTCheckpoint,
    types.LoRAAdapter,
    types.EvalReport,
)


@pytest.mark.parametrize("title", ["", "Model", "system.Unheard"])
@pytest.mark.parametrize("kind", TYPES)
def test_an_optional_input_becomes_an_artifact(kind: type[dsl.Artifact], title: str) -> None:
    annotation = Optional[dsl.Input[kind]]  # noqa: UP045 - as the components have it
    from_backend = {"type": {"schemaTitle": title}, "uri": "s3://b/m", "metadata": {"key": "k"}}
    made = create_artifact_instance(from_backend, annotation)  # pyright: ignore[reportArgumentType]
    assert isinstance(made, dsl.Artifact)
    assert (made.uri, made.metadata) == ("s3://b/m", {"key": "k"})


@pytest.mark.parametrize("kind", TYPES)
def test_an_input_becomes_an_artifact_of_its_type(kind: type[dsl.Artifact]) -> None:
    from_backend = {"type": {"schemaTitle": kind.schema_title}, "uri": "s3://b/m"}
    assert type(create_artifact_instance(from_backend, kind)) is kind


def test_a_type_of_kfp_is_still_found_by_its_title() -> None:
    from_backend = {"type": {"schemaTitle": "system.Metrics"}, "uri": "s3://b/m"}
    assert type(create_artifact_instance(from_backend)) is dsl.Metrics
