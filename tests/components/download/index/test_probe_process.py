"""The process of the decoders: a medium that crashes, hangs or eats memory is the only one lost."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from components.download import collect
from components.download.index.probe_process import AHEAD, ProbeProcess
from omnistage.errors import StageFailedError
from omnistage.files import read_jsonl
from tests.archives.test_reader import tar_bytes, zip_bytes
from tests.components.download.download_kit import (
    TRANSFER,
    Heard,
    content,
    download,
    https,
    png,
    wav,
)

_CRASHING = str(Path(__file__).with_name("crashing_decoders"))
_GOOD = {
    "type": "audio",
    "format": "wav",
    "duration": 0.1,
    "sample_rate": 8000,
    "channels": 1,
}


@pytest.fixture
def crashing(monkeypatch):
    """Have processes that are started from now on use the decoder that crashes at a word."""
    known = os.environ.get("PYTHONPATH")
    monkeypatch.setenv("PYTHONPATH", _CRASHING + (os.pathsep + known if known else ""))


@pytest.fixture
def probes():
    process = ProbeProcess(seconds=60)
    yield process
    process.close()


def probe(probes: ProbeProcess, data: bytes) -> dict:
    probes.new_copy(len(data)).write(data)
    probes.begin_copy("audio")
    return probes.end()


@pytest.mark.parametrize(
    ("word", "error"),
    [
        (b"SEGFAULT", "crashed the decoder: signal 11"),
        (b"ABORT", "crashed the decoder: signal 6"),
        (b"GREEDY", "the decoder wants more than 4 GB of memory"),
    ],
)
@pytest.mark.usefixtures("crashing")
def test_a_crash_is_what_is_said_of_the_medium_and_the_next_one_is_probed(probes, word, error):
    assert probe(probes, wav() + word) == {"error": error}
    assert probe(probes, wav()) == _GOOD
    assert probe(probes, wav() + word) == {"error": error}
    assert probe(probes, wav()) == _GOOD


@pytest.mark.usefixtures("crashing")
def test_a_decoder_that_never_ends_is_ended(probes):
    probes.seconds = 0.5
    assert probe(probes, wav() + b"ENDLESS") == {"error": "the decoder did not end within 0.5 s"}
    probes.seconds = 60
    assert probe(probes, wav()) == _GOOD


@pytest.mark.usefixtures("crashing")
def test_what_is_said_of_a_medium_does_not_depend_on_those_before_it(probes):
    assert probe(probes, wav()) == _GOOD
    assert probe(probes, wav() + b"FRAGILE") == _GOOD  # crashes a process that probed another


@pytest.mark.usefixtures("crashing")
def test_a_crash_is_not_said_of_the_media_that_were_begun_before_or_after(probes):
    crash = {"error": "crashed the decoder: signal 11"}
    for word in (b"", b"SEGFAULT", b"SEGFAULT", b""):
        probes.new_copy(100).write(wav() + word)
        probes.begin_copy("audio")
    assert [probes.end() for _ in range(probes.begun)] == [_GOOD, crash, crash, _GOOD]


@pytest.mark.usefixtures("crashing")
def test_nothing_of_a_longer_medium_is_read_with_the_next_one_in_the_same_memory(probes):
    said = [probe(probes, wav() + word) for word in [b"SEGFAULT"] * AHEAD + [b""] * AHEAD]
    assert said == [{"error": "crashed the decoder: signal 11"}] * AHEAD + [_GOOD] * AHEAD


def test_what_was_begun_can_be_forgotten(probes):
    probes.new_copy(100).write(b"no sound")
    probes.begin_copy("audio")
    probes.clear()
    assert probes.begun == 0
    assert probe(probes, wav()) == _GOOD


def test_a_large_copy_is_probed_from_the_disk(probes):
    data = wav()
    probes.new_copy(1 << 30).write(data)
    probes.begin_copy("audio")
    assert probes.end() == _GOOD
    assert probe(probes, data) == _GOOD


def test_a_medium_is_read_where_it_lies_across_the_parts_of_an_archive(tmp_path, probes):
    data = b"x" * 100 + png(5, 7) + b"y" * 100
    parts = [tmp_path / "a.001", tmp_path / "a.002"]
    parts[0].write_bytes(data[:120])
    parts[1].write_bytes(data[120:])
    found = probes.probe("image", parts, 100, len(data) - 200)
    assert found == {"type": "image", "format": "png", "width": 5, "height": 7}


def test_a_probe_that_does_not_start_is_no_verdict_on_the_medium(probes, tmp_path, monkeypatch):
    (tmp_path / "orjson.py").write_text("raise SystemExit(3)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(StageFailedError, match="could not be started: exit code 3"):
        probe(probes, wav())


@pytest.mark.usefixtures("crashing")
def test_an_endless_decoder_ends_though_its_caller_was_killed(tmp_path):
    sound = tmp_path / "x.wav"
    sound.write_bytes(wav() + b"ENDLESS")
    program = (
        "from pathlib import Path\n"
        "from components.download.index.probe_process import AHEAD, ProbeProcess\n"
        "probes = ProbeProcess(seconds=60)\n"
        f"probes.probe('audio', [Path(__import__('sys').argv[1])], 0, {len(wav())})\n"
        "probes.seconds = 2  # from now on, with the decoder loaded\n"
        "print(probes._process._process.pid, flush=True)\n"
        f"probes.probe('audio', [Path(__import__('sys').argv[1])], 0, {len(wav()) + 7})\n"
    )
    command = [sys.executable, "-c", program, str(sound)]
    caller = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert caller.stdout is not None
    assert caller.stderr is not None
    child = int(caller.stdout.readline())
    assert caller.stderr.readline() == "endless\n"  # the probe's stdout is its caller's stderr
    caller.send_signal(signal.SIGKILL)
    caller.wait()
    caller.stdout.close()
    caller.stderr.close()
    deadline = time.monotonic() + 60
    while _runs(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _runs(child)


def _runs(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status")
    try:
        return "State:\tZ" not in status.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.usefixtures("crashing", "quick_retries")
def test_a_download_lists_what_crashes_and_indexes_the_rest_the_same_at_any_number_of_processes(
    tmp_path, served, monkeypatch
):
    monkeypatch.setattr(collect, "_PROBE_SECONDS", 10.0)
    members = {f"{n}.wav": wav() + (b"SEGFAULT" if n == 3 else b"") for n in range(8)}
    tar = tar_bytes(members)
    packed = subprocess.run(["gzip", "-c"], input=tar, stdout=subprocess.PIPE, check=True).stdout
    served.served.files |= {
        "/a.tar": tar,
        "/b.tar.gz": packed,
        "/c.zip": zip_bytes({**members, "8.wav": wav() + b"ENDLESS"}),
        "/loose.wav": wav() + b"ABORT",
        "/good.wav": wav(),
    }
    source = https(served, "a.tar", "b.tar.gz", "c.zip", "loose.wav", "good.wav")
    indexes = set()
    for processes in (1, 3):
        events = Heard()
        outcome = download(
            tmp_path / str(processes),
            source,
            transfer={**TRANSFER, "processes": processes},
            events=events,
        )
        indexes.add((content(outcome) / "index.jsonl").read_bytes())
        assert outcome.manifest.counts["undecodable"] == 5
        assert any("a/3.wav (crashed the decoder: signal 11)" in w for w in events.warnings)
    assert len(indexes) == 1
    said = {r["path"]: r["media"] for r in read_jsonl(content(outcome) / "index.jsonl")}
    assert {p: m["error"] for p, m in said.items() if "error" in m} == {
        "a/3.wav": "crashed the decoder: signal 11",
        "b/3.wav": "crashed the decoder: signal 11",
        "c/3.wav": "crashed the decoder: signal 11",
        "c/8.wav": "the decoder did not end within 10 s",
        "loose.wav": "crashed the decoder: signal 6",
    }
    assert len(said) == 27
    assert said["c/4.wav"] == _GOOD
