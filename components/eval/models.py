"""Which models are evaluated, and with which reward weights, as the inputs' manifests say."""

from pathlib import Path

from components.eval.config import EvalSettings, ModelName
from components.eval.generate import JudgedModel
from omnistage.errors import InputError
from omnistage.files import read_json
from omnistage.rewards import REQUIRED_VARIABLES, REWARDS, register
from omnistage.stage.contract import Context
from omnistage.store.manifest import Manifest


def models_of(context: Context[EvalSettings]) -> list[JudgedModel]:
    """Return the models to ask: those the settings name and the inputs have.

    Raises:
        InputError: If there is none, or GRPO trained on a fine-tuned model that is no input.
    """
    found = []
    for name in context.config.models:
        if name == "base":
            found.append(_model(context, name, "model", "files"))
        elif name in context.inputs:
            found.append(_sft(context) if name == "sft" else _grpo(context))
    if not found:
        raise InputError(
            f"eval.models names {', '.join(context.config.models)}, but no such model is an input"
        )
    return found


def _sft(context: Context[EvalSettings]) -> JudgedModel:
    folder = context.folder("sft")
    if not (folder / "adapter").is_dir():
        return _model(context, "sft", "sft", "model")
    return _model(context, "sft", "model", "files", adapter=folder / "adapter")


def _grpo(context: Context[EvalSettings]) -> JudgedModel:
    """Return GRPO's adapter on the model that it was trained on, which its own settings name.

    An adapter trained on from an SFT adapter holds both, so its model is the base.
    """
    adapter = context.folder("grpo") / "adapter"
    trained_on = read_json(adapter / "adapter_config.json")["base_model_name_or_path"]
    if not trained_on.endswith("/model"):
        return _model(context, "grpo", "model", "files", adapter)
    if "sft" in context.inputs:
        return _model(context, "grpo", "sft", "model", adapter)
    raise InputError(
        f"eval: the GRPO adapter was trained on the SFT checkpoint {trained_on}, which is not "
        "among the inputs; give it as input 'sft', or leave 'grpo' out of eval.models"
    )


def _model(
    context: Context[EvalSettings],
    name: ModelName,
    source: str,
    folder: str,
    adapter: Path | None = None,
) -> JudgedModel:
    """Return a model: a folder of an input, and the adapter of the input ``name`` on top."""
    inputs = [source, name] if adapter else [source]
    return JudgedModel(
        name=name,
        model=str(context.folder(source) / folder),
        adapter=str(adapter) if adapter else None,
        digests=[context.inputs[i].digest for i in inputs],
    )


def reward_weights(
    config: EvalSettings, grpo: Manifest | None
) -> tuple[dict[str, float], list[str]]:
    """Return the weight of each reward to report, and the rewards of GRPO that are left out.

    The weights are the settings' own where they are set, otherwise those that the GRPO model was
    trained with; without either, no reward is reported. A reward that asks a server is computed
    only where the settings name it. The recipe's own rewards are registered.

    Raises:
        InputError: If the settings name an own reward that the GRPO step did not have.
    """
    code = grpo.produced_by["config"].get("reward_code", {}) if grpo else {}
    register(code)
    if config.reward_weights is not None:
        unknown = [name for name in config.reward_weights if name not in REWARDS]
        if unknown:
            raise InputError(f"eval.reward_weights: {unknown[0]} is not one of the GRPO step's own")
        return config.reward_weights, []
    trained = grpo.produced_by["config"]["reward_weights"] if grpo else {}
    left_out = [name for name in trained if name in REQUIRED_VARIABLES]
    return {n: w for n, w in trained.items() if n not in left_out}, left_out
