"""Makes the first recipe: fetches the data, looks at them, rewrites them, writes what fits.

The steps ``download`` and ``rewrite_paths`` are the recipe's own and are kept in the store, so
that a run of it finds them there.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from components.download.peek import peek
from omnistage.errors import InputError, OmnistageError
from omnistage.events import Events
from omnistage.files import counted, read_json, read_jsonl
from omnistage.recipe.document import parse_recipe, validate
from omnistage.stage.execute import execute
from omnistage.store.layout import Store
from omnistage.store.manifest import Manifest
from omnistage.swift.family import CONFIG, FAMILIES, Family, family_named
from omnistage.swift.media import MediaSettings
from omnistage.swift.size.tokens import estimate
from pipelines.first_recipe.choose import choose_media, choose_rewards
from pipelines.first_recipe.look import FileLook, look
from pipelines.first_recipe.write import Draft, recipe_text
from pipelines.graph import Graph, graph_of
from pipelines.recipe import Recipe

_OMNI, _SEES = "Qwen/Qwen2.5-Omni-3B", "Qwen/Qwen2.5-VL-3B-Instruct"
_FEW = 2000  # rows below which a tenth is held out, not a fiftieth
_LARGEST_CONFIG = 1 << 20
_PROMPT = (
    "{question}\nThink first, then answer, in this form: "
    "<think> your reasoning </think><answer> the answer alone </answer>"
)
"""Around questions that do not say where their answer is to stand."""


@dataclass(frozen=True)
class Made:
    """A recipe, and what the data were taken for."""

    text: str
    recipe: Recipe
    looks: list[FileLook]
    card: Mapping[str, Any]
    """The data card of all rows."""


def first_recipe(data: str, model: str | None, store: Store, events: Events) -> Made:
    """Return a recipe for data that nobody has described.

    Args:
        data: A folder, ``s3://bucket/prefix``, or ``owner/name`` on the hub.
        model: The same for a model, or ``tiny``; by default a Qwen2.5 of 3B that hears if the
            data have sound.
        store: Where the downloaded and the rewritten data go.
        events: Where progress goes.

    Raises:
        InputError: If nothing is there or recognised, or the model cannot hear what the data have.
    """
    name = _name(data)
    source = _source(data, "data")
    plain = _recipe(name, source, {"type": "tiny"}, {})
    (fetched,) = (s for s in graph_of(plain).values() if s.stage.name == "download")
    events.message(f"fetching {data} into the store, as a run of the recipe would")
    tarball = execute(fetched.stage, fetched.config, {}, store, events=events).manifest
    folder = store.local(tarball)
    with TemporaryDirectory() as scratch:
        looks = look(folder / "files", Path(scratch))
    kinds = _kinds(folder / "index.jsonl")
    hears = bool(kinds & {"audio", "sound clip"})
    chosen = _model(model, hears)
    family = _family(chosen)
    if hears and family and "audio" in kinds and not family.hears:
        raise InputError(
            f"the data have sound, but {family.title} cannot hear; choose an Omni model"
        )
    clip_sound = "sound clip" in kinds and "audio" not in kinds
    rewrite = _rewriting(looks, clip_sound and (family is None or family.hears))
    graph = graph_of(_recipe(name, source, chosen, rewrite))
    records = _rewritten(graph, tarball, store, events)
    made = store.local(records)
    text = recipe_text(_draft(name, data, source, chosen, looks, rewrite, made, records))
    document = parse_recipe(text, "the recipe that init writes")
    recipe = validate(document, Recipe)
    return Made(text, recipe, looks, read_json(made / "card.json"))


def _draft(
    name: str,
    data: str,
    source: dict[str, Any],
    model: dict[str, Any],
    looks: list[FileLook],
    rewrite: dict[str, Any],
    made: Path,
    records: Manifest,
) -> Draft:
    media = choose_media(made, bool(rewrite.get("use_audio_in_video")))
    family = _family(model) or FAMILIES["qwen2_5_omni"]
    splits = [s for s in ("sft", "rl") if records.counts[s]]
    longest = max(
        encoded.length
        for split in splits
        for encoded in estimate(
            made / f"{split}.jsonl", split == "rl", MediaSettings(**media), family
        )
    )
    return Draft(
        name=name,
        about=f"Post-training on {data}",
        source=source,
        model=model,
        looks=looks,
        rewrite=rewrite,
        media=media,
        sft="sft" in splits,
        rewards=choose_rewards(made / "rl.jsonl") if "rl" in splits else None,
        longest=longest,
    )


def _rewritten(graph: Graph, tarball: Manifest, store: Store, events: Events) -> Manifest:
    (step,) = (s for s in graph.values() if s.stage.name == "rewrite_paths")
    found = execute(step.stage, step.config, {"data": tarball}, store, events=events).manifest
    if not found.counts["sft"] and not found.counts["rl"]:
        reasons = found.counts["rejected"].items()
        tested = found.counts["test"]
        why = [f"{count} rejected as {reason}" for reason, count in reasons]
        if tested:
            why.append(f"{tested} from files whose path says that they are to test with")
        raise InputError(
            f"of {counted(found.counts['rows'], 'row')} none is left to train on: {', '.join(why)}"
        )
    return found


def _recipe(
    name: str, source: Mapping[str, Any], model: Mapping[str, Any], rewrite: Mapping[str, Any]
) -> Recipe:
    """Return a recipe whose first steps are those of the one that is being made."""
    values = {
        "name": name,
        "pipeline": "post_training",
        "data": {name: {"sources": [dict(source)], "rewrite_paths": dict(rewrite)}},
        "model": {"sources": [dict(model)]},
        "steps": {"eval": {"stage": "eval", "models": ["base"]}},
    }
    recipe = Recipe.model_validate(values)
    data = {key: section.resolve() for key, section in recipe.data.items()}
    return recipe.model_copy(update={"data": data})


def _rewriting(looks: list[FileLook], clip_sound: bool) -> dict[str, Any]:
    """Return the settings of ``rewrite_paths`` for what was recognised."""
    made: dict[str, Any] = {}
    checked = any("rl" in one.splits for one in looks)
    for split in ("sft", "rl", "test"):
        # An empty list, and not nothing: files are not to be looked for by their names.
        made[split] = []
        for add in (False, True):
            files = [
                _literal(one.shown)
                for one in looks
                if split in one.splits and add == (checked and _wants_prompt(one, split))
            ]
            if files:
                made[split].append({"files": files, **({"prompt": _PROMPT} if add else {})})
    if not made["test"]:
        rows = max(one.rows for one in looks if one.splits)
        made["split"] = {"test": 0.1 if rows < _FEW else 0.02}
    if clip_sound:
        made["use_audio_in_video"] = True
    return made


def _wants_prompt(one: FileLook, split: str) -> bool:
    """Whether answers are read from tags that the rows do not ask for."""
    return split != "sft" and not one.judged and not one.tagged


def _literal(path: str) -> str:
    """Return a pattern that matches one path."""
    return re.sub(r"([*?\[])", r"[\1]", path)


def _kinds(index: Path) -> set[str]:
    """Return which kinds of media a data set has; a clip with a sound track counts as its own."""
    found = set()
    for row in read_jsonl(index):
        media = row.get("media") or {}
        if "error" not in media and media.get("type"):
            found.add("sound clip" if media.get("has_audio") else media["type"])
    return found


def _name(data: str) -> str:
    last = data.rstrip("/").rpartition("/")[2].lower()
    name = re.sub(r"[^a-z0-9]+", "-", last).strip("-")[:40].rstrip("-")
    return name if name and name[0].isalpha() else f"data-{name}".rstrip("-")[:40]


def _source(text: str, what: str) -> dict[str, Any]:
    """Return the source that a word on the command line names."""
    if text.startswith("s3://"):
        return {"type": "s3", "uri": text.rstrip("/")}
    folder = Path(text).expanduser()
    if folder.is_dir():
        return {"type": "folder", "path": str(folder.resolve())}
    if folder.is_file():
        raise InputError(f"{text}: name the folder that holds this file and its media")
    if re.fullmatch(r"[\w.-]+/[\w.-]+", text) and not text.startswith("."):
        return {"type": "hub", "repo": text, "revision": "main"}
    raise InputError(
        f"{text}: no such folder; {what} is a folder, s3://bucket/prefix, or owner/name on the hub"
    )


def _model(given: str | None, hears: bool) -> dict[str, Any]:
    if given == "tiny":
        model_type = "qwen2_5_omni" if hears else "qwen2_5_vl"
        return {"type": "tiny", "settings": {"model_type": model_type}}
    if given is None:
        return {"type": "hub", "repo": _OMNI if hears else _SEES, "revision": "main"}
    return _source(given, "a model")


def _family(model: Mapping[str, Any]) -> Family | None:
    """Return the family of a model if its configuration can be had now."""
    if model["type"] == "tiny":
        return FAMILIES[model["settings"]["model_type"]]
    if model["type"] == "hub":
        known = {_OMNI: "qwen2_5_omni", _SEES: "qwen2_5_vl"}
        if model["repo"] in known:
            return FAMILIES[known[model["repo"]]]
    recipe = _recipe("model", {"type": "tiny"}, model, {})
    try:
        import orjson

        config = orjson.loads(peek(recipe.model.sources, CONFIG, "model", _LARGEST_CONFIG))
        return family_named(config.get("model_type"), CONFIG)
    except OmnistageError:
        return None
