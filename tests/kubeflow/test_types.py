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


@pytest.mark.parametrize("kind", TYPES)
def test_an_optional_input_becomes_an_artifact_of_its_type(kind: type[dsl.Artifact]) -> None:
    annotation = Optional[dsl.Input[kind]]  # noqa: UP045 - as the components have it
    from_backend = {"type": {"schemaTitle": kind.schema_title}, "uri": "s3://b/m", "name": "m"}
    made = create_artifact_instance(from_backend, annotation)  # pyright: ignore[reportArgumentType]
    assert type(made) is kind
