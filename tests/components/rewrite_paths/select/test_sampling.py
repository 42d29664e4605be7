"""Which files and rows are read: patterns, mixtures, samples by count and share."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from components.rewrite_paths.config import RewriteSettings
from omnistage.errors import InputError
from tests.components.rewrite_paths.rewrite_kit import (
    rewrite,
)
from tests.components.rewrite_paths.row_kit import answers, quiz


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        ("all", list(range(10))),
        ("first:3", [0, 1, 2]),
        ("first:25%", [0, 1]),
        ("end:2", [8, 9]),
        ("end:100%", list(range(10))),
        ("first:99", list(range(10))),
        ("first:0", []),
    ],
)
def test_sampling_takes_rows_by_count_or_share(
    tmp_path: Path, sampling: str, expected: list[int]
) -> None:
    entry = {"files": ["a.jsonl"], "sampling": sampling}

    done = rewrite(tmp_path, {"a.jsonl": quiz(*range(10))}, rl=[entry])

    assert answers(done.rows("rl")) == expected
    assert done.balanced()
    assert done.counts["rows"] == 10


@pytest.mark.parametrize("sampling", ["random:4", "40%"])
def test_random_sampling_is_seeded_and_keeps_the_order(tmp_path: Path, sampling: str) -> None:
    entry = {"files": ["a.jsonl"], "sampling": sampling}
    files = {"a.jsonl": quiz(*range(50))[:10]}

    runs = [
        answers(rewrite(tmp_path / str(n), files, rl=[entry], seed=seed).rows("rl"))
        for n, seed in enumerate([1, 1, 2, 3])
    ]

    assert len(runs[0]) == 4
    assert runs[0] == runs[1] == sorted(runs[0])
    assert len({tuple(run) for run in runs}) > 1


@pytest.mark.parametrize("sampling", ["some", "first", "random:-1", "random:101%", "first:2:3"])
def test_unknown_sampling_is_refused(sampling: str) -> None:
    with pytest.raises(ValidationError):
        RewriteSettings.model_validate({"rl": [{"files": ["a"], "sampling": sampling}]})


def test_mixture_of_omnirl_lists_files_and_their_sampling(tmp_path: Path) -> None:
    mixture = (
        b"datasets:\n  - json_path: /home/x/data/b/one.json\n    sampling_strategy: first:2\n"
        b"  - json_path: C:\\y\\two.jsonl\n    sampling_strategy: end:50%\n"
    )
    files = {
        "mix.yaml": mixture,
        "b/one.json": quiz(0, 1, 2),
        "c/one.json": quiz(7),
        "two.jsonl": quiz(3, 4),
    }

    done = rewrite(tmp_path, files, rl=[{"files": ["mix.yaml"]}])

    assert answers(done.rows("rl")) == [0, 1, 4]


@pytest.mark.parametrize(
    ("mixture", "message"),
    [
        (b"datasets: [", "not valid YAML"),
        (b"files: []", "not a mixture"),
        (b"datasets: [{json_path: a.jsonl, sampling_stratgy: all}]", "sampling_stratgy: unknown"),
        (b"datasets: [{json_path: a.jsonl, json_path: b.jsonl}]", "not valid YAML"),
        (b"datasets: [{json_path: a.jsonl}, {json_path: x/a.jsonl}]", "listed once"),
        (b"datasets: [{x: 1}]", "json_path is needed"),
        (b"datasets: [{json_path: none.json}]", "no file of the data set"),
        (b"datasets: [{json_path: a.jsonl, sampling_strategy: x}]", "sampling_strategy"),
    ],
)
def test_broken_mixture_is_one_clear_error(tmp_path: Path, mixture: bytes, message: str) -> None:
    files = {"mix.yaml": mixture, "a.jsonl": quiz(1)}

    with pytest.raises(InputError, match=message):
        rewrite(tmp_path, files, rl=[{"files": ["mix.yaml"]}])


def test_pattern_that_matches_nothing_says_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no file matches 'x\.jsonl'.*has a\.jsonl"):
        rewrite(tmp_path, {"a.jsonl": quiz(1)}, rl=[{"files": ["x.jsonl"]}])


def test_data_set_without_record_files_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no record files"):
        rewrite(tmp_path, {"notes.txt": b"x"})


def test_file_in_two_entries_of_a_split_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="matched by two entries"):
        rewrite(tmp_path, {"a.jsonl": quiz(1)}, rl=[{"files": ["a.jsonl"]}, {"files": ["*"]}])
