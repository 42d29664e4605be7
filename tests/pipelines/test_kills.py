"""A stage that is killed at random moments, and that the check of it sees what is broken.

``python -m benchmarks.kills`` does the same to every step, as often as one likes.
"""

import random

import pytest

from benchmarks.kills import RECIPE, Victim, broken, kill_often, prepare

pytestmark = pytest.mark.pipeline


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Victim:
    (found,) = prepare(RECIPE, ["download"], tmp_path_factory.mktemp("kills"))
    return found


def test_a_download_that_is_killed_breaks_nothing(victim: Victim) -> None:
    where, wrong = kill_often(victim, 3, random.Random(1))
    assert where.total() == 3
    assert wrong == []


def test_damage_is_seen(victim: Victim) -> None:
    file = victim.home / "store" / victim.stage / victim.key / "content" / "index.jsonl"
    whole = file.read_bytes()
    file.write_bytes(whole[:-2] + b" \n")
    try:
        with pytest.raises(Exception, match=r"index\.jsonl"):
            raise AssertionError(broken(victim))
    finally:
        file.write_bytes(whole)
    assert broken(victim) == []


def test_a_verified_file_that_was_fetched_again_is_seen(victim: Victim) -> None:
    files = victim.work / "out" / "files"
    files.mkdir(parents=True)
    (victim.work / "work").mkdir()
    (victim.work / "work" / "verified.jsonl").write_text('{"path": "a"}\n')
    home = victim.home / "store" / victim.stage / victim.key
    home.rename(victim.home / "aside")
    try:
        for attempt in ("first", "second"):
            (files / f"{attempt}.part").write_text("bytes")
            (files / f"{attempt}.part").rename(files / "a")
            assert broken(victim) == ([] if attempt == "first" else ["a: fetched again"])
    finally:
        (victim.home / "aside").rename(home)


def test_files_that_a_killed_commit_has_moved_are_not_fetched_again(victim: Victim) -> None:
    (victim.work / "work").mkdir(parents=True, exist_ok=True)
    (victim.work / "work" / "verified.jsonl").write_text('{"path": "a"}\n')
    moved = victim.work.parent / f".{victim.key}.new" / "content"
    moved.mkdir(parents=True)
    home = victim.home / "store" / victim.stage / victim.key
    home.rename(victim.home / "aside")
    victim.kept = {"a": 1}
    try:
        assert broken(victim) == []
    finally:
        moved.rmdir()
        (victim.home / "aside").rename(home)
