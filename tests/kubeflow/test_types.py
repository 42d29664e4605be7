"""The artifact types, as KFP's executor makes them in a task."""

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
    types.RLCheckpoint,
    types.EvalReport,
)


@pytest.mark.parametrize("kind", TYPES)
def test_an_input_becomes_an_artifact_of_its_type(kind: type[dsl.Artifact]) -> None:
    from_backend = {"type": {"schemaTitle": kind.schema_title}, "uri": "s3://b/m"}
    assert type(create_artifact_instance(from_backend, kind)) is kind


def test_a_type_of_kfp_is_still_found_by_its_title() -> None:
    from_backend = {"type": {"schemaTitle": "system.Metrics"}, "uri": "s3://b/m"}
    assert type(create_artifact_instance(from_backend)) is dsl.Metrics
