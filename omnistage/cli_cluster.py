"""The commands for a cluster: ``compile``, ``submit``, ``launch`` and ``doctor``."""

import argparse
from pathlib import Path
from typing import Any

from omnistage.cli_options import add_command, load, recipe_arguments, store_option
from omnistage.errors import InputError


def add_cluster_commands(commands: Any) -> None:
    """Add the commands to the command line."""
    build = add_command(commands, "compile", _compile, "make packages for 'kfp run create'")
    recipe_arguments(build)
    build.add_argument("--out", type=Path, default=Path("build"), help="folder (default: build)")
    _package_arguments(build)


def _package_arguments(command: argparse.ArgumentParser) -> None:
    _image_argument(command, "image of launcher and of trainer, pinned by digest")
    for option, what in (
        ("--hub-secret", "Secret with HF_TOKEN or MODELSCOPE_API_TOKEN (default: omnistage-hub)"),
        ("--launch-config", "ConfigMap with launch.yaml (default: omnistage-launch)"),
        ("--store-claim", "claim mounted at /store (default: omnistage-store)"),
    ):
        command.add_argument(option, metavar="NAME", help=what)


def _image_argument(command: argparse.ArgumentParser, about: str) -> None:
    command.add_argument(
        "--image", action="append", default=[], metavar="NAME=REF@sha256:…", help=about
    )


def _images(options: argparse.Namespace) -> dict[str, str]:
    images = {}
    for image in options.image:
        name, equals, reference = image.partition("=")
        if not (name and equals and reference):
            raise InputError(f"--image {image}: expected name=reference@sha256:…")
        images[name] = reference
    return images


def _names(pipeline: Any, options: argparse.Namespace) -> Any:
    given = {n: getattr(options, n) for n in ("hub_secret", "launch_config", "store_claim")}
    return pipeline.ClusterNames(**{n: v for n, v in given.items() if v})


def _compile(options: argparse.Namespace) -> None:
    pipeline, recipe = load(options)
    images, names = _images(options), _names(pipeline, options)
    store = store_option(options)
    for path in pipeline.compile_packages(recipe, options.out, store, images, names=names):
        print(path)
