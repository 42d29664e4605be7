"""Write what the charts take from elsewhere: tables of values, and the schema of job settings.

``python charts/generate.py`` fills in the table of values in each chart's README.md from the
comments of its values.yaml; the definitions of ``launch.settings`` and ``launch.policy`` in the
schema of the chart ``omnistage`` from :class:`omnistage.cluster.settings.LaunchSettings` and
:class:`omnistage.policy.Policy`; and the rules of its Roles
from what the back ends need (:mod:`omnistage.cluster.jobs.backends`). With ``--check`` it changes
nothing and exits with 1 when a file is not up to date.
"""

import argparse
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from omnistage.cluster.jobs.backends import all_launcher_rights, reaper_rights, rules
from omnistage.cluster.settings import LaunchSettings
from omnistage.errors import InputError
from omnistage.policy import Policy

CHARTS = Path(__file__).resolve().parent
NAMES = ("omnistage", "omnistage-platform")
SUB_CHARTS = {"omnistage-platform": ("training-operator",)}
RIGHTS = {"launcher-rules.yaml": all_launcher_rights(), "reaper-rules.yaml": reaper_rights()}
_KEY = re.compile(r"^( *)([\w.-]+):")
_BEGIN, _END = "<!-- generated: values -->", "<!-- end: values -->"


def described(text: str, where: str) -> Iterator[tuple[str, str]]:
    """Yield the dotted name and the description of each value with a comment ``# -- …``.

    Raises:
        InputError: If a comment is followed by something else than a key.
    """
    parents: list[tuple[int, str]] = []
    about: str | None = None
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip().startswith("# -- "):
            about = line.strip().removeprefix("# -- ")
            continue
        key = _KEY.match(line)
        if key is None:
            if about is not None:
                raise InputError(f"{where}:{number}: the comment above describes no value")
            continue
        indent = len(key[1])
        parents = [(i, name) for i, name in parents if i < indent]
        parents.append((indent, key[2].replace(".", "\\.")))
        if about is not None:
            yield ".".join(name for _, name in parents), about
            about = None


def value_at(values: Any, name: str) -> Any:
    """Return the value of a dotted name; dots of a key's own are written ``\\.``."""
    for part in re.split(r"(?<!\\)\.", name):
        values = values[part.replace("\\.", ".")]
    return values


def undescribed(values: Any, names: set[str], prefix: str = "") -> Iterator[str]:
    """Yield the values that neither they nor any value above them describes."""
    for key, value in values.items():
        name = f"{prefix}{key}".replace("..", ".")
        if name in names:
            continue
        if isinstance(value, dict) and value:
            yield from undescribed(value, names, f"{name}.")
        else:
            yield name


def rows(folder: Path, prefix: str = "") -> Iterator[str]:
    """Yield a row of a table for each value of a chart.

    Args:
        folder: The chart's folder.
        prefix: What stands before the names: a sub-chart's own name and a dot.

    Raises:
        InputError: If a value has no description.
    """
    path = folder / "values.yaml"
    where = str(path.relative_to(folder.parent))
    text = path.read_text()
    values = yaml.safe_load(text)
    found = dict(described(text, where))
    missing = sorted(undescribed(values, set(found)))
    if missing:
        raise InputError(f"{where}: no description (a comment `# -- …`) for {', '.join(missing)}")
    for name, about in found.items():
        default = json.dumps(value_at(values, name), ensure_ascii=False)
        shown = f"`{default}`" if len(default) <= 60 else "see values.yaml"
        yield f"| `{prefix}{name}` | {shown} | {about.replace('|', chr(92) + '|')} |"


def table(chart: Path) -> str:
    """Return the table of a chart's values, those of sub-charts of this repository included.

    Raises:
        InputError: If a value has no description.
    """
    lines = ["| value | default | what it is |", "| --- | --- | --- |", *rows(chart)]
    for name in SUB_CHARTS.get(chart.name, ()):
        lines += rows(chart.parent / name, f"{name}.")
    return "\n".join(lines)


def readme(chart: Path) -> str:
    """Return a chart's README with its table made anew.

    Raises:
        InputError: If the table's two markers are not there once each.
    """
    text = (chart / "README.md").read_text()
    pattern = re.compile(f"{re.escape(_BEGIN)}.*?{re.escape(_END)}", re.DOTALL)
    if len(pattern.findall(text)) != 1:
        raise InputError(f"{chart.name}/README.md: expected {_BEGIN} and {_END} once, in order")
    block = f"{_BEGIN}\n\n{table(chart)}\n\n{_END}"
    return pattern.sub(lambda _: block, text)


def schema(chart: Path) -> str:
    """Return the schema of the chart's values with the definitions of job settings made anew."""
    found = json.loads((chart / "values.schema.json").read_text())
    model = LaunchSettings.model_json_schema(ref_template="#/$defs/{model}")
    policy = Policy.model_json_schema()
    definitions = {**model.pop("$defs"), "LaunchSettings": model, "Policy": policy}
    found["$defs"] = {name: _plain(definitions[name]) for name in sorted(definitions)}
    return json.dumps(found, indent=2, ensure_ascii=False) + "\n"


def _plain(node: Any) -> Any:
    """Leave out what a schema does not check with: titles, defaults, Python's descriptions."""
    if isinstance(node, list):
        return [_plain(entry) for entry in node]
    if not isinstance(node, dict):
        return node
    plain = {k: _plain(v) for k, v in node.items() if k not in ("title", "default", "description")}
    if "properties" in node:  # whose keys are names of fields
        plain["properties"] = {name: _plain(field) for name, field in node["properties"].items()}
    return plain


def main(arguments: list[str] | None = None, charts: Path = CHARTS) -> int:
    """Write or check the files and return the exit code.

    Args:
        arguments: The command line; ``sys.argv`` by default.
        charts: Folder that the charts are in.
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 on drift")
    options = parser.parse_args(arguments)
    try:
        wanted = {charts / name / "README.md": readme(charts / name) for name in NAMES}
        wanted[charts / "omnistage" / "values.schema.json"] = schema(charts / "omnistage")
        for name, rights in RIGHTS.items():
            text = yaml.safe_dump(rules(rights), default_flow_style=None, sort_keys=False)
            wanted[charts / "omnistage" / "files" / name] = text
    except InputError as e:
        print(f"error: {e}", file=sys.stderr)
        return e.exit_code
    stale = [p for p, text in wanted.items() if not p.exists() or p.read_text() != text]
    names = ", ".join(str(path.relative_to(charts.parent)) for path in stale)
    if options.check:
        if stale:
            print(f"not up to date: {names}; run `make charts` and commit", file=sys.stderr)
        return 1 if stale else 0
    for path in stale:
        path.write_text(wanted[path])
    if stale:
        print(f"wrote {names}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
