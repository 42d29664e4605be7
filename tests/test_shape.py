"""The size of functions and folders."""

import ast
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = [
    p for name in ("omnistage", "components", "pipelines") for p in (ROOT / name).rglob("*.py")
]
LINES, FILES = 60, 16


def long_functions(source: str) -> list[str]:
    """Functions of more lines than that, but the hot loops that name their benchmark."""
    functions = [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    return [
        f.name
        for f in functions
        if (f.end_lineno or 0) - f.lineno >= LINES
        and "benchmarks." not in (ast.get_docstring(f) or "")
    ]


def test_no_function_is_long() -> None:
    found = {str(p.relative_to(ROOT)): long_functions(p.read_text()) for p in SOURCES}
    assert {path: names for path, names in found.items() if names} == {}


@pytest.mark.parametrize(("docstring", "found"), [("Loop.", ["f"]), ("Fast: benchmarks.x.", [])])
def test_a_long_function_is_found(docstring: str, found: list[str]) -> None:
    assert long_functions(f'def f():\n    """{docstring}"""\n' + "    pass\n" * LINES) == found


def test_no_folder_is_crowded() -> None:
    counts = Counter(str(p.parent.relative_to(ROOT)) for p in SOURCES)
    assert {folder: n for folder, n in counts.items() if n > FILES} == {}
