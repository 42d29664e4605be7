"""Assemble the chart omnistage-platform with its dependencies in build/charts.

Other projects' charts, manifests and CRDs are never committed. ``python charts/deps.py`` takes
them at the versions pinned below:

- training-operator has no chart upstream: its kustomize manifests, from its Go module, become a
  sub-chart (:mod:`kustomized`).
- kueue, kubeflow-trainer and jobset: the charts in their Go modules, or with ``--from registries``
  the released charts, pulled by Helm.
- gpu-operator: pulled by Helm from NVIDIA's repository; ``--without gpu-operator`` leaves it out
  where that is out of reach.

Go modules are checked against the h1 sums below. Needed: go, and kubectl or kustomize; helm for
what is pulled.
"""

import argparse
import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from crds import slim_crd
from kustomized import write_chart

from omnistage.errors import InputError, OmnistageError, TransientError

CHARTS = Path(__file__).resolve().parent
PLATFORM = "omnistage-platform"


@dataclass(frozen=True)
class Module:
    """A Go module at a version, and the sum that its files must have."""

    path: str
    version: str
    sum: str


TRAINING_OPERATOR = Module(
    "github.com/kubeflow/training-operator",
    "v1.9.4",
    "h1:MjYXzeaHGBmF47BlhCo6+Mb7ypHrVfO6vsys1ZHF56A=",
)
KUEUE = Module("sigs.k8s.io/kueue", "v0.14.0", "h1:lDR34L42/k17opLfkZbZ+taymLaPpryj3ZBbvKqs/N4=")
TRAINER = Module(
    "github.com/kubeflow/trainer/v2", "v2.3.0", "h1:Je+e7zvTLzB4qW09J1fB7pZrqvPtWuGng2NqdN5p5QU="
)
JOBSET = Module("sigs.k8s.io/jobset", "v0.12.0", "h1:YYPuV0px8Ongq/RXmJg6V0w2UC67aiR+rCMD06vhQQQ=")


def run(command: Sequence[str], problem: str) -> str:
    """Run a program and return what it prints.

    Raises:
        InputError: If there is no such program.
        TransientError: If it fails, with its last lines.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as e:
        raise InputError(f"{problem}: {command[0]} is not on PATH") from e
    if done.returncode:
        tail = "\n".join((done.stderr or done.stdout).strip().splitlines()[-5:])
        raise TransientError(f"{problem}: {tail}")
    return done.stdout


def sum_of(folder: Path, prefix: str) -> str:
    """Return the h1 sum of a module's folder, as golang.org/x/mod/sumdb/dirhash defines it."""
    names = {f"{prefix}/{p.relative_to(folder).as_posix()}": p for p in folder.rglob("*")}
    lines = (
        f"{hashlib.sha256(names[name].read_bytes()).hexdigest()}  {name}\n"
        for name in sorted(names)
        if names[name].is_file()
    )
    return "h1:" + base64.b64encode(hashlib.sha256("".join(lines).encode()).digest()).decode()


def module_folder(module: Module) -> Path:
    """Return the folder of a Go module, fetched where it is not in the module cache yet.

    Raises:
        InputError: If its files are not the pinned ones, or go is missing.
        TransientError: If it cannot be fetched.
    """
    name = f"{module.path}@{module.version}"
    with tempfile.TemporaryDirectory() as empty:  # no go.mod whose settings would count
        command = ["go", "-C", empty, "mod", "download", "-json", name]
        found = json.loads(run(command, f"cannot fetch {name}"))
    folder = Path(found["Dir"])
    actual = sum_of(folder, name)
    if actual != module.sum:
        raise InputError(f"{name}: its files have the sum {actual}, expected {module.sum}")
    return folder


def kustomize(folder: Path) -> str:
    """Return the manifests that a kustomization makes."""
    command = ["kustomize", "build"] if shutil.which("kustomize") else ["kubectl", "kustomize"]
    return run([*command, str(folder)], f"cannot render {folder}")


def pull(chart: str, version: str, repository: str, target: Path) -> None:
    """Put a released chart into a folder, unpacked."""
    name = f"{repository}/{chart}" if repository.startswith("oci://") else chart
    source = [] if repository.startswith("oci://") else ["--repo", repository]
    command = ["helm", "pull", name, "--version", version, *source]
    problem = f"cannot pull {chart} {version} from {repository}"
    run([*command, "--untar", "--untardir", str(target)], problem)


def copy_chart(folder: Path, target: Path) -> None:
    """Copy a chart out of a module, without its tests and without dependencies of its own."""
    shutil.copytree(folder, target, ignore=shutil.ignore_patterns("tests", "*.gotmpl", "README.md"))
    for path in [target, *target.rglob("*")]:  # modules are read-only
        path.chmod(0o755 if path.is_dir() else 0o644)


def keep_dependencies(chart: Path, names: set[str]) -> None:
    """Leave only these dependencies in a Chart.yaml: Helm wants every listed one to be there."""
    path = chart / "Chart.yaml"
    content = yaml.safe_load(path.read_text())
    content["dependencies"] = [d for d in content["dependencies"] if d["name"] in names]
    path.write_text(yaml.safe_dump(content, sort_keys=False))


def add_training_operator(charts: Path) -> None:
    """Make the training operator's sub-chart."""
    folder = module_folder(TRAINING_OPERATOR) / "manifests" / "overlays" / "standalone"
    write_chart(kustomize(folder), CHARTS / "training-operator", charts / "training-operator")


def add_from_modules(name: str, charts: Path) -> None:
    """Add Kueue's or Trainer's chart from its Go module; Trainer's brings JobSet's."""
    if name == "kueue":
        copy_chart(module_folder(KUEUE) / "charts" / "kueue", charts / "kueue")
        return
    trainer = charts / "kubeflow-trainer"
    copy_chart(module_folder(TRAINER) / "charts" / "kubeflow-trainer", trainer)
    keep_dependencies(trainer, {"jobset"})  # LeaderWorkerSet serves a data cache we do not use
    copy_chart(module_folder(JOBSET) / "charts" / "jobset", trainer / "charts" / "jobset")


def slim_crds(charts: Path) -> None:
    """Leave the descriptions out of all CRDs but the GPU operator's, which are small."""
    for path in sorted(charts.rglob("*.yaml")):
        inside = path.relative_to(charts).parts
        if inside[0] != "gpu-operator" and inside[-2] in ("crd", "crds"):
            path.write_text(slim_crd(path.read_text()))


def assemble(output: Path, without: set[str], from_registries: bool) -> Path:
    """Write the chart with its dependencies and return its folder.

    Raises:
        InputError: If a dependency is not the pinned one, or a program is missing.
        TransientError: If a dependency cannot be fetched.
    """
    chart = output / PLATFORM
    if chart.exists():
        shutil.rmtree(chart)
    shutil.copytree(CHARTS / PLATFORM, chart)
    wanted = yaml.safe_load((chart / "Chart.yaml").read_text())["dependencies"]
    known = {dependency["name"] for dependency in wanted}
    if without - known:
        raise InputError(f"--without: expected some of {', '.join(sorted(known))}")
    keep_dependencies(chart, known - without)
    charts = chart / "charts"
    charts.mkdir()
    for dependency in wanted:
        name = dependency["name"]
        if name in without:
            continue
        print(f"{name} {dependency['version']}")
        if name == "training-operator":
            add_training_operator(charts)
        elif name == "gpu-operator" or from_registries:
            pull(name, dependency["version"], dependency["repository"], charts)
        else:
            add_from_modules(name, charts)
    slim_crds(charts)
    return chart


def main(arguments: list[str] | None = None) -> int:
    """Assemble the chart and return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--output", type=Path, default=CHARTS.parent / "build" / "charts")
    parser.add_argument("--without", action="append", default=[], metavar="NAME")
    parser.add_argument(
        "--from",
        dest="source",
        choices=("modules", "registries"),
        default="modules",
        help="where the charts of Kueue, Trainer and JobSet come from",
    )
    options = parser.parse_args(arguments)
    cache = os.environ.get("OMNISTAGE_CLUSTER_CACHE")
    if cache:  # kubectl and helm of the tests' cluster
        os.environ["PATH"] += os.pathsep + str(Path(cache) / "bin")
    try:
        chart = assemble(options.output, set(options.without), options.source == "registries")
    except OmnistageError as e:
        print(f"error: {e}", file=sys.stderr)
        return e.exit_code
    print(f"assembled {chart}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
