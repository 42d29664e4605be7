"""Extract archives of many files to the media root, beside ``tar -x`` and ``unzip``.

    python -m benchmarks.extract [--files 20000] [--bytes 16384] [--runs 3]

Every figure is the best of the runs. Ours is the call that a training stage makes, the start of its
worker processes included. It also checks the names and sizes against the index, and syncs the
result before it gives it its name, which the peers do not do; so the peers' figures are given
without and with ``sync`` of the file system.
"""

import argparse
import os
import shutil
import subprocess
import tempfile
import time
import zipfile
from pathlib import Path

from components.download.config import DownloadSettings
from components.download.stage import STAGE
from omnistage.materialize import media_root
from omnistage.stage import execute
from omnistage.store import FolderStore, uri_path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--bytes", type=int, default=16_384, help="of each file")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where to work; a temporary folder by default")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        home = Path(name)
        loose = home / "loose"
        for number in range(options.files):
            folder = loose / f"{number // 1000:03}"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{number:06}.bin").write_bytes(os.urandom(options.bytes))
        for kind in ("tar", "tar.gz", "zip"):
            compare(home, loose, kind, options)


def compare(home: Path, loose: Path, kind: str, options: argparse.Namespace) -> None:
    """Pack the files, extract them by both, and print the ratio."""
    packed = home / kind
    packed.mkdir()
    archive = packed / f"files.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as z:
            for path in sorted(loose.rglob("*.bin")):
                z.write(path, path.relative_to(loose).as_posix())
        peer = ["unzip", "-q", str(archive), "-d"]
    else:
        subprocess.run(["tar", "-caf", archive, "-C", loose, "."], check=True)
        peer = ["tar", "-xf", str(archive), "-C"]
    settings = DownloadSettings.model_validate(
        {"sources": [{"type": "folder", "path": str(packed)}]}
    )
    manifest = execute(STAGE, settings, {}, FolderStore(home / "store")).manifest
    out = home / "out"
    times: dict[str, list[float]] = {"peer": [], "synced": [], "ours": []}
    for _ in range(options.runs):
        for name in ("peer", "ours"):
            shutil.rmtree(out, ignore_errors=True)
            out.mkdir()
            os.sync()
            began = time.perf_counter()
            if name == "peer":
                subprocess.run([*peer, str(out)], check=True)
            else:
                media_root(uri_path(manifest.uri), manifest.digest, out)
            times[name].append(time.perf_counter() - began)
            if name == "peer":
                subprocess.run(["sync", "-f", out], check=True)
                times["synced"].append(time.perf_counter() - began)
        found = sum(1 for p in out.rglob("*.bin"))
        assert found == options.files
    peer_time, synced, our_time = (min(times[n]) for n in ("peer", "synced", "ours"))
    ratio, fair = peer_time / our_time, synced / our_time
    held = "held" if ratio >= 1 else "MISSED"
    print(
        f"{options.files} files, {kind:6}: {peer[0]:5} {peer_time:6.2f} s ({synced:.2f} s synced), "
        f"omnistage {our_time:6.2f} s: rate {ratio:.2f} x {peer[0]} ({fair:.2f} x synced), "
        f"bar >= 1.0 {held}",
        flush=True,
    )


if __name__ == "__main__":
    main()
