"""Names: which files are archives, which parts belong together, where members go."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omnistage.archives.names import (
    Archive,
    archive_folders,
    decode_names,
    group_archives,
    place_members,
    safe_member,
    safe_path,
)
from omnistage.errors import InputError

WINDOWS = "C:\\Users\\tmfk1\\video\\video.zip"


@pytest.mark.parametrize(
    ("parts", "whole"),
    [
        (["x.tar.gz.aa", "x.tar.gz.ab", "x.tar.gz.ac"], "x.tar.gz"),
        (["x.tar.gz.part-aa", "x.tar.gz.part-ab"], "x.tar.gz"),
        (["x.zip.001", "x.zip.002"], "x.zip"),
        (["x.tar.part1", "x.tar.part2", "x.tar.part3"], "x.tar"),
        (["x.tar.part_00", "x.tar.part_01"], "x.tar"),
        (["x.z01", "x.z02", "x.zip"], "x.zip"),
        ([f"x.tar.part{n}" for n in range(1, 12)], "x.tar"),
    ],
)
def test_parts_of_a_split_archive_are_put_in_order(parts, whole):
    (archive,) = group_archives(reversed(parts))
    assert archive.parts == tuple(parts)
    assert archive.whole == whole


@pytest.mark.parametrize(
    "name", ["x.zip.sig", "x.tar.gz.md5", "x.zip.json", "notes.txt", "x.parquet", "x.gz"]
)
def test_what_only_looks_like_a_part_is_no_archive(name):
    assert group_archives([name]) == []


@pytest.mark.parametrize(
    ("files", "missing"),
    [
        (["x.zip.001", "x.zip.003"], "part 2"),
        (["x.tar.gz.aa", "x.tar.gz.ac"], "part 1"),
        (["x.z02", "x.zip"], "part 1"),
        (["x.z01"], r"\.zip file is missing"),
    ],
)
def test_a_missing_part_is_named(files, missing):
    with pytest.raises(InputError, match=missing):
        group_archives(files)


def test_members_go_below_the_base_name_of_their_archive():
    archives = group_archives([WINDOWS, "Clotho-AQA dataset.zip", "rlaif-v-dataset.tar.gz"])
    assert archive_folders(archives) == {
        WINDOWS: "video",
        "Clotho-AQA dataset.zip": "Clotho-AQA dataset",
        "rlaif-v-dataset.tar.gz": "rlaif-v-dataset",
    }
    assert place_members("video", ["a.mp4", "video/b.mp4"]) == ["video/a.mp4", "video/b.mp4"]


def test_archives_of_one_name_in_two_folders_do_not_meet():
    archives = [Archive(n, (n,)) for n in ("train/images.tar", "test/images.tar", "x.zip")]
    assert set(archive_folders(archives).values()) == {"train/images", "test/images", "x"}


def test_members_that_would_meet_keep_their_own_folder():
    assert place_members("v", ["a.mp4", "v/a.mp4"]) == ["v/a.mp4", "v/v/a.mp4"]


def test_a_file_may_have_a_drive_letter_in_its_name_and_a_member_may_not():
    assert safe_path(WINDOWS) == WINDOWS
    with pytest.raises(ValueError, match="drive letter"):
        safe_member(WINDOWS)


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=60))
def test_a_safe_name_stays_inside_whatever_it_was(name):
    try:
        safe = safe_member(name)
    except ValueError:
        return
    parts = safe.split("/")
    assert parts
    assert not {"", ".", ".."} & set(parts)
    assert "\\" not in safe
    assert not any(ord(c) < 32 for c in safe)
    assert safe_member(safe) == safe


@settings(max_examples=300, deadline=None)
@given(st.lists(st.binary(max_size=40), max_size=5))
def test_any_bytes_have_a_name(raws):
    assert len(decode_names(raws, None)) == len(raws)
