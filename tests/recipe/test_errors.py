"""Every wrong setting is named with its line, what is allowed and the nearest right name."""

from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, model_validator

from omnistage.errors import InputError
from omnistage.recipe.document import parse_recipe, validate, with_overrides
from omnistage.settings import Settings


class Hub(Settings):
    type: Literal["hub"]
    repo: str
    revision: str = "main"


class Web(Settings):
    type: Literal["https"]
    url: str


class Data(Settings):
    sources: list[Annotated[Hub | Web, Field(discriminator="type")]]
    headers: dict[str, str] = Field(default={})


class Train(Settings):
    learning_rate: float = Field(default=1e-4, gt=0, le=1, description="Peak learning rate.")
    steps: int = Field(default=10, ge=1, description="Optimizer steps.")
    tuner: Literal["full", "lora"] = "full"
    eos_token: str = "<eos>"
    weights: dict[str, float] = Field(default={"a": 0.5, "b": 0.5})
    seed: int = Field(default=0, ge=0)
    warmup: int | None = None

    @model_validator(mode="after")
    def _check(self) -> "Train":
        if self.warmup is not None and self.warmup > self.steps:
            raise ValueError("warmup must not be longer than steps")
        return self


class Recipe(Settings):
    name: str
    seed: int = Field(description="Of everything random.")
    data: Data = Data(sources=[])
    sft: Train = Train()
    grpo: Train = Train()

    @model_validator(mode="before")
    @classmethod
    def _hand_down(cls, values: Any) -> Any:
        return {**values, "sft": {"seed": values.get("seed", 0), **values.get("sft", {})}}


def check(text: str, *overrides: str) -> Recipe:
    document = parse_recipe(text, "my.yaml")
    return validate(with_overrides(document, overrides, Recipe), Recipe)


def refused(text: str, *overrides: str) -> list[str]:
    with pytest.raises(InputError) as e:
        check(text, *overrides)
    return str(e.value).splitlines()


HEAD = "name: x\nseed: 1\n"


def test_a_right_recipe_becomes_settings() -> None:
    recipe = check(HEAD + "sft:\n  learning_rate: 1e-5\n", "grpo.steps=3")
    assert (recipe.sft.learning_rate, recipe.grpo.steps) == (1e-5, 3)


def test_an_unknown_key_is_refused_with_the_nearest_name_and_its_line() -> None:
    assert refused(HEAD + "sft:\n  steps: 2\n  learnin_rate: 1\n") == [
        "my.yaml:5: sft.learnin_rate: no such setting; did you mean 'learning_rate'?"
    ]


def test_an_unknown_section_is_refused_with_the_nearest_name() -> None:
    assert refused(HEAD + "grp0:\n  steps: 2\n") == [
        "my.yaml:3: grp0: no such setting; did you mean 'grpo'?"
    ]


def test_a_key_in_the_wrong_section_is_told_where_it_belongs() -> None:
    assert refused(HEAD + "warmup: 3\n") == [
        "my.yaml:3: warmup: no such setting here; there is sft.warmup, grpo.warmup"
    ]


def test_a_key_like_no_other_is_told_what_there_is() -> None:
    (line,) = refused(HEAD + "data:\n  sources: []\n  zzz: 1\n")
    assert line == "my.yaml:5: data.zzz: no such setting; data has sources, headers"


def test_an_unknown_key_in_a_list_of_several_kinds_is_compared_with_its_own_kind() -> None:
    text = HEAD + "data:\n  sources:\n    - type: hub\n      repo: a\n      revison: b\n"
    assert refused(text) == [
        "my.yaml:7: data.sources.0.revison: no such setting; did you mean 'revision'?"
    ]


def test_an_unknown_kind_in_a_list_is_refused_with_the_nearest() -> None:
    (line,) = refused(HEAD + "data:\n  sources:\n    - type: hup\n      repo: a\n")
    assert line.startswith("my.yaml:5: data.sources.0: 'hup' is not one of 'hub', 'https'")
    assert line.endswith("did you mean 'hub'?")


def test_a_list_entry_without_its_kind_is_told_the_kinds() -> None:
    assert refused(HEAD + "data:\n  sources:\n    - repo: a\n") == [
        "my.yaml:5: data.sources.0: its 'type' is missing; it is one of 'hub', 'https'"
    ]


def test_a_value_where_a_section_belongs_is_refused() -> None:
    assert refused(HEAD + "grpo: 5\n") == [
        "my.yaml:3: grpo: must be a section with settings of its own, not 5"
    ]


def test_a_number_out_of_range_is_told_the_whole_range_and_its_meaning() -> None:
    assert refused(HEAD + "sft:\n  learning_rate: 5\n") == [
        "my.yaml:4: sft.learning_rate: 5 is out of range: allowed is > 0 and ≤ 1"
        " (Peak learning rate)"
    ]


def test_a_value_of_the_wrong_type_is_told_what_is_expected() -> None:
    (line,) = refused(HEAD + "sft:\n  steps: many\n")
    assert line.startswith("my.yaml:4: sft.steps: must be a valid integer")
    assert line.endswith("not 'many'; allowed is ≥ 1 (Optimizer steps)")


def test_a_wrong_choice_is_told_the_choices() -> None:
    assert refused(HEAD + "sft:\n  tuner: lorra\n") == [
        "my.yaml:4: sft.tuner: 'lorra' is not one of 'full' or 'lora'; did you mean 'lora'?"
    ]


def test_a_missing_key_is_said_with_its_section() -> None:
    assert refused("name: x\n") == ["my.yaml: seed: missing (Of everything random)"]
    text = HEAD + "data:\n  sources:\n    - type: https\n"
    assert refused(text) == ["my.yaml:5: data.sources.0.url: missing"]


def test_a_contradiction_between_settings_is_said_in_the_words_of_the_check() -> None:
    assert refused(HEAD + "sft:\n  steps: 2\n  warmup: 5\n") == [
        "my.yaml:3: sft: warmup must not be longer than steps"
    ]


def test_a_value_handed_down_to_a_section_is_told_where_it_was_written() -> None:
    (line,) = refused("name: x\nseed: many\n")
    assert line.startswith("my.yaml:2: seed: must be a valid integer")


def test_set_changes_one_entry_of_a_default_mapping() -> None:
    assert check(HEAD, "grpo.weights.a=1").grpo.weights == {"a": 1, "b": 0.5}
    assert check(HEAD + "grpo:\n  weights: {c: 2}\n", "grpo.weights.a=1").grpo.weights == {
        "c": 2,
        "a": 1,
    }


def test_all_problems_are_said_at_once() -> None:
    lines = refused("name: x\nseed: a\nsft:\n  steps: 0\n  stepz: 1\n")
    assert [line.split(": ")[1] for line in lines] == ["seed", "sft.steps", "sft.stepz"]


def test_what_is_wrong_with_set_is_said_with_the_flag() -> None:
    assert refused(HEAD, "grpo.learnin_rate=1") == [
        "--set grpo.learnin_rate: no such setting; did you mean 'learning_rate'?"
    ]
    assert refused(HEAD, "grpo.learning_rate=-1") == [
        "--set grpo.learning_rate: -1 is out of range: allowed is > 0 and ≤ 1 (Peak learning rate)"
    ]


@pytest.mark.parametrize("key", ["token", "hf_token", "Password", "api_key", "aws_secret"])
def test_secrets_are_refused_and_not_repeated(key: str) -> None:
    (line,) = refused(HEAD + f"data:\n  sources: []\n  headers:\n    {key}: hunter2\n")
    assert line.startswith(f"my.yaml:6: data.headers.{key}: a recipe holds no secrets")
    assert "hunter2" not in line
    (line,) = refused(HEAD, f"data.{key}=hunter2")
    assert "no secrets" in line
    assert "hunter2" not in line


def test_an_address_with_a_password_is_refused() -> None:
    text = HEAD + "data:\n  sources:\n    - type: https\n      url: https://me:hunter2@host/x\n"
    (line,) = refused(text)
    assert line.startswith("my.yaml:6: data.sources.0.url: a recipe holds no secrets")
    assert "hunter2" not in line


def test_a_declared_setting_may_be_named_like_a_secret() -> None:
    assert check(HEAD + "sft:\n  eos_token: </s>\n").sft.eos_token == "</s>"
