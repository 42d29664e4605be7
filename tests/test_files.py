"""Texts out of data on a terminal: counted in words, unable to steer it."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omnistage.events import Events
from omnistage.files import counted, one_line, read_jsonl


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 tries"), (1, "1 try"), (2, "2 tries"), (4041, "4,041 tries")]
)
def test_a_number_of_things_is_counted_in_words(number: int, text: str) -> None:
    assert counted(number, "try", "tries") == text
    assert counted(number, "row") == text.replace("tries", "rows").replace("try", "row")


@settings(deadline=None)
@given(st.text(st.characters(), max_size=200))  # lone surrogates too
def test_a_name_out_of_data_is_one_printable_line_of_few_words(text: str) -> None:
    shown = one_line(text)
    assert shown.isprintable()
    assert shown == text or len(text) > 60 or not text.isprintable()
    shown.encode()


def test_a_long_name_is_cut() -> None:
    assert one_line("x" * 500) == "x" * 60 + "…"


@pytest.mark.parametrize("report", ["message", "warn"])
def test_a_report_does_not_steer_the_terminal(
    report: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    getattr(Events("stage", tmp_path / "events.jsonl"), report)("\x1b[31mred\r\x9b2J\nnext")
    shown = "\\x1b[31mred\\r\\x9b2J\nnext"
    assert shown in capsys.readouterr().err
    (event,) = read_jsonl(tmp_path / "events.jsonl")
    assert event["text"] == shown
