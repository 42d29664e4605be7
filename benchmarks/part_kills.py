"""Kill the parts of a run that train nothing, often, and check what may never be.

    python -m benchmarks.part_kills [--kills 500] [--parts commit,upload,fetch,extract,encode]

Each attempt is a forked child that is killed with all its processes (SIGKILL) after a random part
of the time that a whole one takes; the next goes on from what is left. After each kill nothing
half-made may pass for whole, no result that was seen may be another one, and nothing that was
whole (a result that only lacked its name, a fetched file, an encoded row) may be made again.
``upload`` and ``fetch`` are of a store in a bucket, which moto serves. ``benchmarks.kills`` kills
whole stages, trainings too.
"""

import argparse
import hashlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
import traceback
import urllib.request
import uuid
import wave
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from components.download.config import DownloadSettings
from components.download.stage import STAGE as DOWNLOAD
from omnistage.archives.media_root import media_root
from omnistage.errors import DamagedError
from omnistage.files import read_jsonl, sha256_file, write_jsonl
from omnistage.settings import Settings
from omnistage.stage.contract import Context, Result, Stage
from omnistage.stage.execute import execute
from omnistage.stage.key import stage_key
from omnistage.store.digest import check_files, file_problem
from omnistage.store.folder import FolderStore
from omnistage.store.layout import CONTENT, MANIFEST, Store
from omnistage.store.manifest import Manifest
from omnistage.store.s3 import S3Store

FILES, BYTES = 60, 40_000
"""Of an artifact that is committed or fetched."""
MEDIA, ROWS = 400, 48


class Part(Protocol):
    """Something that is killed."""

    def attempt(self) -> None:
        """Do it, in a child; or go on after one that was killed."""
        ...

    def broken(self, done: bool) -> list[str]:
        """Return what is wrong after an attempt, ``done`` or killed."""
        ...

    def reset(self) -> None:
        """Remove what was made."""
        ...


class Nothing(Settings):
    """Settings of a stage that has none."""


class Commit:
    """A stage that writes other bytes at each attempt, so that two never mix unseen."""

    def __init__(self, folder: Path, store: Store) -> None:
        self.store, self.runs = store, folder / "runs"
        self.stage = Stage("sft", "SFTCheckpoint", 1, Nothing, {}, self._make)
        self.key = stage_key(self.stage, Nothing(), {})
        self.reset()

    def _make(self, context: Context[Nothing]) -> Result:
        token = uuid.uuid4().hex
        with self.runs.open("a") as f:
            f.write(f"{token}\n")
        for number in range(FILES):
            (context.out / f"{number:02}").write_bytes((token * BYTES)[:BYTES].encode())
        return Result()

    def attempt(self) -> None:
        """Make and commit the result, or take the one that is there."""
        execute(self.stage, Nothing(), {}, self.store)

    def broken(self, done: bool) -> list[str]:
        """Look at the result, and whether it was made once too often."""
        wrong, runs = [], len(self.runs.read_text().splitlines())
        if self.whole and runs > self.counted:
            wrong.append("made again although it was whole")
        try:
            found = self.store.find("sft", self.key)
        except DamagedError as e:
            return [*wrong, str(e)]
        if found is None and (self.first or done):
            wrong.append("a result that was whole is gone")
        if found and len({entry.sha256 for entry in found.files}) != 1:
            wrong.append("files of two attempts in one result")
        if found and self.first and found != self.first:
            wrong.append("another result in the place of one that was whole")
        self.first, self.counted = found, runs
        self.whole = found is not None or self._adoptable()
        return wrong

    def _adoptable(self) -> bool:
        """Whether a result lacks nothing but its name."""
        if not isinstance(self.store, FolderStore):
            return False
        new = self.store.root / "sft" / f".{self.key}.new"
        try:
            manifest = Manifest.from_json((new / MANIFEST).read_bytes(), str(new))
            check_files(new / CONTENT, manifest, str(new))
        except (OSError, DamagedError):
            return False
        return True

    def reset(self) -> None:
        """Remove the result and its work."""
        self.store.discard("sft", self.key)
        shutil.rmtree(self.store.work_folder("sft", self.key), ignore_errors=True)
        self.runs.write_text("")
        self.first: Manifest | None = None
        self.counted, self.whole = 0, False


class Fetch:
    """An artifact of a bucket that is fetched to this machine."""

    def __init__(self, folder: Path, store: S3Store) -> None:
        self.store, self.kept = store, dict[str, int]()
        out = store.work_folder("download", "0" * 32) / "out"
        out.mkdir(parents=True)
        for number in range(FILES):
            (out / f"{number:02}").write_bytes(os.urandom(BYTES))
        self.made = store.commit(out, "DatasetTarball", "download", "0" * 32)
        self.reset()

    def attempt(self) -> None:
        """Fetch the artifact."""
        self.store.local(self.made)

    def broken(self, done: bool) -> list[str]:
        """Look at the folder, and whether a whole file was fetched again."""
        wrong = []
        folders = list(self._folders())
        finals = [f for f in folders if f.suffix != ".part"]
        for folder in finals:
            try:
                check_files(folder, self.made, str(folder))
            except DamagedError as e:
                wrong.append(str(e))
        if done and not finals:
            wrong.append("it is not there")
        now = {
            entry.path: (folder / entry.path).stat().st_ino
            for folder in folders
            for entry in self.made.files
            if file_problem(folder / entry.path, entry) is None
        }
        wrong += [f"{n}: fetched again" for n, inode in self.kept.items() if now.get(n) != inode]
        self.kept = now
        return wrong

    def _folders(self) -> Iterator[Path]:
        return (p for p in (self.store.scratch / "artifacts").glob("*") if p.is_dir())

    def reset(self) -> None:
        """Remove what was fetched."""
        shutil.rmtree(self.store.scratch / "artifacts", ignore_errors=True)
        self.kept = {}


class Extract:
    """Archives and loose media that are written below the media root."""

    def __init__(self, folder: Path) -> None:
        source = folder / "source"
        (source / "loose").mkdir(parents=True)
        for number in range(MEDIA):
            _sound(source / "loose" / f"{number:03}.wav", number)
        with (
            tarfile.open(source / "a.tar", "w") as one,
            tarfile.open(source / "b.tar.gz", "w:gz") as two,
        ):
            for number in range(MEDIA):
                path = source / "loose" / f"{number:03}.wav"
                for archive, name in ((one, "a"), (two, "b")):
                    archive.add(path, f"{name}/{number:03}.wav")
        config = DownloadSettings.model_validate(
            {"sources": [{"type": "folder", "path": str(source)}]}
        )
        store = FolderStore(folder / "store")
        self.made = execute(DOWNLOAD, config, {}, store).manifest
        self.dataset, self.scratch = store.local(self.made), folder / "scratch"

    def attempt(self) -> None:
        """Make the media root."""
        media_root(self.dataset, self.made.digest, self.scratch)

    def broken(self, done: bool) -> list[str]:
        """Compare a folder that counts as whole with the index."""
        roots = [p for p in (self.scratch / "media").glob("*") if p.is_dir() and not p.suffix]
        wrong = ["it is not there"] if done and not roots else []
        for root in roots:
            for row in read_jsonl(self.dataset / "index.jsonl"):
                path = root / row["path"]
                if not path.is_file() or sha256_file(path) != row["sha256"]:
                    wrong.append(f"{path}: not as indexed in a folder that counts as whole")
        return wrong

    def reset(self) -> None:
        """Remove what was extracted."""
        shutil.rmtree(self.scratch, ignore_errors=True)


class Encode:
    """Rows that the trainer's template encodes; the template is loaded once, before the forks."""

    def __init__(self, folder: Path) -> None:
        from components.download.tiny.model import write_model
        from components.download.tiny.settings import TinyModelSettings
        from omnistage.swift import encode_rows
        from omnistage.swift.family import FAMILIES
        from omnistage.swift.media import MediaSettings, environment

        family = FAMILIES["qwen2_5_omni"]
        os.environ.update(environment(MediaSettings(), 0, family))
        write_model(folder / "model", TinyModelSettings())
        _sound(folder / "a.wav", 1)
        asked = {"role": "user", "content": "<audio>What?"}
        answer = {"role": "assistant", "content": "a tone"}
        rows = [{"messages": [asked, answer], "audios": ["a.wav"]} for _ in range(ROWS)]
        write_jsonl(folder / "rows.jsonl", rows)
        self.out, self.kept = folder / "out.jsonl", b""
        file = encode_rows.RowsFile(
            records=str(folder / "rows.jsonl"), out=str(self.out), prompts=False
        )
        self.spec = encode_rows.EncodeSpec(
            model=str(folder / "model"),
            model_type=family.model_type,
            dtype="float32",
            root=str(folder),
            files=[file],
            processes=2,
        )
        encode_rows._ENCODER = encode_rows.Encoder(self.spec)
        self.encode_files = encode_rows.encode_files
        self.encode_files(self.spec)
        self.wanted = self.out.read_bytes()
        self.reset()

    def attempt(self) -> None:
        """Encode the rows that have no result."""
        self.encode_files(self.spec)

    def broken(self, done: bool) -> list[str]:
        """Compare the rows with those of a pass that nobody killed."""
        text = self.out.read_bytes() if self.out.exists() else b""
        whole = text[: text.rfind(b"\n") + 1]
        wrong = [] if self.wanted.startswith(whole) else ["another result of a row"]
        if not whole.startswith(self.kept):
            wrong.append("encoded again")
        if done and whole != self.wanted:
            wrong.append("rows are missing")
        self.kept = whole
        return wrong

    def reset(self) -> None:
        """Remove the encoded rows."""
        self.out.unlink(missing_ok=True)
        self.kept = b""


def _sound(path: Path, number: int) -> None:
    with wave.open(str(path), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(16_000)
        noise = hashlib.sha256(str(number).encode()).digest()
        sound.writeframes(noise * 250)  # a quarter of a second


def _attempt(part: Part, log: Path) -> int:
    """Fork a child that makes an attempt in a process group of its own; return its id."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        os.setsid()
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        part.attempt()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _wait(child: int, seconds: float) -> int | None:
    """Return a child's exit code, or None if it takes longer."""
    until = time.monotonic() + seconds
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > until:
            return None
        time.sleep(0.001)


def kill_often(
    part: Part, kills: int, chance: random.Random, log: Path
) -> tuple[int, int, list[str]]:
    """Kill a part; return the kills, the attempts that ended before, and what was broken."""
    began = time.monotonic()
    if _wait(_attempt(part, log), 600):
        raise SystemExit(log.read_text())
    duration = time.monotonic() - began
    wrong, killed, ended = part.broken(True), 0, 0
    part.reset()
    while killed < kills:
        child = _attempt(part, log)
        code = _wait(child, chance.uniform(0, 1.1 * duration))
        if code is None:
            with suppress(ProcessLookupError):  # it has not called setsid yet
                os.killpg(child, signal.SIGKILL)
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            killed += 1
            wrong += part.broken(False)
            continue
        ended += 1
        wrong += [f"it failed: {log.read_text()[-500:]}"] if code else part.broken(True)
        part.reset()
    if _wait(_attempt(part, log), 600):
        wrong.append(f"it failed at last: {log.read_text()[-500:]}")
    return killed, ended, [*wrong, *part.broken(True)]


@contextmanager
def bucket(folder: Path) -> Iterator[str]:
    """Serve S3 in a process of its own; yields the URI of a store."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "moto.server", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    variables = {"AWS_ENDPOINT_URL_S3": url, "OMNISTAGE_SCRATCH": str(folder / "s3-scratch")}
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        variables[name] = "test"
    os.environ.update({**variables, "AWS_DEFAULT_REGION": "us-east-1"})
    try:
        while True:
            with suppress(OSError):
                request = urllib.request.Request(f"{url}/artifacts", method="PUT")
                urllib.request.urlopen(request).close()
                break
            time.sleep(0.1)
        yield "s3://artifacts/store"
    finally:
        server.terminate()
        server.wait()


def parts(folder: Path, names: list[str], uri: str) -> Iterator[tuple[str, Part]]:
    """Yield the parts by name, each made when it is its turn."""
    makers: Mapping[str, Any] = {
        "commit": lambda at: Commit(at, FolderStore(at / "store")),
        "upload": lambda at: Commit(at, S3Store(uri)),
        "fetch": lambda at: Fetch(at, S3Store(uri)),
        "extract": Extract,
        "encode": Encode,
    }
    for name in names:
        (folder / name).mkdir()
        yield name, makers[name](folder / name)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--parts", default="commit,upload,fetch,extract,encode")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where to work; a temporary folder by default")
    options = parser.parse_args()
    names, chance, wrong, total = options.parts.split(","), random.Random(options.seed), [], 0
    with tempfile.TemporaryDirectory(dir=options.folder) as name, bucket(Path(name)) as uri:
        for part_name, part in parts(Path(name), names, uri):
            log = Path(name) / f"{part_name}.log"
            killed, ended, problems = kill_often(part, options.kills // len(names), chance, log)
            print(f"{killed:5}  {part_name}, which came to its end {ended} times", flush=True)
            wrong += [f"{part_name}: {problem}" for problem in problems]
            total += killed
    print(f"{total:5}  kills; broken: {len(wrong)}    bar 0")
    for problem in wrong[:20]:
        print(problem)
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
