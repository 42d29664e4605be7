"""What preflight is asked and what it answers."""

from typing import Literal

from pydantic import BaseModel, Field

from omnistage.settings import Settings


class VLLMEngine(Settings):
    """The engine that GRPO will roll out with."""

    max_model_len: int = Field(description="Most tokens of a prompt and its completion.")
    limit_mm_per_prompt: dict[str, int] = Field(description="Most items of a prompt, by medium.")
    gpu_memory_utilization: float = Field(description="Share of a GPU's memory that it may take.")
    enforce_eager: bool = Field(description="Whether nothing is compiled.")


class PreflightSpec(Settings):
    """The run that is about to start, as far as preflight looks at it."""

    model: str = Field(description="Folder of the model, SFT checkpoint or base.")
    model_type: str = Field(description="Its family, the `model_type` of its config.json.")
    adapter: str | None = Field(
        default=None, description="Folder of a LoRA adapter that GRPO starts from."
    )
    records: str = Field(description="JSON Lines file of the RL records, media as absolute paths.")
    use_audio_in_video: bool = Field(
        default=False, description="Whether the sound track of a video is a part of the prompt."
    )
    rewards: dict[str, float] = Field(description="Weight of each reward, by its registry name.")
    reward_code: dict[str, str] = Field(
        default={}, description="Text of the files of the recipe's own rewards."
    )
    env: dict[str, str] = Field(
        default_factory=dict,
        description="Environment of the trainer, such as MAX_PIXELS and USE_AUDIO_IN_VIDEO.",
    )
    torch_dtype: Literal["float32", "bfloat16", "float16"] = Field(
        default="bfloat16", description="Type of the weights."
    )
    attn_impl: str | None = Field(
        default=None, description="Attention implementation, ms-swift's name."
    )
    seed: int = Field(default=0, ge=0, description="Seed of the sample.")
    vllm: VLLMEngine | None = Field(
        default=None, description="vLLM, where it will roll out; else transformers does."
    )


class Check(BaseModel):
    """One thing that was checked.

    Attributes:
        name: Short name.
        ok: Whether training may start as far as this goes.
        detail: What was seen; if not ok, also the likely cause and what to do.
        warning: Passed, but worth reading.
    """

    name: str
    ok: bool
    detail: str
    warning: bool = False


class PreflightResult(BaseModel):
    """All checks, in the order they were made; a failure may leave later ones out."""

    checks: list[Check]
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether every check passed."""
        return all(check.ok for check in self.checks)

    @property
    def message(self) -> str:
        """The failed checks in one line each; empty when all passed."""
        failed = [f"{check.name}: {check.detail}" for check in self.checks if not check.ok]
        return "\n".join(failed)


def passed(name: str, detail: str, warning: bool = False) -> Check:
    """Return a check that lets training start."""
    return Check(name=name, ok=True, detail=detail, warning=warning)


def failed(name: str, detail: str) -> Check:
    """Return a check that keeps training from starting."""
    return Check(name=name, ok=False, detail=detail)
