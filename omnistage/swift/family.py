"""Model families: everything omnistage has to know about one, in one place.

A family is chosen by the ``model_type`` of the model's own ``config.json``. Only classes that
transformers and ms-swift ship are run: a folder that brings Python code of its own (``auto_map``)
is refused before anything is imported.
"""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from omnistage.errors import InputError
from omnistage.files import read_json
from omnistage.store.manifest import Manifest

CONFIG = "config.json"
_REMOTE = frozenset({"auto_map", "audio_tokenizer"})
"""Settings by which transformers loads code, or another repository."""
_LARGE = frozenset({"tokenizer.json", "vocab.json"})
"""Files that hold no settings and take long to read."""


@dataclass(frozen=True)
class Family:
    """What differs between model families."""

    title: str
    """As its makers write it."""
    model_type: str
    """Of ``config.json``; ms-swift calls the family the same."""
    classes: str
    """What the names of transformers' classes of it begin with."""
    template: str
    """ms-swift's own template."""
    placeholders: Mapping[str, str]
    """Medium to the token that stands for a piece of it in a prompt."""
    sound_start: str | None
    """Token before a sound; None where the family cannot hear."""
    vision_start: str
    """Token before an image or a clip."""
    token_side: int
    """Pixels along the side of the square that becomes one vision token."""
    utils: str
    """Package that reads and resizes images and clips."""
    generator: str | None = None
    """Part of the model that reads and writes text; None where it is the model itself."""
    boxes_in_thousandths: bool = False
    """Whether it says boxes in thousandths of the image; else in pixels of the shown one."""
    experts: tuple[str, ...] = ()
    """Ends of the names of its experts' weights, which are no linear layers."""
    special_files: tuple[str, ...] = ()
    """Files that the loader wants beside the weights."""
    sound_tokens: Callable[[int], int] = lambda frames: 0
    """Mel frames of a sound to the tokens that it fills."""

    @property
    def omnistage_template(self) -> str:
        """ms-swift's template with the rules of :mod:`omnistage.swift.template`."""
        return f"omnistage_{self.template}"

    @property
    def hears(self) -> bool:
        """Whether it takes sound."""
        return self.sound_start is not None


def _sound_tokens_2_5(frames: int) -> int:
    """``_get_feat_extract_output_lengths`` of Qwen2.5-Omni's audio encoder: halved twice."""
    return ((frames - 1) // 2 + 1 - 2) // 2 + 1


def _sound_tokens_3(frames: int) -> int:
    """``_get_feat_extract_output_lengths`` of Qwen3-Omni: 13 tokens for 100 frames."""
    rest = (frames % 100 - 1) // 2 + 1
    return ((rest - 1) // 2 + 1 - 1) // 2 + 1 + frames // 100 * 13


_PADS = {"image": "<|image_pad|>", "video": "<|video_pad|>"}

FAMILIES = {
    family.model_type: family
    for family in (
        Family(
            title="Qwen2.5-Omni",
            model_type="qwen2_5_omni",
            classes="Qwen2_5Omni",
            template="qwen2_5_omni",
            placeholders={"image": "<|IMAGE|>", "audio": "<|AUDIO|>", "video": "<|VIDEO|>"},
            sound_start="<|audio_bos|>",
            vision_start="<|vision_bos|>",
            token_side=28,
            utils="qwen_omni_utils",
            generator="thinker",
            special_files=("spk_dict.pt",),
            sound_tokens=_sound_tokens_2_5,
        ),
        Family(
            title="Qwen3-Omni",
            model_type="qwen3_omni_moe",
            classes="Qwen3OmniMoe",
            template="qwen3_omni",
            placeholders={**_PADS, "audio": "<|audio_pad|>"},
            sound_start="<|audio_start|>",
            vision_start="<|vision_start|>",
            token_side=32,
            boxes_in_thousandths=True,
            utils="qwen_omni_utils",
            generator="thinker",
            experts=("mlp.experts.gate_up_proj", "mlp.experts.down_proj"),
            sound_tokens=_sound_tokens_3,
        ),
        Family(
            title="Qwen2.5-VL",
            model_type="qwen2_5_vl",
            classes="Qwen2_5_VL",
            template="qwen2_5_vl",
            placeholders=_PADS,
            sound_start=None,
            vision_start="<|vision_start|>",
            token_side=28,
            utils="qwen_vl_utils",
        ),
        Family(
            title="Qwen3-VL",
            model_type="qwen3_vl",
            classes="Qwen3VL",
            template="qwen3_vl",
            placeholders=_PADS,
            sound_start=None,
            vision_start="<|vision_start|>",
            token_side=32,
            boxes_in_thousandths=True,
            utils="qwen_vl_utils",
        ),
    )
}
"""By the ``model_type`` of ``config.json``."""

SPECIAL_FILES = frozenset(name for f in FAMILIES.values() for name in f.special_files)
"""Files of any family that are no weights although they look like them."""


def family_named(model_type: object, where: str) -> Family:
    """Return the family of a ``model_type``.

    Args:
        model_type: As in ``config.json``.
        where: File or manifest that says so, for the error.

    Raises:
        InputError: If omnistage does not know it; the message names those that it knows.
    """
    if isinstance(model_type, str) and model_type in FAMILIES:
        return FAMILIES[model_type]
    near = difflib.get_close_matches(str(model_type), FAMILIES, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise InputError(
        f"{where}: model_type {model_type!r} is no model family that can be trained here: "
        f"{', '.join(FAMILIES)}{hint}"
    )


def read_family(folder: Path) -> Family:
    """Return the family of a model folder.

    Raises:
        InputError: If ``config.json`` is missing, names an unknown family, or a configuration
            file asks for code that the folder itself brings.
    """
    refuse_code(folder)
    path = folder / CONFIG
    if not path.is_file():
        raise InputError(f"{folder}: no config.json; this is not a model folder")
    return family_named(read_json(path).get("model_type"), str(path))


def refuse_code(folder: Path) -> None:
    """Refuse a model, checkpoint or adapter that brings code: ms-swift has transformers run it.

    Download takes it out of models; a folder that a manifest names may come from anywhere.

    Raises:
        InputError: Naming the file.
    """
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".py":
            raise InputError(f"{path}: code that comes with a model is not run; take it out")
        if path.suffix != ".json" or path.name in _LARGE or not path.is_file():
            continue
        settings = read_json(path)
        found = sorted(_REMOTE & settings.keys()) if isinstance(settings, dict) else []
        if found:
            raise InputError(
                f"{path}: {found[0]} names code or a repository that comes with the model; it is "
                f"not run. Use a model of transformers' own classes: {', '.join(FAMILIES)}"
            )


def family_of(model: Manifest, folder: Path) -> Family:
    """Return the family of a BaseModel artifact.

    Args:
        model: Its manifest, whose metadata may name the ``model_type``.
        folder: Its model folder; its configuration is read in any case, for ``auto_map``.

    Raises:
        InputError: As :func:`read_family`, or if manifest and folder do not agree.
    """
    family = read_family(folder)
    recorded = model.metadata.get("model_type")
    if recorded not in (None, family.model_type):
        raise InputError(
            f"{folder / CONFIG}: model_type {family.model_type!r}, but the manifest of "
            f"{model.stage} says {recorded!r}"
        )
    return family
