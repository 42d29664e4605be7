"""Imports go one way: the order of the wings is the table in docs/architecture.md."""

import ast
import re
import shutil
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("omnistage", "components", "pipelines")
_MODULE = re.compile(r"(?:omnistage|components|pipelines)(?:\.[a-z_0-9]+)+")


def wings() -> list[str]:
    """The wings from the top floor down, as the architecture page lists them."""
    page = (ROOT / "docs" / "architecture.md").read_text()
    table = re.search(r"<!-- wings -->\n(.*?)<!-- end: wings -->", page, re.S)
    assert table, "docs/architecture.md has lost its table of wings"
    return re.findall(r"^\| `([a-z_/<>]+)` \|", table[1], re.M)


def sources(root: Path) -> dict[str, Path]:
    """Every module of the project by its dotted name."""
    found = {}
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            name = ".".join(path.relative_to(root).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = path
    return found


def imported(path: Path, modules: Mapping[str, Path]) -> Iterator[tuple[int, str]]:
    """Line and name of each module that a file imports or names in a string.

    Imports inside functions count, and so do names in strings: a program that is started, a
    component that is looked up.
    """
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield node.lineno, full if full in modules else node.module
        elif isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            name = node.value.partition(":")[0]
            if _MODULE.fullmatch(name) and name in modules:
                yield node.lineno, name


def wing_of(module: str, order: list[str]) -> str:
    """The wing that a module is in; ``omnistage`` is that of its own files."""
    parts = module.split(".")
    if module == "omnistage.__main__":
        return "omnistage/cli"
    if parts[0] == "components":
        return "components"
    wing = "/".join(parts[:2])
    return wing if wing in order else parts[0]


def wrong_ways(root: Path, order: list[str]) -> list[str]:
    """Every import from a wing into one above it, and every one between two stages."""
    modules, wrong = sources(root), []
    for name, path in modules.items():
        here = wing_of(name, order)
        for line, target in imported(path, modules):
            if target.split(".")[0] not in PACKAGES or target in PACKAGES:
                continue
            there = wing_of(target, order)
            up = order.index(there) < order.index(here)
            stages = here == there == "components" and _stage(name) != _stage(target)
            if up or stages:
                wrong.append(f"{path.relative_to(root)}:{line}: {here} imports {target}")
    return wrong


def _stage(module: str) -> str:
    return ".".join(module.split(".")[:2])


def test_every_folder_is_in_the_table() -> None:
    order = wings()
    folders = [
        f"omnistage/{p.name}"
        for p in (ROOT / "omnistage").iterdir()
        if (p / "__init__.py").exists()
    ]
    assert sorted(order) == sorted(["pipelines", "components", "omnistage", *folders])


def test_imports_go_down_the_table_only() -> None:
    assert wrong_ways(ROOT, wings()) == []


def circle(root: Path) -> list[str]:
    """Modules that import each other in a circle, one after the other; empty if there is none."""
    modules = sources(root)
    graph = {
        name: {t for _, t in imported(path, modules) if t in modules and t != name}
        for name, path in modules.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as e:
        return e.args[1]
    return []


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the code."""
    for path in sources(ROOT).values():
        target = tmp_path / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    return tmp_path


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert circle(ROOT) == []


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("omnistage/store/uris.py", "from omnistage.stage.key import stage_key"),
        ("omnistage/swift/training/train.py", "def late():\n    import pipelines.plan"),
        ("components/sft/stage.py", "PROGRAM = 'components.grpo.stage:STAGE'"),
    ],
)
def test_one_line_against_the_order_is_found(copy: Path, file: str, line: str) -> None:
    with (copy / file).open("a") as f:
        f.write(f"\n\n{line}\n")
    (found,) = wrong_ways(copy, wings())
    assert found.startswith(f"{file}:")


def test_one_line_that_makes_a_circle_is_found(copy: Path) -> None:
    with (copy / "omnistage/errors.py").open("a") as f:
        f.write("\n\ndef late():\n    import omnistage.files\n")
    assert set(circle(copy)) == {"omnistage.errors", "omnistage.files"}
