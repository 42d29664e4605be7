"""A shared file system that fails for a moment, at any operation: exit 75, and nothing is lost."""

import builtins
import errno
import io
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from omnistage.errors import InputError, TransientError, machine_errors
from omnistage.files import check_readable, is_there, walk
from omnistage.settings import Settings
from omnistage.stage.contract import Context, Result, Stage
from omnistage.stage.key import stage_key
from omnistage.store.folder import FolderStore
from omnistage.task.program import main

FAULTS = (errno.ESTALE, errno.EIO, errno.ETIMEDOUT)
_CALLS = (
    "open",
    "stat",
    "lstat",
    "rename",
    "replace",
    "mkdir",
    "unlink",
    "rmdir",
    "fsync",
    "scandir",
)
"""Of os, which pathlib and shutil call."""
RUNS: list[str] = []


class Nothing(Settings):
    """Settings of a stage that has none."""


def _make(context: Context[Nothing]) -> Result:
    RUNS.append(context.key)
    for name in ("a", "sub/b"):
        (context.out / name).parent.mkdir(exist_ok=True)
        (context.out / name).write_text(name)
    return Result()


STAGE = Stage("download", "DatasetTarball", 1, Nothing, {}, _make)
KEY = stage_key(STAGE, Nothing(), {})


class Disk:
    """A disk one of whose operations below a folder fails once.

    Args:
        folder: Its mount point.
        nth: Which operation fails, from 0.
        number: The error's number.
        done: Whether the operation is done all the same: the answer of a server may be lost.
    """

    def __init__(self, folder: Path, nth: int, number: int, done: bool) -> None:
        self.folder, self.left, self.number, self.done = str(folder), nth, number, done

    def failing(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def act(*given: Any, **named: Any) -> Any:
            path = given[0]
            elsewhere = named.get("dir_fd") is None and not isinstance(path, int)
            if elsewhere and not str(path).startswith(self.folder):
                return real(*given, **named)
            self.left -= 1
            if self.left == -1:
                if self.done:
                    real(*given, **named)
                raise OSError(self.number, os.strerror(self.number), str(given[0]))
            return real(*given, **named)

        return act

    @contextmanager
    def mounted(self) -> Iterator[None]:
        calls: dict[str, Any] = {name: self.failing(getattr(os, name)) for name in _CALLS}
        with (
            mock.patch.multiple(os, **calls),
            mock.patch.object(io, "open", self.failing(builtins.open)),
        ):
            yield


def run(store: FolderStore) -> int:
    return main(STAGE, ["--spec", json.dumps({"config": {}, "store": store.uri})])


@pytest.mark.parametrize("done", [False, True], ids=["not done", "done"])
def test_a_fault_at_any_operation_of_a_run_is_transient(
    tmp_path: Path, done: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    codes = []
    for nth in count():
        store = FolderStore(tmp_path / str(nth))
        disk = Disk(store.root, nth, FAULTS[nth % 3], done)
        with disk.mounted():
            codes.append(run(store))
        said = capsys.readouterr().err
        assert codes[-1] in (0, 75), said
        assert "Traceback" not in said
        assert said.count("error: ") == (codes[-1] == 75)
        assert run(store) == 0, capsys.readouterr().err
        assert store.find("download", KEY)
        if disk.left >= 0:
            break
    assert codes.count(75) > 20


@pytest.mark.parametrize("done", [False, True], ids=["not done", "done"])
def test_a_fault_while_looking_costs_no_result(tmp_path: Path, done: bool) -> None:
    store = FolderStore(tmp_path / "store")
    assert run(store) == 0
    RUNS.clear()
    codes = []
    for nth in count():
        disk = Disk(store.root, nth, FAULTS[nth % 3], done)
        with disk.mounted():
            codes.append(run(store))
        if disk.left >= 0:
            break
    assert set(codes) == {0, 75}
    assert RUNS == []
    assert store.find("download", KEY)


@pytest.mark.parametrize("number", FAULTS)
def test_the_message_says_what_was_done_and_where(number: int) -> None:
    with (
        pytest.raises(TransientError, match=r"^writing the store \(/mnt/x\): .*it may pass") as e,
        machine_errors("writing the store"),
    ):
        raise OSError(number, os.strerror(number), "/mnt/x")
    assert "\n" not in str(e.value)


def _stale(*_: object, **__: object) -> Any:
    raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))


def test_a_fault_is_not_taken_for_a_missing_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dangling").symlink_to("nowhere")
    assert is_there(tmp_path / "dangling")
    assert not is_there(tmp_path / "dangling" / "x")
    assert not is_there(tmp_path / "missing")
    monkeypatch.setattr(os, "stat", _stale)
    monkeypatch.setattr(os, "lstat", _stale)
    with pytest.raises(OSError, match="[Ss]tale"):
        is_there(tmp_path / "missing")


def test_no_folder_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "link").symlink_to(tmp_path)
    names = {p.relative_to(tmp_path).as_posix() for p in walk(tmp_path)}
    assert names == {"a", "a/b", "a/link"}
    monkeypatch.setattr(os, "scandir", _stale)
    with pytest.raises(OSError, match="[Ss]tale"):
        list(walk(tmp_path))


def test_a_file_that_could_not_be_used_is_read_to_know_whose_fault_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cut.png").write_bytes(b"x")
    check_readable([tmp_path / "cut.png", str(tmp_path / "missing.png")])
    monkeypatch.setattr(io, "open", _stale)
    with pytest.raises(TransientError, match="cut.png"):
        check_readable([tmp_path / "cut.png"])


def test_a_full_disk_is_not_transient() -> None:
    with pytest.raises(InputError), machine_errors("writing"):
        raise OSError(errno.ENOSPC, "No space left on device")
