"""A first recipe for data of one's own: what they are taken for, and that the recipe runs."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from components.download.tiny.data import TinyDataSettings, write_dataset
from omnistage.cli import main as cli
from omnistage.errors import InputError
from omnistage.events import Events
from omnistage.recipe.document import find_recipe, read_recipe, validate
from omnistage.store.folder import FolderStore
from pipelines.first_recipe.draft import Made, first_recipe
from pipelines.graph import graph_of
from pipelines.plan import plan
from pipelines.recipe import Recipe
from tests.components.download.download_kit import REPO, Server, add_repo
from tests.components.rewrite_paths.rewrite_kit import judge_row

EVENTS = Events("init", echo=False)


def picture(number: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (200, 100), (number, 0, 255 - number)).save(out, "PNG")
    return out.getvalue()


def asked(number: int, **changes: Any) -> dict[str, Any]:
    """A multiple-choice row as somebody has it: an absolute path, a column of their own."""
    row = {
        "image": f"/home/me/set/pics/{number:03}.png",
        "question": "Which colour?\nA. red\nB. blue",
        "options": ["red", "blue"],
        "answer": "AB"[number % 2],
        "mood": "good",
    }
    return row | changes


def data(folder: Path, files: dict[str, list[dict[str, Any]]], pictures: int = 20) -> Path:
    (folder / "pics").mkdir(parents=True)
    for number in range(pictures):
        (folder / "pics" / f"{number:03}.png").write_bytes(picture(number))
    for name, rows in files.items():
        (folder / name).write_text("\n".join(map(json.dumps, rows)))
    return folder


def made_of(folder: Path, tmp: Path, model: str | None = "tiny") -> Made:
    return first_recipe(str(folder), model, FolderStore(tmp / "store"), EVENTS)


def test_a_jsonl_and_a_folder_of_images_become_a_recipe_whose_first_steps_are_done(
    tmp_path: Path,
) -> None:
    rows = [asked(number) for number in range(20)] + [asked(99)]
    made = made_of(data(tmp_path / "my_set", {"train.jsonl": rows}), tmp_path)
    (one,) = made.looks
    assert (one.rows, dict(one.formats), one.splits) == (21, {"question": 21}, ("rl",))
    assert made.card["by_task"] == {"choice": {"sft": 0, "rl": 18, "test": 2}}
    assert made.card["rejected"]["missing_file"]["examples"][0]["line"] == 21
    assert made.card["dropped_columns"] == {"mood": 20}

    path = tmp_path / "my.yaml"
    path.write_text(made.text)
    recipe = validate(read_recipe(find_recipe(str(path))), Recipe)
    grpo: Any = recipe.steps["grpo"]
    assert list(recipe.steps) == ["grpo", "eval"]
    assert grpo.reward_weights == {"r1omni_accuracy": 1.0, "r1omni_format": 1.0}
    assert grpo.media.max_pixels == 20 * 1024  # 20,000 pixels, in whole tokens
    # The rows do not say where the answer is to stand, and the rewards read it from tags.
    (entry,) = recipe.data["my-set"].rewrite_paths.rl or []
    assert entry.prompt
    assert "<answer>" in entry.prompt

    graph = graph_of(recipe.resolve())
    planned = plan(graph, list(graph), FolderStore(tmp_path / "store"))
    cached = {step.name: step.cached for step in planned}
    assert (cached["download"], cached["rewrite_paths"]) == (True, True)


def test_pairs_with_verdicts_are_fine_tuned_on_and_rewarded_as_omnicritic_does(
    tmp_path: Path,
) -> None:
    rows = [judge_row(f"pics/{n:03}.png") for n in range(20)]
    made = made_of(data(tmp_path / "pairs", {"all.jsonl": rows}), tmp_path)
    assert made.looks[0].splits == ("sft", "rl")
    steps: Any = made.recipe.steps
    assert list(steps) == ["sft", "grpo", "eval"]
    assert getattr(steps["grpo"], "from") == "sft"
    assert steps["grpo"].reward_weights == {
        "mm_format": 0.4,
        "mm_content": 0.4,
        "mm_rubric_strict": 0.2,
    }


def test_preferences_without_scores_are_rewarded_for_the_winner(tmp_path: Path) -> None:
    row = {"question": "What?", "response_a": "a dog", "response_b": "a cat", "better": "A"}
    rows = [{**row, "image": f"pics/{n:03}.png"} for n in range(20)]
    made = made_of(data(tmp_path / "pairs", {"all.jsonl": rows}), tmp_path)
    steps: Any = made.recipe.steps
    assert list(steps) == ["grpo", "eval"]
    assert steps["grpo"].reward_weights["unified_rl"] == 0.4


def test_free_answers_are_fine_tuned_on(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "<image>Describe it."}]
    turns.append({"role": "assistant", "content": "A plain field of one colour, rather dark."})
    rows = [{"messages": turns, "images": [f"pics/{n:03}.png"]} for n in range(20)]
    made = made_of(data(tmp_path / "words", {"all.jsonl": rows}), tmp_path)
    assert list(made.recipe.steps) == ["sft", "eval"]


def test_prompts_that_ask_for_tags_are_left_as_they_are(tmp_path: Path) -> None:
    question = "Which colour? A. red B. blue Answer in <answer> </answer>."
    rows = [asked(number, question=question) for number in range(20)]
    made = made_of(data(tmp_path / "tags", {"train.jsonl": rows}), tmp_path)
    (entry,) = made.recipe.data["tags"].rewrite_paths.rl or []
    assert entry.prompt is None


def test_names_of_files_say_what_they_are_for(tmp_path: Path) -> None:
    rows = [asked(number) for number in range(20)]
    files = {"train_rl.jsonl": rows[:12], "validation.jsonl": rows[12:16]}
    made = made_of(data(tmp_path / "named", files), tmp_path)
    assert {one.shown: one.splits for one in made.looks} == {
        "train_rl.jsonl": ("rl",),
        "validation.jsonl": ("test",),
    }
    assert made.recipe.data["named"].rewrite_paths.split is None
    assert made.card["records"] == {"sft": 0, "rl": 12, "test": 4}


def test_a_packed_set_with_sounds_and_clips_gets_a_model_that_hears(tmp_path: Path) -> None:
    folder = tmp_path / "packed"
    folder.mkdir()
    write_dataset(folder, TinyDataSettings(sft=12, rl=12, test=6), EVENTS)
    made = made_of(folder, tmp_path, model=None)
    assert {s for one in made.looks for s in one.splits} == {"sft", "rl", "test"}
    assert "audio" in made.card["by_modality"]
    (source,) = made.recipe.model.sources
    assert source.model_dump()["repo"] == "Qwen/Qwen2.5-Omni-3B"
    steps: Any = made.recipe.steps
    assert steps["sft"].media.fps_max_frames >= 4


def test_a_model_that_cannot_hear_is_refused_for_data_with_sound(tmp_path: Path) -> None:
    folder, model = tmp_path / "packed", tmp_path / "model"
    folder.mkdir()
    write_dataset(folder, TinyDataSettings(sft=6, rl=6, test=6), EVENTS)
    model.mkdir()
    (model / "config.json").write_text('{"model_type": "qwen2_5_vl"}')
    with pytest.raises(InputError, match=r"the data have sound, but Qwen2\.5-VL cannot hear"):
        made_of(folder, tmp_path, str(model))


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "no record file is there"),
        ({"a.jsonl": [{"colour": "red"}]}, "a.jsonl: unknown_format: fits no format; keys: colour"),
        ({"a.jsonl": []}, "a.jsonl: it has no row"),
        ({"a.jsonl": [asked(77)]}, "rl: no row is left; .*no file of the data set"),
    ],
)
def test_what_is_not_recognised_is_said(
    files: dict[str, list[dict[str, Any]]], said: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=said):
        made_of(data(tmp_path / "odd", files), tmp_path)


@pytest.mark.parametrize(
    ("name", "said"),
    [("./nowhere", "no such folder; data is a folder, s3://"), ("{file}", "name the folder that")],
)
def test_what_names_no_source_is_refused(name: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("{}")
    with pytest.raises(InputError, match=said):
        first_recipe(name.format(file=tmp_path / "a.jsonl"), None, FolderStore(tmp_path), EVENTS)


def test_the_command_writes_a_recipe_for_a_repository_of_the_hub(
    tmp_path: Path,
    hub: Server,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [asked(number) for number in range(20)]
    files = {"train.jsonl": "\n".join(map(json.dumps, rows)).encode()}
    files |= {f"pics/{n:03}.png": picture(n) for n in range(20)}
    add_repo(hub.served, files)
    assert cli.main(["init", REPO]) == 0
    said = capsys.readouterr().out
    assert "train.jsonl: 20 rows; question (20); rl\n" in said
    assert "written: some-data.yaml" in said
    assert "the model is not known here" in " ".join(said.split())  # this hub has no models
    text = (tmp_path / "some-data.yaml").read_text()
    assert f'repo: "{REPO}"' in text
    assert 'repo: "Qwen/Qwen2.5-VL-3B-Instruct"' in text

    assert cli.main(["init", REPO]) == 2
    assert "some-data.yaml: is there already" in capsys.readouterr().err
