"""Runs preflight as a program in the trainer's environment.

Exit code 0 if every check passed, 2 if one failed or the spec is wrong; the result is written in
either case but the second, and each failed check is one line on stderr.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from components.grpo.preflight import PreflightSpec, run
from omnistage.errors import InputError, OmnistageError
from omnistage.files import write_atomic


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the checks that ``--spec`` asks for, write ``--result``, return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m components.grpo.preflight")
    parser.add_argument("--spec", type=Path, required=True, help="JSON file of a PreflightSpec")
    parser.add_argument("--result", type=Path, help="JSON file to write; standard output if absent")
    options = parser.parse_args(arguments)
    try:
        result = run(_read_spec(options.spec))
    except OmnistageError as e:
        print(f"preflight: {e}", file=sys.stderr)
        return e.exit_code
    text = result.model_dump_json(indent=2) + "\n"
    if options.result:
        write_atomic(options.result, text)
    else:
        print(text, end="")
    if not result.ok:
        print(f"preflight failed: {result.message}", file=sys.stderr)
    return 0 if result.ok else InputError.exit_code


def _read_spec(path: Path) -> PreflightSpec:
    try:
        return PreflightSpec.model_validate_json(path.read_bytes())
    except FileNotFoundError as e:
        raise InputError(f"{path}: no such file") from e
    except ValidationError as e:
        raise InputError(f"{path}: not a preflight spec: {e}") from e


if __name__ == "__main__":
    raise SystemExit(main())
