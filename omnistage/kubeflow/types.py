"""The artifact types of the pipeline in Kubeflow Pipelines."""

from kfp import dsl


class DatasetTarball(dsl.Dataset):
    """Archives as they were published, with an index of their members."""

    schema_title = "system.DatasetTarball"


class BaseModel(dsl.Model):
    """A model folder to start from."""

    schema_title = "system.BaseModel"


class RewrittenJSONL(dsl.Dataset):
    """Canonical records in splits."""

    schema_title = "system.RewrittenJSONL"


class SFTCheckpoint(dsl.Model):
    """A fine-tuned model or adapter."""

    schema_title = "system.SFTCheckpoint"


class LoRAAdapter(dsl.Model):
    """The adapter that GRPO trained."""

    schema_title = "system.LoRAAdapter"


class RLCheckpoint(dsl.Model):
    """A whole model all of whose weights were trained by reinforcement learning."""

    schema_title = "system.RLCheckpoint"


class EvalReport(dsl.Artifact):
    """The judgements and the report."""

    schema_title = "system.EvalReport"
