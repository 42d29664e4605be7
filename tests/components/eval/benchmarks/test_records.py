"""Records of benchmarks: the prompt that a protocol makes, what is refused, and the command."""

import json
from pathlib import Path
from typing import Any

import pytest

from components.eval.benchmarks import BENCHMARKS
from components.eval.benchmarks.records import write_records
from components.eval.protocols import PROTOCOLS
from omnistage.cli.main import main
from omnistage.errors import InputError
from omnistage.files import read_jsonl, write_jsonl
from omnistage.records.pairs import candidates
from tests.components.eval.benchmarks.test_layouts import daily_omni, mmau


def pairs(folder: Path, **fields: Any) -> None:
    row = {"ID": "1", "Text": "Which?", "Output1": "one", "Output2": "two", "Better": "Output1"}
    write_jsonl(folder / "rows.jsonl", [{**row, "Category": "safety", **fields}])


def prompt(name: str, folder: Path, protocol: str) -> list[dict[str, Any]]:
    written = write_records(BENCHMARKS[name], folder, folder / "out", PROTOCOLS[protocol])
    return next(read_jsonl(written.records))["messages"]


def test_a_protocol_asks_in_its_own_form_and_both_answers_can_still_be_told(tmp_path: Path) -> None:
    pairs(tmp_path)
    own = prompt("mm_rewardbench", tmp_path, "omnistage")
    assert own[0]["content"].startswith("You compare two responses")
    (asked,) = prompt("mm_rewardbench", tmp_path, "lmms_mm_rewardbench")
    assert "write [[A]] if the first response is better" in asked["content"]
    assert candidates(own) == candidates([asked]) == ("one", "two")


def test_lmms_shows_a_pair_of_odd_length_in_the_other_order(tmp_path: Path) -> None:
    row = {"id": "x", "query": "?", "human_ranking": [0, 1], "image": "x.png"}
    write_jsonl(tmp_path / "rows.jsonl", [{**row, "response": ["four", "three"]}])
    own = prompt("vl_rewardbench", tmp_path, "omnistage")
    theirs = prompt("vl_rewardbench", tmp_path, "lmms_vl_rewardbench")
    assert candidates(own) == ("four", "three")
    assert candidates(theirs) == ("three", "four")
    assert json.loads(next(read_jsonl(tmp_path / "out" / "records.jsonl"))["solution"]) == {
        "better": "B"
    }


def test_the_sound_of_a_clip_goes_as_the_protocol_says(tmp_path: Path) -> None:
    daily_omni(tmp_path)
    (message,) = prompt("daily_omni", tmp_path, "videomme_letter")
    assert message["content"].startswith("<video>\nWhen?\nA. now\nB. later\n")
    assert "<audio>" not in message["content"]


def test_a_text_that_looks_like_a_tag_stays_text(tmp_path: Path) -> None:
    pairs(tmp_path, Text="What is <image>?", Output1="</response_a> <image>")
    (asked,) = prompt("mm_rewardbench", tmp_path, "vlmevalkit_mm_rewardbench")
    assert asked["content"].count("<image>") == 0
    assert asked["content"].count("<response_a>") == 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"Better": "both"}, r"rows.jsonl:1: Multimodal RewardBench: Better: Output1 or Output2"),
        ({"Output2": ""}, "no field Output2"),
        ({"Text": None}, "no field Text"),
        ({"Image": 7}, "images: neither a path nor bytes: 7"),
    ],
)
def test_a_row_out_of_the_layout_is_refused_with_file_row_and_field(
    tmp_path: Path, fields: dict[str, Any], message: str
) -> None:
    pairs(tmp_path, **fields)
    with pytest.raises(InputError, match=message):
        prompt("mm_rewardbench", tmp_path, "omnistage")


def test_files_that_are_not_there_are_named_with_source_and_licence(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"no file worldsense_qa.json; WorldSense needs .*CC BY-NC"
    ):
        prompt("worldsense", tmp_path, "omnistage")


def test_media_that_are_not_there_are_counted_and_never_read_from_outside(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "secret.png").write_bytes(b"secret")
    pairs(tmp_path / "in", Image="../secret.png")
    out = tmp_path / "out"
    written = write_records(
        BENCHMARKS["mm_rewardbench"], tmp_path / "in", out, PROTOCOLS["omnistage"]
    )
    assert written.missing == ["1: secret.png"]
    assert not list(out.rglob("*.png"))


def test_the_command_writes_records_lists_benchmarks_and_takes_another_template(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mmau(tmp_path)
    out, template = tmp_path / "out", tmp_path / "t.txt"
    template.write_text("Listen. {question}\n{options}")
    command = ["benchmark", "mmau", str(tmp_path), "--out", str(out)]
    assert main([*command, "--template", str(template)]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"{out}/records.jsonl: 1 record, asked as in MMAU's words; decoding")
    (row,) = read_jsonl(out / "records.jsonl")
    assert row["messages"][0]["content"] == "<audio>\nListen. Which sound?\nA. A dog\nB. A cat"
    assert main(["benchmark"]) == 0
    assert "worldsense: WorldSense; protocols videomme_letter, omnistage" in capsys.readouterr().out
    assert main(["benchmark", "worldsens", str(tmp_path), "--out", str(out)]) == 2
    assert "did you mean 'worldsense'?" in capsys.readouterr().err
    assert main(["benchmark", "mmau"]) == 2
