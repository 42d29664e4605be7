"""The report counts the rows of every stage: what was kept, and why the others were not."""

from dataclasses import replace

from components.eval.provenance import row_counts
from components.eval.report.data import StageRun
from components.eval.report.page import build_report
from tests.components.eval.report_kit import four_pairs, read

REWRITTEN = {
    "rows": 20,
    "sft": 9,
    "rl": 4,
    "test": 2,
    "rejected": {"missing_file": 1, "not_json": 2},
    "left_out": {"duplicate": 2},
    "dropped_columns": {},
}
TRAINED = {"read": 9, "records": 8, "rejected": {"too long": 1}, "steps": 3}


def test_rows_are_counted_by_what_became_of_them() -> None:
    stages = [
        StageRun("download", "0", rows=row_counts({"files": 1})),
        StageRun("rewrite_paths", "1", rows=row_counts(REWRITTEN)),
        StageRun("sft", "2", rows=row_counts(TRAINED)),
    ]

    report = build_report(replace(four_pairs(), stages=stages))

    page = read(report.html)
    assert page.row("row-counts", "rewrite_paths") == {
        "Stage": "rewrite_paths",
        "Read": "20",
        "Kept": "15",
        "Rejected": "3",
        "Left out": "2",
        "Why": "1 missing_file, 2 not_json, 2 duplicate",
    }
    assert page.row("row-counts", "sft")["Why"] == "1 too long"
    assert "sft kept 8 of 9 rows: 1 too long." in report.markdown
    assert report.json["provenance"]["stages"][2]["rows"]["rejected"] == {"too long": 1}
    assert "download" not in report.html.partition('id="row-counts"')[2].partition("</table>")[0]


def test_a_report_without_such_stages_has_no_such_table() -> None:
    assert 'id="row-counts"' not in build_report(four_pairs()).html
