"""The data card that rewrite_paths writes beside the records."""

import io
import json
import zipfile
from pathlib import Path

from PIL import Image

from components.rewrite_paths.config import RewriteSettings
from components.rewrite_paths.stage import STAGE
from omnistage.files import write_json, write_jsonl
from omnistage.stage.execute import execute
from omnistage.store.folder import FolderStore
from tests.components.rewrite_paths.rewrite_kit import judge_row, member, rewrite


def test_card_counts_by_source_task_modality_and_reason(tmp_path: Path) -> None:
    rows = [judge_row("1.png"), judge_row("none.png"), {"problem": "2?", "solution": "2"}, {}]

    done = rewrite(tmp_path, {"a/rl.jsonl": rows, "sft.jsonl": rows[:1]}, ["1.png"])

    card = json.loads((done.folder / "card.json").read_text())
    assert card["rows"] == {"read": 5, "kept": 3, "rejected": 2, "left_out": 0}
    assert card["by_source"] == {
        "a/rl": {"sft": 0, "rl": 2, "test": 0},
        "sft": {"sft": 1, "rl": 0, "test": 0},
    }
    assert card["by_task"]["numeric"] == {"sft": 0, "rl": 1, "test": 0}
    assert card["by_modality"]["image"] == {"sft": 1, "rl": 1, "test": 0}
    assert card["rejected"]["missing_file"]["examples"] == [
        {
            "file": "a/rl.jsonl",
            "line": 2,
            "detail": "no file of the data set is named like 'none.png'",
        }
    ]
    assert card["characters"]["rl"]["total"] == 2


def test_card_calls_a_label_set_that_a_constant_solves(tmp_path: Path) -> None:
    rows = [judge_row("1.png") for _ in range(30)]

    done = rewrite(tmp_path, {"rl.jsonl": rows}, ["1.png"])

    card = json.loads((done.folder / "card.json").read_text())
    [audit] = card["labels"]
    assert audit["constant"] == {"answer": "A", "accuracy": 1.0}
    assert any("always answering 'A' is right in 100.0%" in text for text in card["findings"])


def test_card_counts_the_durations_of_what_is_kept(tmp_path: Path) -> None:
    rows = [judge_row("1.wav", "audios")] * 3 + [judge_row("1.mp4", "videos")] * 2

    done = rewrite(tmp_path, {"rl.jsonl": rows}, ["1.wav", "1.mp4"], deduplicate="row")

    card = json.loads((done.folder / "card.json").read_text())
    assert card["records"]["rl"] == 2
    assert {name: h["total"] for name, h in card["seconds"].items()} == {"audios": 1, "videos": 1}


def test_card_shows_a_medium_in_a_folder_whose_name_begins_with_a_space(tmp_path: Path) -> None:
    members = [" new/1.png", "b/1.png", "c/1.png"]

    done = rewrite(tmp_path, {"rl.jsonl": [judge_row("/x/ new/1.png")]}, members)

    assert '<p class="soft"> new/1.png</p>' in (done.folder / "card.html").read_text()


def test_page_is_self_contained_and_escapes_what_rows_say(tmp_path: Path) -> None:
    row = judge_row("1.png")
    row["messages"][1]["content"] += "<script>alert(1)</script>"

    done = rewrite(tmp_path, {"rl.jsonl": [row]}, ["1.png"])

    page = (done.folder / "card.html").read_text()
    assert "&lt;script&gt;alert(1)" in page
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "")


def test_page_shows_the_media_of_its_examples(tmp_path: Path) -> None:
    picture = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(picture, "PNG")
    folder = tmp_path / "data"
    (folder / "files").mkdir(parents=True)
    with zipfile.ZipFile(folder / "files" / "media.zip", "w") as archive:
        archive.writestr("1.png", picture.getvalue())
        archive.writestr("1.wav", b"RIFF sound")
    rows = [judge_row("1.png"), judge_row("1.wav", "audios"), judge_row("gone.png")]
    write_jsonl(folder / "files" / "rl.jsonl", rows)
    entries = [member("1.png"), member("1.wav"), member("gone.png")]
    write_jsonl(folder / "index.jsonl", entries)
    write_json(folder / "sources.json", [])
    store = FolderStore(tmp_path / "store")
    manifest = store.commit(folder, "DatasetTarball", "download", "0" * 32)

    outcome = execute(STAGE, RewriteSettings(workers=1), {"data": manifest}, store)

    page = (store.local(outcome.manifest) / "card.html").read_text()
    assert page.count('<img src="data:image/png;base64,') == 1
    assert '<audio controls preload="none" src="data:audio/wav;base64,' in page
    assert "not shown here" in page
