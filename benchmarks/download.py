"""Fetch, verify and index archives from a loopback hub, beside the tools one would use by hand.

    python -m benchmarks.download [--bytes 2000000000] [--kind tar|tar.gz|zip] [--runs 3]

Peers: ``hf download`` of the same files, which neither verifies nor indexes, and ``sha256sum`` plus
``tar -t`` (``unzip -l`` for zips) over files that are already there. Every figure is the best of
the runs, process start included; ours is the whole of fetch, sha256 of every archive against the
hub's, and the index with sha256 and media header of every member.
"""

import argparse
import io
import os
import random
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.loopback_hub import COMMIT, REPO, hub
from components.download.config import DownloadSettings
from components.download.stage import download
from omnistage.events import Events
from omnistage.stage.contract import Context, TaskRuntime
from omnistage.store.folder import FolderStore

ARCHIVES = 8
CLIP = 2_500_000  # bytes; the mean of OmniCritic's 40,000 clips in 100 GB


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bytes", type=int, default=2_000_000_000)
    parser.add_argument("--kind", choices=["tar", "tar.gz", "zip"], default="tar")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where to work; a temporary folder by default")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        _ours(options.child)
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        home = Path(name)
        served = home / "served"
        served.mkdir()
        for number in range(ARCHIVES):
            _archive(served / f"clips{number}.{options.kind}", options.bytes // ARCHIVES)
        size = sum(p.stat().st_size for p in served.iterdir())
        with hub(served) as url:
            os.environ["HF_ENDPOINT"] = url
            os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
            compare(home, served, size, options)


def compare(home: Path, served: Path, size: int, options: argparse.Namespace) -> None:
    """Measure all three in turn, several times, and print the ratios."""
    fetched = home / "fetched"
    hf = [str(Path(sys.executable).with_name("hf")), "download", REPO, "--repo-type", "dataset"]
    hf += ["--revision", COMMIT, "--local-dir", str(fetched)]
    ours = [sys.executable, "-m", "benchmarks.download", "--child", str(fetched)]
    files = [str(p) for p in sorted(served.iterdir())]
    listing = ["unzip", "-l"] if options.kind == "zip" else ["tar", "-tf"]

    def by_hand() -> None:
        _run(["sha256sum", *files])
        for file in files:
            _run([*listing, file])

    times: dict[str, list[float]] = {"hf": [], "hand": [], "ours": []}
    for _ in range(options.runs):
        for name, act in (
            ("hf", lambda: _run(hf)),
            ("ours", lambda: _run(ours)),
            ("hand", by_hand),
        ):
            shutil.rmtree(fetched, ignore_errors=True)
            os.sync()
            times[name].append(_timed(act))
    best = {name: min(found) for name, found in times.items()}
    print(f"{size / 1e9:.2f} GB in {ARCHIVES} x {options.kind}, best of {options.runs}")
    for label, name in (
        ("hf download", "hf"),
        ("sha256sum + listing", "hand"),
        ("omnistage fetch + verify + index", "ours"),
    ):
        print(f"{label:34}{best[name]:7.2f} s  {size / best[name] / 1e6:6.0f} MB/s")
    rate, share = best["hf"] / best["ours"], best["ours"] / best["hand"]
    print(f"rate / rate of hf download        {rate:7.2f}    bar >= 0.9 {_verdict(rate >= 0.9)}")
    print(f"time / time of sha256sum + list   {share:7.2f}    bar <= 1.5 {_verdict(share <= 1.5)}")


def _ours(folder: Path) -> None:
    """Run the stage's function as it is, without the store around it."""
    settings = DownloadSettings.model_validate(
        {"sources": [{"type": "hub", "repo": REPO, "revision": COMMIT}]}
    )
    (folder / "work").mkdir(parents=True)
    (folder / "out").mkdir()
    events = Events("download", echo=False)
    store = FolderStore(folder / "store")
    context = Context(
        "download", settings, {}, store, folder / "work", folder / "out", "", TaskRuntime(), events
    )
    result = download(context)
    assert result.counts["archives"] == ARCHIVES
    assert result.counts["undecodable"] == 0


def _archive(path: Path, size: int) -> None:
    clip = _clip()
    names = [f"clip{n:05}.mp4" for n in range(max(1, size // CLIP))]
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            for name in names:
                archive.writestr(name, _padded(clip))
        return
    packed = path.suffix == ".gz"
    with tarfile.open(path, "w:gz", compresslevel=1) if packed else tarfile.open(path, "w") as tar:
        for name in names:
            data = _padded(clip)
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def _padded(clip: bytes) -> bytes:
    """Return the clip with a box of noise behind it, which players pass over."""
    noise = os.urandom(CLIP - len(clip) - 8)
    return clip + (len(noise) + 8).to_bytes(4, "big") + b"free" + noise


def _clip() -> bytes:
    import av
    import numpy as np

    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=8)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        shade = random.Random(0).randrange(256)
        for _ in range(32):
            picture = np.full((240, 320, 3), shade, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return out.getvalue()


def _timed(act: Callable[[], None]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _verdict(held: bool) -> str:
    return "held" if held else "MISSED"


if __name__ == "__main__":
    main()
