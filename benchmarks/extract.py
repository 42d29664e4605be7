"""Extract archives of many files to the media root, beside ``tar -x`` and ``unzip``.

    python -m benchmarks.extract [--files 20000] [--bytes 16384] [--runs 5]

Every figure is the best of the runs, which take turns. Ours is the call a training stage makes,
the start of its worker processes included. It also checks the names and sizes against the index.
Like the peers it does not wait until the files are on the disk; before the next run all are.

Each run writes into a folder of its own and nothing is removed before the end, because ext4 does
not use the inodes of files that were just deleted, and searches for others one by one.
"""

import argparse
import os
import subprocess
import tempfile
import time
import zipfile
from pathlib import Path

from components.download.config import DownloadSettings
from components.download.stage import STAGE
from omnistage.archives.media_root import media_root
from omnistage.stage.execute import execute
from omnistage.store.folder import FolderStore
from omnistage.store.uris import uri_path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--bytes", type=int, default=16_384, help="of each file")
    parser.add_argument("--runs", type=int, default=5)
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
    times: dict[str, list[float]] = {"peer": [], "ours": []}
    for number in range(options.runs):
        for name, taken in times.items():
            out = home / f"{kind} {name} {number}"
            out.mkdir()
            os.sync()
            began = time.perf_counter()
            if name == "peer":
                subprocess.run([*peer, str(out)], check=True)
            else:
                media_root(uri_path(manifest.uri), manifest.digest, out)
            taken.append(time.perf_counter() - began)
            found = sum(1 for p in out.rglob("*.bin"))
            assert found == options.files
    peer_time, our_time = min(times["peer"]), min(times["ours"])
    ratio = peer_time / our_time
    held = "held" if ratio >= 1 else "MISSED"
    print(
        f"{options.files} files, {kind:6}: {peer[0]:5} {peer_time:6.2f} s, "
        f"omnistage {our_time:6.2f} s: rate {ratio:.2f} x {peer[0]}, bar >= 1.0 {held}",
        flush=True,
    )


if __name__ == "__main__":
    main()
