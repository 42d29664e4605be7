"""A reward of the user's own: a function in a file that the recipe names."""

from pathlib import Path

import pytest

from components.grpo.config import GRPOSettings
from omnistage import rewards
from omnistage.errors import InputError
from omnistage.rewards.own import load, with_code, write_plugin
from omnistage.settings import key_config

BRIEF = '''\
"""Brevity."""
LIMIT = 5

def brief(completions, **columns):
    return [None if not text else float(len(text) < LIMIT) for text in completions]

def broken(completions, **columns):
    return [1 / (len(text) - 3) for text in completions]
'''


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "brevity.py"
    path.write_text(BRIEF)
    return path


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REWARDS", "RANGES", "METRIC_NAMES"):
        monkeypatch.setattr(rewards, name, dict(getattr(rewards, name)))


def test_the_text_of_the_file_is_part_of_the_settings_and_so_of_the_stage_key(file: Path):
    weights = {"mm_format": 1.0, f"{file}:brief": 0.5}
    before = GRPOSettings.model_validate({"reward_weights": weights})
    assert before.reward_weights == {"mm_format": 1.0, "brevity.py:brief": 0.5}
    assert before.reward_code == {"brevity.py:brief": BRIEF}

    file.write_text(BRIEF.replace("5", "9"))
    after = GRPOSettings.model_validate({"reward_weights": weights})
    assert key_config(before) != key_config(after)


def test_elsewhere_the_file_is_not_needed(file: Path):
    settings = GRPOSettings.model_validate({"reward_weights": {f"{file}:brief": 1.0}})
    file.unlink()
    again = GRPOSettings.model_validate(settings.model_dump(mode="json"))
    assert again == settings


@pytest.mark.usefixtures("tables")
def test_it_is_called_as_every_reward_is(file: Path):
    settings = GRPOSettings.model_validate({"reward_weights": {f"{file}:brief": 1.0}})
    rewards.register(settings.reward_code)
    rewards.register(settings.reward_code)  # again is no fault
    assert rewards.REWARDS["brevity.py:brief"](["no", "", "too long"]) == [1.0, None, 0.0]
    assert rewards.METRIC_NAMES["brevity.py:brief"] == "brief"


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("nowhere.py:f", "nowhere.py: cannot be read: No such file"),
        ("{file}:long", "no function 'long' at its top; there is brief, broken"),
        ("{folder}/bad.py:f", "bad.py:2: not Python"),
    ],
)
def test_a_file_that_will_not_do_is_refused_with_the_recipe(file: Path, name: str, why: str):
    (file.parent / "bad.py").write_text("x = 1\ndef f(:\n")
    weights = {name.format(file=file, folder=file.parent): 1.0}
    with pytest.raises(ValueError, match=why):
        GRPOSettings.model_validate({"reward_weights": weights})


def test_two_files_of_one_name_are_refused(file: Path, tmp_path: Path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / file.name).write_text(BRIEF)
    weights = {f"{file}:brief": 1.0, f"{tmp_path}/b/{file.name}:brief": 1.0}
    with pytest.raises(ValueError, match=r"another reward is called brevity\.py:brief"):
        with_code({"reward_weights": weights})


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("1/0", r"own\.py:2: ZeroDivisionError"),
        ("[1.0]", "returned 1 values for 2 completions"),
        ("1.0", "must return a list of numbers, not float"),
        ("['high', 1]", "returned 'high' where a number or None is due"),
        ("[float('nan'), 1]", "returned nan; a reward must be finite"),
    ],
)
def test_a_fault_of_the_users_function_is_named(body: str, why: str):
    reward = load("own.py:f", f"def f(completions, **columns):\n    return {body}\n")
    with pytest.raises(InputError, match=why):
        reward(["a", "b"])


def test_a_file_that_fails_on_import_is_named():
    with pytest.raises(InputError, match=r"own\.py: ModuleNotFoundError: No module named 'gone'"):
        load("own.py:f", "import gone\ndef f(c, **k): return c\n")


@pytest.mark.usefixtures("tables")
def test_a_curve_has_one_reward():
    with pytest.raises(InputError, match="the curve 'MMFormat' is taken"):
        rewards.register({"own.py:MMFormat": "def MMFormat(completions, **c): return []"})


@pytest.mark.usefixtures("tables")
def test_a_training_process_registers_it_by_importing_a_file(file: Path, tmp_path: Path):
    code = {"brevity.py:brief": BRIEF}
    (plugin,) = write_plugin(code, tmp_path / "own_rewards.py")
    exec(plugin.read_text(), {})
    assert rewards.REWARDS["brevity.py:brief"](["no"]) == [1.0]
    assert write_plugin({}, tmp_path / "none.py") == []
