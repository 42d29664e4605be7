"""A recipe: the settings of every stage of the pipeline."""

from typing import Any, Literal

from pydantic import Field, model_validator

from components.download.config import DownloadSettings, ModelSettings
from components.eval.config import EvalSettings
from components.grpo.config import GRPOSettings
from components.rewrite_paths.config import RewriteSettings
from components.sft.config import SFTSettings
from omnistage.cluster.settings import LaunchSettings
from omnistage.kube_names import RunName
from omnistage.settings import Settings
from omnistage.stage.contract import Runtime


class StageRuntimes(Settings):
    """How the stages that start torchrun run on this machine."""

    sft: Runtime = Field(default=Runtime(), description="Of supervised fine-tuning.")
    grpo: Runtime = Field(default=Runtime(), description="Of GRPO.")
    eval: Runtime = Field(default=Runtime(), description="Of the evaluation.")


class Recipe(Settings):
    """A recipe: the settings of every stage of this pipeline."""

    name: RunName = Field(description="Of runs and packages: small letters, digits and hyphens.")
    description: str = Field(default="", description="One line for `omnistage recipes`.")
    pipeline: Literal["post_training"] = Field(description="The pipeline that is run.")
    seed: int = Field(
        default=42, ge=0, description="Of every stage whose section does not give its own."
    )
    data: DownloadSettings = Field(description="Where the data set comes from.")
    model: ModelSettings = Field(description="Where the base model comes from.")
    rewrite_paths: RewriteSettings = Field(description="How records become canonical ones.")
    sft: SFTSettings = Field(default=SFTSettings(), description="Supervised fine-tuning.")
    grpo: GRPOSettings = Field(default=GRPOSettings(), description="GRPO.")
    eval: EvalSettings = Field(default=EvalSettings(), description="Evaluation.")
    runtime: StageRuntimes = Field(
        default=StageRuntimes(), description="How stages run here; decides no result."
    )
    cluster: LaunchSettings = Field(
        default=LaunchSettings(),
        description="How training jobs run on a cluster; decides no result.",
    )

    @model_validator(mode="before")
    @classmethod
    def _inherit_defaults(cls, values: Any) -> Any:
        """Hand down what sections do not set: the seed, and the report's title."""
        if not isinstance(values, dict):
            return values
        values = dict(values)
        seed = values.get("seed", cls.model_fields["seed"].default)
        for name, field in cls.model_fields.items():
            section, settings = values.get(name, {}), field.annotation
            takes = isinstance(settings, type) and "seed" in getattr(settings, "model_fields", ())
            if takes and isinstance(section, dict):
                values[name] = {"seed": seed, **section}
        if isinstance(values["eval"], dict):
            values["eval"] = {"title": values.get("name", ""), **values["eval"]}
        return values

    def resolve(self) -> "Recipe":
        """Return the recipe with what its sources point to here pinned down.

        A folder is named by its path, but what counts for the stage key is what is in it now.

        Raises:
            InputError: If a source is not there.
        """
        return self.model_copy(update={"data": self.data.resolve(), "model": self.model.resolve()})
