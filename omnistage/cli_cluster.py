"""The commands for a cluster: ``compile``, ``submit``, ``launch`` and ``doctor``."""

import argparse
import sys
from pathlib import Path
from typing import Any

from omnistage.cli_options import (
    add_command,
    load,
    recipe_arguments,
    stage_option,
    store_option,
)
from omnistage.errors import InputError, TransientError


def add_cluster_commands(commands: Any) -> None:
    """Add the commands to the command line."""
    build = add_command(commands, "compile", _compile, "make packages for 'kfp run create'")
    recipe_arguments(build)
    build.add_argument("--out", type=Path, default=Path("build"), help="folder (default: build)")
    _package_arguments(build)

    submit = add_command(
        commands, "submit", _submit, "run a recipe on Kubeflow Pipelines and follow it"
    )
    recipe_arguments(submit)
    _package_arguments(submit)
    submit.add_argument(
        "--from", dest="first", metavar="STAGE", help="take what comes before from the store"
    )
    submit.add_argument(
        "--param",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="parameter of the run, such as nodes=2; may be given several times",
    )
    submit.add_argument("--experiment", default="omnistage", help="default: omnistage")
    submit.add_argument("--name", help="of the run (default: the recipe's, with the time)")
    submit.add_argument(
        "--endpoint", help="address of Kubeflow Pipelines (default: KFP's own settings)"
    )
    submit.add_argument("--namespace", help="of the run, where KFP has several users")
    submit.add_argument(
        "--service-account", help="of the run's pods (default: that of Kubeflow Pipelines)"
    )
    submit.add_argument(
        "--follow",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="stay until the run has ended, and end with its result",
    )


def _package_arguments(command: argparse.ArgumentParser) -> None:
    _image_argument(command, "image of launcher and of trainer, pinned by digest")
    for option, what in (
        ("--hub-secret", "Secret with HF_TOKEN or MODELSCOPE_API_TOKEN (default: omnistage-hub)"),
        ("--launch-config", "ConfigMap with launch.yaml (default: omnistage-launch)"),
        ("--store-claim", "claim mounted at /store (default: omnistage-store)"),
    ):
        command.add_argument(option, metavar="NAME", help=what)
    command.add_argument(
        "--no-cache",
        action="store_true",
        help="run every task in a pod; the store still has what was made before",
    )


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


def _compile_packages(options: argparse.Namespace, folder: Path, **more: Any) -> list[Path]:
    pipeline, recipe = load(options)
    if more.get("first"):
        stage_option(pipeline, "--from", more["first"])
    names = {n: getattr(options, n) for n in ("hub_secret", "launch_config", "store_claim")}
    return pipeline.compile_packages(
        recipe,
        folder,
        store_option(options),
        _images(options),
        names=pipeline.ClusterNames(**{n: v for n, v in names.items() if v}),
        caching=not options.no_cache,
        **more,
    )


def _compile(options: argparse.Namespace) -> None:
    for path in _compile_packages(options, options.out):
        print(path)


def _submit(options: argparse.Namespace) -> int:
    from omnistage.kfp_client import PipelinesServer
    from omnistage.submit import Submission, follow, parse_parameters, start, task_titles

    def say(text: str) -> None:
        print(text, flush=True)

    (package,) = _compile_packages(
        options, options.home / "packages", first=options.first, only=["post_training"]
    )
    submission = Submission(
        package,
        options.experiment,
        options.name,
        parse_parameters(options.param, package),
        options.endpoint,
        options.namespace,
        options.service_account,
    )
    server = PipelinesServer(options.endpoint, options.namespace, say)
    run = start(submission, server, options.home, say)
    say(server.run_url(run))
    if not options.follow:
        return 0
    store = submission.parameters.get("store", store_option(options))
    try:
        return follow(run, server, task_titles(package), store, say)
    except (KeyboardInterrupt, TransientError):
        print("the run goes on; the same command follows it again", file=sys.stderr)
        raise
