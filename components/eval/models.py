"""Which models are evaluated, and with which reward weights, as the inputs' manifests say."""

from collections.abc import Mapping

from components.eval.config import EvalSettings
from components.eval.generate import JudgedModel
from omnistage.errors import InputError
from omnistage.rewards import REQUIRED_VARIABLES, REWARDS, register
from omnistage.stage.contract import Context
from omnistage.store.manifest import Manifest
from omnistage.swift.family import Family, family_of
from omnistage.swift.lineage import Lineage, Start, lineage_of, loadable


def named_models(context: Context[EvalSettings]) -> dict[str, Manifest]:
    """Return the inputs ``model`` by the names that the settings give them, in order.

    Raises:
        InputError: If there are not as many names as models.
    """
    names, models = context.config.models, context.several("model")
    if len(names) != len(models) or len(set(names)) != len(names):
        raise InputError(
            f"{context.step}.models names {', '.join(names) or 'none'}, but {len(models)} models "
            "are inputs; each needs a name of its own"
        )
    return dict(zip(names, models, strict=True))


def common_base(context: Context[EvalSettings]) -> Start:
    """Return the base of the models that are evaluated: their family and their processor.

    Raises:
        InputError: If they are of several families: they would not see the same prompts.
    """
    found: dict[str, Start] = {}
    for name, model in named_models(context).items():
        base = lineage_of(model).base
        folder = context.files(base) / "files"
        family = family_of(base, folder)
        found[name] = Start(Lineage(base, base), family, folder, folder, None)
    if len({start.family.model_type for start in found.values()}) > 1:
        told = ", ".join(f"{name} is {start.family.title}" for name, start in found.items())
        raise InputError(f"{context.step}.models are of several families: {told}; one step each")
    return next(iter(found.values()))


def models_of(context: Context[EvalSettings], family: Family) -> list[JudgedModel]:
    """Return the models to ask, each with the folders that it is loaded from."""
    found = []
    for name, made in named_models(context).items():
        model, adapter, digests = loadable(context, made, family, context.config.dtype)
        found.append(
            JudgedModel(
                name=name,
                model=str(model),
                adapter=str(adapter) if adapter else None,
                digests=digests,
            )
        )
    return found


def reward_weights(
    config: EvalSettings, models: Mapping[str, Manifest]
) -> tuple[dict[str, float], list[str]]:
    """Return the weight of each reward to report, and the rewards that are left out.

    The weights are the settings' own where they are set, otherwise those that the last model which
    has any was trained with; without either, no reward is reported. A reward that asks a server is
    computed only where the settings name it. The recipe's own rewards are registered.

    Raises:
        InputError: If the settings name an own reward that no model was trained with.
    """
    trained = [m.produced_by.get("config", {}) for m in models.values()]
    trained = [c for c in trained if "reward_weights" in c]
    for settings in trained:
        register(settings.get("reward_code", {}))
    if config.reward_weights is not None:
        unknown = [name for name in config.reward_weights if name not in REWARDS]
        if unknown:
            raise InputError(f"reward_weights: no model was trained with {unknown[0]}")
        return config.reward_weights, []
    weights = trained[-1]["reward_weights"] if trained else {}
    left_out = [name for name in weights if name in REQUIRED_VARIABLES]
    return {n: w for n, w in weights.items() if n not in left_out}, left_out
