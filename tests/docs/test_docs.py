"""The documents: generated tables are up to date, links lead somewhere, commands exist."""

import importlib.util
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

from omnistage.cli.main import _parser
from omnistage.recipe.document import find_recipe
from omnistage.recipe.schema import every_setting
from pipelines.recipe import DataSet, Recipe
from pipelines.steps import STAGES, STEP_SETTINGS

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [
    *ROOT.glob("*.md"),
    *(ROOT / "docs").glob("*.md"),
    *(ROOT / "components").glob("*/README.md"),
    *(ROOT / "charts").glob("*/README.md"),
]
NAMES = [str(path.relative_to(ROOT)) for path in DOCUMENTS]


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["generate"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def copy(generate: ModuleType, tmp_path: Path) -> Path:
    """A folder with the documents, up to date."""
    for name in generate.BLOCKS:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    assert generate.main([], tmp_path) == 0
    return tmp_path


def shell_lines(document: str) -> list[str]:
    """The commands of the document's shell blocks, continued lines joined, comments cut off."""
    blocks = re.findall(r"^```sh\n(.*?)^```", (ROOT / document).read_text(), re.M | re.S)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line.strip() for line in lines if line.strip()]


def test_generated_tables_are_up_to_date(generate: ModuleType) -> None:
    assert generate.main(["--check"]) == 0


def test_a_table_that_is_not_up_to_date_is_named_and_left_alone(
    generate: ModuleType, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = copy / "docs" / "recipes.md"
    stale = path.read_text().replace("Peak learning rate", "Learning rate")
    path.write_text(stale)
    assert generate.main(["--check"], copy) == 1
    error = capsys.readouterr().err
    assert error == "not up to date with the code: docs/recipes.md; run `make format` and commit\n"
    assert path.read_text() == stale


def test_writing_brings_it_up_to_date(generate: ModuleType, copy: Path) -> None:
    path = copy / "docs" / "recipes.md"
    right = path.read_text()
    path.write_text(right.replace("Peak learning rate", "Learning rate"))
    assert generate.main([], copy) == 0
    assert path.read_text() == right


def test_a_lost_marker_is_an_error(
    generate: ModuleType, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = copy / "docs" / "architecture.md"
    path.write_text(path.read_text().replace("<!-- end: stages -->", ""))
    assert generate.main(["--check"], copy) == 2
    assert "docs/architecture.md: expected <!-- generated: stages -->" in capsys.readouterr().err


def test_generating_needs_neither_torch_nor_the_trainer() -> None:
    code = (
        "import sys; sys.path.insert(0, 'docs'); import generate; generate.main(['--check']); "
        "print([m for m in ('torch', 'swift', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


def test_every_setting_is_in_the_table_with_a_description() -> None:
    text = (ROOT / "docs" / "recipes.md").read_text()
    rows = dict(re.findall(r"^\| `([\w.]+)` \|.* \| (.*?) \|$", text, re.M))
    every = {*every_setting(Recipe), *every_setting(DataSet, "data.NAME.")} - {
        "data",
        "other_models",
        "steps",
    }
    for step in STEP_SETTINGS:
        every |= set(every_setting(step, f"{step.model_fields['stage'].default}."))
    wanted = every - {name.rpartition(".")[0] for name in every}
    assert wanted <= set(rows)
    assert [name for name in wanted if not rows[name].strip()] == []


def test_settings_that_cannot_change_a_result_are_marked() -> None:
    text = (ROOT / "docs" / "recipes.md").read_text()
    counts = dict(re.findall(r"^\| `([\w.]+)` \|.*\| (yes|no) \| .* \|$", text, re.M))
    assert counts["sft.learning_rate"] == "yes"
    assert counts["sft.logging_steps"] == "no"
    assert counts["data.NAME.transfer.workers"] == "no"
    assert counts["sft.nproc_per_node"] == "no"


def test_every_dependency_has_its_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = [
        project["project"]["dependencies"],
        *project["project"]["optional-dependencies"].values(),
        project["dependency-groups"]["dev"],
        project["build-system"]["requires"],
    ]
    wanted = {re.split(r"[^\w.-]", line)[0].lower() for group in groups for line in group}
    text = (ROOT / "docs" / "dependencies.md").read_text()
    listed = dict(re.findall(r"^\| `([\w.-]+)` \| (.+) \|$", text, re.M))
    assert set(listed) == wanted


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name: str) -> None:
    path = ROOT / name
    broken = []
    for target in re.findall(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)", path.read_text()):
        if target.startswith(("http://", "https://")):
            continue
        file, _, anchor = target.partition("#")
        to = (path.parent / file).resolve() if file else path
        if not to.exists() or (anchor and anchor not in anchors(to)):
            broken.append(target)
    assert broken == []


def anchors(document: Path) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", h.lower()).strip().replace(" ", "-") for h in headings}


@pytest.mark.parametrize("name", NAMES)
def test_the_commands_shown_are_ones_omnistage_takes(name: str) -> None:
    for line in shell_lines(name):
        words = shlex.split(line, comments=True)
        if words[:1] != ["omnistage"]:
            continue
        options = _parser().parse_args(words[1:])
        recipe = getattr(options, "recipe", None)
        if recipe and not recipe.startswith("./"):
            assert find_recipe(recipe).is_file()


@pytest.mark.parametrize("name", NAMES)
def test_the_make_targets_and_modules_shown_exist(name: str) -> None:
    makefile = (ROOT / "Makefile").read_text()
    text = (ROOT / name).read_text()
    for target in re.findall(r"^make ([\w-]+)", "\n".join(shell_lines(name)), re.M):
        assert re.search(rf"^{target}:", makefile, re.M), target
    for module in re.findall(r"python -m ([\w.]+\w)", text):
        found = re.sub(r"^components\.$", "components", module)
        assert importlib.util.find_spec(found), module


def test_readme_names_the_two_commands_and_every_stage() -> None:
    text = (ROOT / "README.md").read_text()
    assert "make demo" in text
    assert "make test" in text
    architecture = (ROOT / "docs" / "architecture.md").read_text()
    assert all(f"| `{stage}` |" in architecture for stage in STAGES)
