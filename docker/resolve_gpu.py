"""Write docker/trainer-gpu.txt: the packages of the GPU image that uv.lock does not have.

``python docker/resolve_gpu.py`` resolves trainer-gpu.in together with the project's extra ``train``
for the GPU image's Python and platform, starting from the versions in uv.lock. What comes out as
in the lock is left out of the file: the lock's layer has it already.
"""

import re
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE, RESULT = "docker/trainer-gpu.in", "docker/trainer-gpu.txt"
TARGET = ["--python-version", "3.12", "--python-platform", "x86_64-manylinux_2_28"]
_HEADER = "# Made by docker/resolve_gpu.py; not to be edited by hand.\n"


def locked() -> dict[str, str]:
    """Return the version of each package that uv.lock gives the image's Python."""
    exported = _uv("export", "--frozen", "--no-dev", "--no-emit-project", "--extra", "train")
    # on Python 3.12 a package that is listed twice is the one with the marker for it
    lines = [e for e in entries(exported) if "python_full_version < '3.12'" not in e]
    return dict(pin(e) for e in lines)


def entries(requirements: str) -> list[str]:
    """Split a requirements file into requirements with their hashes."""
    text = re.sub(r"^ *#.*\n", "", requirements, flags=re.M)
    return re.findall(r"^[a-z0-9].*\n(?:^ .*\n)*", text, re.M)


def pin(entry: str) -> tuple[str, str]:
    """Return the name and the version of a requirement."""
    found = re.match(r"([a-z0-9._-]+)(?:\[[^]]*\])?==([^\s;\\]+)", entry)
    if not found:
        raise ValueError(f"not pinned with ==: {entry.splitlines()[0]}")
    return found[1], found[2]


def resolve(lock: dict[str, str]) -> str:
    """Return trainer-gpu.txt for the versions in the lock."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "all.txt")
        # uv keeps the versions that it finds in the output file where it can
        out.write_text("".join(f"{name}=={version}\n" for name, version in lock.items()))
        arguments = ["--extra", "train", *TARGET, "--generate-hashes", "--no-annotate"]
        _uv("pip", "compile", "pyproject.toml", SOURCE, *arguments, "--output-file", str(out))
        found = entries(out.read_text())
    return _HEADER + "".join(e for e in found if lock.get(pin(e)[0]) != pin(e)[1])


def _uv(*arguments: str) -> str:
    done = subprocess.run(
        ["uv", *arguments, "--quiet"], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
    )
    return done.stdout


if __name__ == "__main__":
    (ROOT / RESULT).write_text(resolve(locked()))
