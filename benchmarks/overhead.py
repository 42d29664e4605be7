"""What the pipeline costs on top of the training and evaluation processes inside it.

Runs the tiny recipe in a fresh home, then again. Prints

- the wall time of the first run over the sum of its training and evaluation processes (bar 1.15),
- the wall time of the second run, which computes nothing (bar 10 s),
- the peak of the memory of all processes of the run together (bar 6 GB).

``python benchmarks/overhead.py [--recipe tiny] [--home FOLDER]``
"""

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from omnistage.files import human_bytes, read_jsonl


def resident_bytes(session_leader: int) -> int:
    """Return the proportional set size of a process and all its descendants, in bytes."""
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    total, waiting = 0, [session_leader]
    while waiting:
        pid = waiting.pop()
        waiting += parents.get(pid, [])
        try:
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        total += sum(
            int(line.split()[1]) * 1024 for line in rollup.splitlines() if line.startswith("Pss:")
        )
    return total


def run(recipe: str, home: Path) -> tuple[float, int, str]:
    """Run a recipe; return its seconds, its peak memory in bytes and what it printed."""
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "omnistage", "run", recipe, "--home", str(home)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    peak = 0

    def watch() -> None:
        nonlocal peak
        while process.poll() is None:
            peak = max(peak, resident_bytes(process.pid))
            time.sleep(1)

    watcher = threading.Thread(target=watch)
    watcher.start()
    output, _ = process.communicate()
    watcher.join()
    if process.returncode:
        raise SystemExit(f"the run failed:\n{output}")
    return time.monotonic() - began, peak, output


def process_seconds(output: str) -> float:
    """Return the summed wall time of the training and evaluation processes of a run."""
    folder = Path(output.splitlines()[-1]).parent
    rows = [r for r in read_jsonl(folder / "events.jsonl") if r["event"] == "process"]
    return sum(row["seconds"] for row in rows)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", default="tiny")
    parser.add_argument("--home", type=Path, help="fresh folder; by default a temporary one")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        home = options.home or Path(temporary)
        first, peak, output = run(options.recipe, home)
        inside = process_seconds(output)
        second, _, again = run(options.recipe, home)
    same = Path(output.splitlines()[-1]).name == Path(again.splitlines()[-1]).name
    print(f"first run            {first:8.1f} s")
    print(f"processes inside     {inside:8.1f} s")
    print(f"ratio                {first / inside:8.2f}   (bar 1.15)")
    print(f"second run           {second:8.1f} s (bar 10 s), report shown: {same}")
    print(f"peak memory          {human_bytes(peak):>10} (bar 6 GB)")


if __name__ == "__main__":
    main()
