"""Errors as data: what a pod writes into its termination message and its launcher reads."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnistage.errors import ErrorReport, InputError, LostPeerError, TransientError


def test_a_report_says_kind_exit_code_and_message() -> None:
    assert ErrorReport.of(InputError("no such clip")) == ErrorReport(
        "InputError", 2, "no such clip"
    )
    assert ErrorReport.of(LostPeerError("node 1")) == ErrorReport("LostPeerError", 75, "node 1")


def test_an_error_that_was_not_raised_on_purpose_is_shown_with_its_place() -> None:
    with pytest.raises(KeyError) as found:
        {}["rows"]
    report = ErrorReport.of(found.value)
    assert (report.kind, report.exit_code) == ("KeyError", 1)
    assert report.message.startswith("KeyError: 'rows' (")
    assert re.search(r"/test_errors\.py:\d+, in test_an_error_\w+\)$", report.message)


@given(st.text(max_size=3000), st.integers(100, 4096))
def test_a_report_survives_and_fits(message: str, limit: int) -> None:
    report = ErrorReport("StageFailedError", 1, message)
    assert ErrorReport.parse(report.to_json().decode()) == report
    cut = report.to_json(limit)
    assert len(cut) <= limit
    short = ErrorReport.parse(cut.decode())
    assert short is not None
    assert short.kind == report.kind
    assert short.message == message or "…" in short.message


@given(st.text())
def test_any_other_text_is_no_report(text: str) -> None:
    assert ErrorReport.parse(text) is None
    assert ErrorReport.parse('{"message": "x"}') is None


def test_a_transient_error_may_say_how_long_to_wait() -> None:
    assert TransientError("busy").wait is None
    assert TransientError("busy", 30.0).wait == 30.0
