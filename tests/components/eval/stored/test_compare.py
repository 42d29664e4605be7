"""Comparing evaluations: one report across runs and seeds, from what each left."""

import statistics
from pathlib import Path

import pytest

from components.eval.grading import Graded
from components.eval.metrics.spread import spread
from components.eval.records import TestRecord
from components.eval.report.data import ModelResult, ReportData
from components.eval.report.page import build_report
from components.eval.stored.compare import compare_evaluations
from omnistage.cli.main import main
from omnistage.errors import InputError
from omnistage.events import Events
from omnistage.files import read_json, read_jsonl, write_json, write_jsonl
from omnistage.runs.folder import new_run
from tests.components.eval.report_kit import WEIGHTS, answer, judgement, read, record


def judged(records: list[TestRecord], right: int) -> list[Graded]:
    """Judgements of which the first so many are right in both orders."""
    said = [r.gold if n < right else {"A": "B", "B": "A"}[r.gold] for n, r in enumerate(records)]
    return [
        judgement(r, answer(s), answer(s))  # pyright: ignore[reportArgumentType]
        for r, s in zip(records, said, strict=True)
    ]


def pairs(count: int = 10) -> list[TestRecord]:
    return [record(f"r{n}", "AB"[n % 2]) for n in range(count)]  # pyright: ignore[reportArgumentType]


def evaluation(folder: Path, seed: int, right: dict[str, int], count: int = 10) -> Path:
    """What an evaluation leaves: report and judgements."""
    records = pairs(count)
    models = [ModelResult(name, judged(records, n)) for name, n in right.items()]
    for model in models:
        rows = [g.row(r) for g, r in zip(model.graded, records, strict=True)]
        write_jsonl(folder / "judgements" / f"{model.name}.jsonl", rows)
    data = ReportData("tiny", models, records, WEIGHTS, seeds={"sft": seed})
    write_json(folder / "report.json", build_report(data).json)
    return folder


def test_repetitions_that_differ_in_seeds_stand_with_mean_and_spread(tmp_path: Path) -> None:
    accuracies = {1: 6, 2: 8, 3: 7}
    places = {
        f"run{seed}": evaluation(tmp_path / f"run{seed}", seed, {"base": 5, "sft": right})
        for seed, right in accuracies.items()
    }
    report = compare_evaluations(places, tmp_path / "out")
    task = report.json["tasks"]["judge"]
    assert list(task["models"]) == [f"run{s}/{m}" for m in ("base", "sft") for s in (1, 2, 3)]
    of = task["repetitions"]["tiny/sft"]
    assert of["models"] == ["run1/sft", "run2/sft", "run3/sft"]
    assert of["metrics"]["accuracy"] == {
        "mean": pytest.approx(0.7),
        "sd": pytest.approx(0.1),
        "low": 0.6,
        "high": 0.8,
    }
    row = read(report.html).row("seeds-judge", "tiny/sft")
    assert row["Seeds"] == "3"
    assert row["Accuracy"] == "70.0% ± 10.0 60.0% to 80.0%"
    assert "tiny/sft, 3 seeds: 70.0% ± 10.0 (60.0 to 80.0)." in report.markdown
    assert (tmp_path / "out" / "report.html").is_file()


def test_one_evaluation_compared_alone_has_its_own_figures(tmp_path: Path) -> None:
    place = evaluation(tmp_path / "a", 1, {"sft": 6})
    own = read_json(place / "report.json")["tasks"]["judge"]["models"]["sft"]
    found = compare_evaluations({"a": place}, tmp_path / "out").json["tasks"]["judge"]
    assert found["models"]["a/sft"] == own
    assert found["repetitions"] == {}
    assert "longer_answer" not in found["baselines"]  # the prompts are not there


def test_the_same_seed_again_is_no_repetition(tmp_path: Path) -> None:
    places = {n: evaluation(tmp_path / n, 1, {"sft": 6}) for n in ("a", "b")}
    found = compare_evaluations(places, tmp_path / "out").json["tasks"]["judge"]
    assert found["repetitions"] == {}


def test_records_that_not_all_were_asked_are_left_out_and_counted(tmp_path: Path) -> None:
    places = {n: evaluation(tmp_path / n, 1, {"sft": 6}, size) for n, size in (("a", 10), ("b", 8))}
    report = compare_evaluations(places, tmp_path / "out").json
    assert report["headline"]["records"] == 8
    assert report["notes"] == [
        "2 records that not every model was asked are left out; 8 are compared."
    ]


def test_what_cannot_be_compared_is_refused_with_the_cause(tmp_path: Path) -> None:
    place = evaluation(tmp_path / "a", 1, {"sft": 6})
    path = place / "judgements" / "sft.jsonl"
    rows = list(read_jsonl(path))
    other = tmp_path / "other.jsonl"
    write_jsonl(other, [{**row, "gold": "equal"} for row in rows])
    with pytest.raises(
        InputError, match="record 'r0' has the gold answer 'equal' in other and 'A'"
    ):
        compare_evaluations({"a": place, "other": other}, tmp_path)
    write_jsonl(other, [{**row, "id": f"x{row['id']}"} for row in rows])
    with pytest.raises(InputError, match="a and other: they have no record in common"):
        compare_evaluations({"a": place, "other": other}, tmp_path)
    write_jsonl(other, [{"id": "r0"}])
    with pytest.raises(InputError, match=r"other.jsonl:1: not a judgement"):
        compare_evaluations({"other": other}, tmp_path)
    with pytest.raises(InputError, match="no report.json; give a run"):
        compare_evaluations({"t": tmp_path}, tmp_path)


def test_the_command_takes_runs_folders_and_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = evaluation(tmp_path / "store" / "eval", 1, {"sft": 6})
    run = new_run(tmp_path / "home", "tiny", {"recipe": {"name": "tiny"}}, ["eval"])
    events = Events("eval", run / "events.jsonl", echo=False)
    events.emit("finished", key="k", uri=place.as_uri(), seconds=1.0, cached=False)
    file = evaluation(tmp_path / "b", 2, {"sft": 9}) / "judgements" / "sft.jsonl"
    out = tmp_path / "out"
    command = ["compare", run.name, str(file), "--home", str(tmp_path / "home"), "--out", str(out)]
    assert main(command) == 0
    said, path = capsys.readouterr().out.splitlines()
    assert said.startswith("SFT judges 90.0% right")
    assert path == str(out / "report.html")
    assert list(read_json(out / "report.json")["headline"]["models"]) == [f"{run.name}/sft", "sft"]
    assert main([*command[:1], "none", *command[3:]]) == 2


@pytest.mark.parametrize("values", [[0.1, 0.5], [0.3, 0.3, 0.3], [0.2, 0.9, 0.4, 0.5]])
def test_the_spread_is_that_of_the_statistics_module(values: list[float]) -> None:
    found = spread(values)
    assert found["mean"] == pytest.approx(statistics.mean(values))
    assert found["sd"] == pytest.approx(statistics.stdev(values))
    assert (found["low"], found["high"]) == (min(values), max(values))
    with pytest.raises(ValueError, match="at least two"):
        spread(values[:1])
