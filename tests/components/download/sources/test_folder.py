"""Folders as sources: what is in them, and nothing that a link leads to elsewhere."""

import os

import pytest

from components.download.fingerprint import folder_files
from omnistage.errors import InputError


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "data"
    (root / "sub").mkdir(parents=True)
    (root / "sub" / "a.txt").write_text("a")
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key").write_text("k")
    return root


def names(folder) -> list[str]:
    return [name for name, _ in folder_files(str(folder), ["*"])]


def test_links_within_the_folder_are_followed(folder):
    (folder / "b.txt").symlink_to("sub/a.txt")
    (folder / "other").symlink_to("sub")
    assert names(folder) == ["b.txt", "other/a.txt", "sub/a.txt"]


def test_a_folder_that_is_itself_named_by_a_link_is_read(folder, tmp_path):
    (tmp_path / "link").symlink_to(folder)
    assert names(tmp_path / "link") == ["sub/a.txt"]


@pytest.mark.parametrize(
    ("name", "target", "reason"),
    [
        ("key", "../secret/key", "leads out of the folder, to .*/secret/key; .*cp -rL"),
        ("all", "../secret", "leads out of the folder"),
        ("abs", "/etc/hostname", "leads out of the folder"),
        ("sub/up", "..", "leads back to a folder that it is in"),
        ("sub/here", ".", "leads back to a folder that it is in"),
        ("self", "self", "leads back to itself"),
        ("gone", "nowhere", r"leads to nothing \(nowhere\)"),
    ],
)
def test_a_link_out_in_a_loop_or_to_nothing_is_one_clear_error(folder, name, target, reason):
    (folder / name).symlink_to(target)
    with pytest.raises(InputError, match=f"link '{name}' {reason}"):
        names(folder)


def test_two_folders_that_link_to_each_other_are_a_loop(folder):
    (folder / "one").mkdir()
    (folder / "two").mkdir()
    (folder / "one" / "x").symlink_to("../two")
    (folder / "two" / "y").symlink_to("../one")
    with pytest.raises(InputError, match="leads back to a folder that it is in"):
        names(folder)


def test_a_pipe_is_refused_and_not_waited_for(folder):
    os.mkfifo(folder / "pipe")
    with pytest.raises(InputError, match="'pipe' is neither file nor folder"):
        names(folder)
