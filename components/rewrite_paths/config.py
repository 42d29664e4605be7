"""Settings of the stage ``rewrite_paths``."""

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from omnistage.records.record import TAGS, Task
from omnistage.settings import Settings, added, operational

Format = Literal[
    "auto",
    "omnicritic",
    "omnicritic_old",
    "omnirl",
    "lmm_r1",
    "r1_omni",
    "humanomni_v2",
    "llava",
    "ms_swift",
    "openai",
    "omnistage",
    "question",
    "trl",
    "preference",
    "pair",
    "vl_rewardbench",
    "mm_rewardbench",
    "best_of_n",
]
Column = Literal[
    "question",
    "options",
    "answer",
    "response",
    "response_a",
    "response_b",
    "better",
    "responses",
    "scores",
    "chosen",
    "rejected",
    "system",
    "image",
    "images",
    "audio",
    "audios",
    "video",
    "videos",
]
QUESTION = "{question}"
"""Stands for the text of a row in ``prompt``."""
_SAMPLING = re.compile(r"all|(?:(?:first|end|random):)?\d+(?:\.\d+)?%|(?:first|end|random):\d+")


class Records(Settings):
    """Record files of a split, and how they are read."""

    files: list[str] = Field(
        min_length=1,
        description="Glob patterns of record files (.jsonl, .json, .parquet, a folder saved by the "
        "datasets library, or an OmniRL mixture in .yaml) below the data set's files, such as "
        "audio/*sft*.jsonl; ** matches any folders. lists.zip/*.json means members of an archive, "
        "where * matches folders too.",
    )
    format: Format = Field(
        default="auto", description="Format of the rows; auto recognises it row by row."
    )
    columns: dict[Column, str] = Field(
        default_factory=dict,
        description="For rows whose columns have other names: what each of these columns is called "
        "in the file, such as {question: prompt, response_a: output_1, response_b: output_2, "
        "better: preferred}.",
    )
    task: Task | None = Field(
        default=None, description="Task of the rows; by default it is told from the row itself."
    )
    source: str | None = Field(
        default=None,
        description="Label of the rows; by default the file's path without its suffix.",
    )
    system: str | None = Field(
        default=None,
        description="System turn of the rows that have none, where a system's own trainer adds it.",
        json_schema_extra=added(),
    )
    prompt: str | None = Field(
        default=None,
        description="What the last user turn becomes, with {question} for the row's own text, such "
        "as '{question} Answer within <answer> </answer>.'; by default the text as it is.",
        json_schema_extra=added(),
    )
    sampling: str = Field(
        default="all",
        description="Which rows of each file to take: all, first:N, end:N, random:N, where N is a "
        "number of rows or a share such as 20%; 20% alone means random:20%. Order is kept.",
    )
    weight: float | None = Field(
        default=None,
        gt=0,
        description="Probability weight when the files of a split are mixed; give it to every "
        "entry of the split or to none. Without, files follow one another.",
    )

    @field_validator("system", "prompt")
    @classmethod
    def _shows_nothing(cls, value: str | None) -> str | None:
        for tag in TAGS.values():
            if value and tag in value:
                raise ValueError(f"{tag} stands for a medium, which only a row has")
        return value

    @field_validator("prompt")
    @classmethod
    def _has_the_question(cls, value: str | None) -> str | None:
        if value is not None and value.count(QUESTION) != 1:
            raise ValueError(f"{QUESTION} is needed once, where the row's own text goes")
        return value

    @field_validator("columns")
    @classmethod
    def _each_column_once(cls, value: dict[Column, str]) -> dict[Column, str]:
        names = list(value.values())
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"{twice!r} is given for two columns")
        return value

    @field_validator("sampling")
    @classmethod
    def _known_sampling(cls, value: str) -> str:
        if not _SAMPLING.fullmatch(value):
            raise ValueError("all, first:N, end:N, random:N or N% is needed")
        if value.endswith("%") and float(value.rpartition(":")[2][:-1]) > 100:
            raise ValueError("a share of at most 100% is needed")
        return value


class MarkerRule(Settings):
    """Keeps a path from a marker onward, as OmniCritic's script does."""

    type: Literal["marker"]
    marker: str = Field(min_length=1, description="Text that the path is kept from, inclusive.")
    to: str = Field(default="", description="Folder put before it, relative to the media root.")


class PrefixRule(Settings):
    """Replaces the beginning of a path."""

    type: Literal["prefix"]
    prefix: str = Field(min_length=1, description="Beginning of the paths that this is for.")
    to: str = Field(default="", description="What replaces it, relative to the media root.")


class BasenameRule(Settings):
    """Keeps only the last component of a path."""

    type: Literal["basename"]
    to: str = Field(default="", description="Folder put before it, relative to the media root.")


class RegexRule(Settings):
    """Rewrites a path with a regular expression."""

    type: Literal["regex"]
    pattern: str = Field(description="Regular expression, searched for in the path.")
    to: str = Field(description=r"Replacement of what it matches; groups as \1 or \g<name>.")

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as e:
            raise ValueError(f"not a regular expression: {e}") from e
        return value


PathRule = Annotated[
    MarkerRule | PrefixRule | BasenameRule | RegexRule, Field(discriminator="type")
]


class GroupSplit(Settings):
    """Takes test records out of the SFT and RL files, whole groups at a time."""

    test: float = Field(
        gt=0, lt=1, description="Share (0 to 1) of the rows that become test records."
    )
    by: Literal["media", "stem", "folder"] = Field(
        default="media",
        description="Rows of one group stay together: those that share a medium's bytes (media), "
        "also a file name without suffix (stem, for a sound cut from a clip), or also the media's "
        "folder (folder). Rows without media are grouped by their prompt.",
    )


class Filters(Settings):
    """Bounds outside which rows are left out; rows without such a medium pass."""

    min_characters: int = Field(
        default=0, ge=0, description="Least characters of all turns together."
    )
    max_characters: int | None = Field(
        default=None, ge=1, description="Most characters of all turns together."
    )
    min_seconds: float = Field(default=0, ge=0, description="Least seconds of each sound and clip.")
    max_seconds: float | None = Field(
        default=None, gt=0, description="Most seconds of each sound or clip."
    )

    @property
    def active(self) -> bool:
        """Whether any bound is set."""
        return self != Filters()


_BY_NAME = "; by default the .jsonl files with {0!r} in their name, if there are any"


class RewriteSettings(Settings):
    """What records to read, how to find their media, and what to keep."""

    sft: list[Records] | None = Field(
        default=None, description="Records to fine-tune on" + _BY_NAME.format("sft") + "."
    )
    rl: list[Records] | None = Field(
        default=None, description="Records for reinforcement learning" + _BY_NAME.format("rl") + "."
    )
    test: list[Records] | None = Field(
        default=None, description="Held-out records" + _BY_NAME.format("test") + "."
    )
    paths: list[PathRule] = Field(
        default_factory=list,
        description="Rules for media paths; the first that applies rewrites the path. Needed only "
        "where the longest common ending does not tell which file a path means.",
    )
    on_missing: Literal["stop", "reject"] = Field(
        default="reject",
        description="What to do about rows whose media are missing, ambiguous or undecodable: "
        "stop with their count and examples, or set them aside into rejected.jsonl.",
    )
    on_bad: Literal["stop", "reject"] = Field(
        default="reject",
        description="The same for rows that cannot be read or contradict themselves.",
    )
    path_in_text: Literal["keep", "drop"] = Field(
        default="drop",
        description="What to do with 'Image file: PATH' in a prompt. A path is noise to the model "
        "and may give the answer away, so it is dropped; keep leaves the line with the path "
        "relative to the media root.",
    )
    use_audio_in_video: bool = Field(
        default=False,
        description="Whether the sound of a clip is part of the clip, here and in training; if "
        "not, it is heard only where it is an audio item of its own.",
    )
    split: GroupSplit | None = Field(
        default=None, description="Take test records out of the SFT and RL files."
    )
    disjoint: bool = Field(
        default=False,
        description="Also reject RL rows that share media with SFT rows, not only with test.",
    )
    mix_until: Literal["first", "all"] = Field(
        default="first",
        description="With weights: stop when the first entry of a split runs out, or go on with "
        "those that are left.",
    )
    deduplicate: Literal["none", "row", "prompt"] = Field(
        default="none",
        description="Keep one of the rows of a split with the same prompt, media bytes and answer "
        "(row), or with the same prompt and media bytes whatever the answer (prompt).",
    )
    balance: bool = Field(
        default=False,
        description="Exchange candidates A and B in as many judge rows as makes A and B the right "
        "answer equally often, in each split.",
    )
    filters: Filters = Field(default=Filters(), description="Bounds on lengths and durations.")
    examples: int = Field(
        default=2,
        ge=0,
        le=20,
        description="Records shown in the data card, for each task and modality.",
    )
    seed: int = Field(
        default=0, ge=0, description="Seed of sampling, splitting, mixing and balancing."
    )
    workers: int | None = Field(
        default=None,
        ge=1,
        description="Processes; by default one a processor. The result does not depend on it.",
        json_schema_extra=operational(),
    )

    @model_validator(mode="after")
    def _weights_for_all(self) -> "RewriteSettings":
        for name in ("sft", "rl", "test"):
            weights = [entry.weight for entry in getattr(self, name) or []]
            if any(weights) and not all(weights):
                raise ValueError(f"{name}: give every entry a weight, or none")
        return self
