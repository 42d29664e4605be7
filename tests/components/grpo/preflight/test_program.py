"""Preflight as a program: its exit code, its result and its messages."""

import json
from pathlib import Path

import pytest

from components.grpo.preflight import PreflightSpec
from components.grpo.preflight.__main__ import main
from tests.components.grpo.preflight.preflight_kit import WEIGHTS


def test_the_program_writes_its_result_and_ends_with_2_when_a_check_fails(
    records, tmp_path, capsys
):
    records[0]["images"] = []
    rows, spec, result = (tmp_path / name for name in ("rl.jsonl", "spec.json", "result.json"))
    rows.write_text("".join(json.dumps(row) + "\n" for row in records))
    spec.write_text(
        PreflightSpec(
            model="not loaded", model_type="qwen2_5_omni", records=str(rows), rewards=WEIGHTS
        ).model_dump_json()
    )

    code = main(["--spec", str(spec), "--result", str(result)])

    assert code == 2
    assert json.loads(result.read_text())["checks"][0]["ok"] is False
    assert "record 'image-0' has 0 images and 1 <image> tags" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "no such file"), ("{", "not a preflight spec"), ('{"model": "m"}', "records")],
)
def test_the_program_ends_with_2_when_its_spec_is_wrong(tmp_path, capsys, content, message):
    spec = tmp_path / "spec.json"
    if content is not None:
        spec.write_text(content)

    assert main(["--spec", str(spec)]) == 2
    assert message in capsys.readouterr().err


def test_the_program_names_the_line_of_a_broken_record(tmp_path, capsys):
    rows, spec = tmp_path / "rl.jsonl", tmp_path / "spec.json"
    rows.write_text('{"id": 1}\n{broken\n')
    spec.write_text(
        PreflightSpec(
            model="m", model_type="qwen2_5_omni", records=str(rows), rewards=WEIGHTS
        ).model_dump_json()
    )

    assert main(["--spec", str(spec)]) == 2
    assert f"{Path(rows).name}:2" in capsys.readouterr().err
