"""Digests of images: of the bases, to build on, and of what was built, to compile with.

``python docker/digests.py bases`` asks the registries for the digest behind each tag of
base-images.tags and writes base-images.env. ``python docker/digests.py built FILE`` reads what
``docker buildx bake --metadata-file FILE`` wrote and prints the ``--image`` arguments of
``omnistage compile``.
"""

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_IMAGES = ("launcher", "trainer")


class DigestError(Exception):
    """A digest that cannot be had; the message is for the user."""


def digest_of(reference: str) -> str:
    """Return the digest of an image's index, which names every platform's image.

    Raises:
        DigestError: If the registry does not answer or has no such image.
    """
    command = ["docker", "buildx", "imagetools", "inspect", reference]
    done = subprocess.run(
        [*command, "--format", "{{.Manifest.Digest}}"], capture_output=True, text=True
    )
    digest = done.stdout.strip()
    if done.returncode != 0 or not _DIGEST.fullmatch(digest):
        said = (done.stderr or done.stdout).strip()
        raise DigestError(f"{reference}: {' '.join(command[:4])} gives no digest: {said}")
    return digest


def bases(tags: str) -> str:
    """Return the text of base-images.env for that of base-images.tags."""
    lines = ["# Written by `make pin-bases` from base-images.tags; to be committed."]
    for name, reference in re.findall(r"^(\w+)=(\S+)$", tags, re.M):
        lines.append(f"{name}={reference}@{digest_of(reference)}")
    return "\n".join(lines) + "\n"


def built(metadata: str) -> list[str]:
    """Return the ``--image`` arguments for what bake's metadata says was pushed.

    Raises:
        DigestError: If an image of the pipeline is not in it.
    """
    targets = json.loads(metadata)
    arguments = []
    for name in _IMAGES:
        found = targets.get(name, {})
        if not {"image.name", "containerimage.digest"} <= set(found):
            raise DigestError(f"the metadata has no pushed image {name!r}: build it with --push")
        repository = re.sub(r":[^/:]+$", "", found["image.name"].split(",")[0])
        arguments.append(f"--image {name}={repository}@{found['containerimage.digest']}")
    return arguments


def main(arguments: list[str] | None = None) -> int:
    """Run one of the two commands and return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("bases", help="write base-images.env")
    commands.add_parser("built", help="print compile's arguments").add_argument("file", type=Path)
    options = parser.parse_args(arguments)
    try:
        if options.command == "bases":
            pinned = bases((FOLDER / "base-images.tags").read_text())
            (FOLDER / "base-images.env").write_text(pinned)
        else:
            print(" ".join(built(options.file.read_text())))
    except DigestError as e:
        print(f"digests: {e}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
