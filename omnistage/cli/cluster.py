"""The commands for a cluster: ``compile``, ``submit``, ``launch`` and ``doctor``."""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

from omnistage.cli.options import (
    add_command,
    home_argument,
    load,
    recipe_arguments,
    step_option,
    store_option,
)
from omnistage.errors import InputError, TransientError

_NAMES = {
    "hub_secret": (
        "omnistage-hub",
        "Secret with HF_TOKEN, MODELSCOPE_API_TOKEN or OMNISTAGE_SIGNED_URLS",
    ),
    "launch_config": ("omnistage-launch", "ConfigMap with launch.yaml"),
    "store_claim": ("omnistage-store", "claim mounted at /store"),
}
"""Objects in the namespace, by the names that the chart gives them."""


def add_cluster_commands(commands: Any) -> None:
    """Add the commands to the command line."""
    build = add_command(commands, "compile", _compile, "make packages for 'kfp run create'")
    recipe_arguments(build)
    build.add_argument("--out", type=Path, default=Path("build"), help="folder (default: build)")
    _package_arguments(build)

    _add_submit(commands)

    inputs = add_command(
        commands, "inputs", _inputs, "where a step's inputs are, as its own package takes them"
    )
    recipe_arguments(inputs)
    inputs.add_argument("step", help="the step")

    launch = add_command(
        commands, "launch", _launch, "run one step as a job of the kubeconfig's cluster"
    )
    recipe_arguments(launch)
    launch.add_argument("step", help="a step of training or evaluation")
    launch.add_argument("--dry-run", action="store_true", help="print the job's exact manifest")
    _image_argument(launch, "trainer=REF, the image of the job")
    _names_arguments(launch, "launch_config")

    _add_doctor(commands)


def _add_submit(commands: Any) -> None:
    submit = add_command(
        commands, "submit", _submit, "run a recipe on Kubeflow Pipelines and follow it"
    )
    recipe_arguments(submit)
    _package_arguments(submit)
    submit.add_argument(
        "--from", dest="first", metavar="STEP", help="take its upstream steps from the store"
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


def _add_doctor(commands: Any) -> None:
    doctor = add_command(commands, "doctor", _doctor, "check this machine, or a cluster")
    doctor.add_argument("--cluster", action="store_true", help="check the cluster instead")
    doctor.add_argument("--namespace", help="of the cluster (default: this pod's or kubeconfig's)")
    doctor.add_argument("--recipe", help="whose section 'cluster' is looked at")
    doctor.add_argument("--store", help="that is written to (default: HOME/store on a machine)")
    doctor.add_argument(
        "--service-account",
        default="omnistage-launcher",
        help="of launcher pods (default: %(default)s)",
    )
    doctor.add_argument(
        "--pull-timeout", type=float, default=300, help="seconds for an image (default: 300)"
    )
    doctor.add_argument("--json", action="store_true", help="print JSON")
    _image_argument(doctor, "image that a node has or can pull, such as trainer=…")
    _names_arguments(doctor, "launch_config")
    home_argument(doctor)
    doctor.set_defaults(set=[], tiny=False)


def _package_arguments(command: argparse.ArgumentParser) -> None:
    _image_argument(command, "image of launcher and of trainer, pinned by digest")
    _names_arguments(command, *_NAMES)
    command.add_argument(
        "--no-cache",
        action="store_true",
        help="run every task in a pod; the store still has what was made before",
    )


def _names_arguments(command: argparse.ArgumentParser, *names: str) -> None:
    for name in names:
        default, what = _NAMES[name]
        command.add_argument(
            f"--{name.replace('_', '-')}",
            metavar="NAME",
            default=default,
            help=f"{what} (default: {default})",
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
    from pipelines.graph import graph_of
    from pipelines.post_training import compile_packages
    from pipelines.task_pods import ClusterNames

    recipe = load(options)
    if more.get("first"):
        step_option(graph_of(recipe), "--from", more["first"])
    return compile_packages(
        recipe,
        folder,
        store_option(options),
        _images(options),
        names=ClusterNames(**{name: getattr(options, name) for name in _NAMES}),
        caching=not options.no_cache,
        **more,
    )


def _compile(options: argparse.Namespace) -> None:
    for path in _compile_packages(options, options.out):
        print(path)


def _submit(options: argparse.Namespace) -> int:
    from components.download.sources.uri import parse_source
    from omnistage.kubeflow.server import PipelinesServer
    from omnistage.kubeflow.submit import (
        STAND_ALONE,
        Package,
        Submission,
        follow,
        parse_parameters,
        start,
        task_titles,
    )
    from pipelines.post_training import PIPELINE

    def say(text: str) -> None:
        print(text, flush=True)

    with tempfile.TemporaryDirectory() as folder:
        (path,) = _compile_packages(options, Path(folder), first=options.first, only=[PIPELINE])
        package = Package(path.read_bytes())
    parameters = parse_parameters(options.param, package)
    for name, value in parameters.items():
        # Before it is sent: a server keeps what it got.
        if value and name.split("_")[0] in ("model", "data"):
            parse_source(value)
    submission = Submission(
        package,
        options.experiment,
        options.name,
        parameters,
        options.endpoint,
        options.namespace,
        options.service_account,
    )
    server = PipelinesServer(options.endpoint, options.namespace, say)
    run = start(submission, server, options.home, say)
    if page := server.run_url(run):
        say(page)
    if not options.follow:
        return 0
    store = submission.parameters.get("store", store_option(options))
    try:
        namespace = options.namespace or STAND_ALONE
        return follow(run, server, task_titles(package), store, say, namespace=namespace)
    except (KeyboardInterrupt, TransientError):
        print("the run goes on; the same command follows it again", file=sys.stderr)
        raise


def _inputs(options: argparse.Namespace) -> None:
    from omnistage.store.open import open_store
    from omnistage.store.uris import manifest_uri
    from pipelines.graph import graph_of
    from pipelines.plan import stored_inputs

    graph = graph_of(load(options).resolve())
    step = step_option(graph, "", options.step)
    for name, manifest in stored_inputs(graph, step, open_store(store_option(options))).items():
        print(f"{name}={manifest_uri(manifest)}")


def _launch(options: argparse.Namespace) -> None:
    import yaml

    from pipelines.graph import graph_of
    from pipelines.launch import launch_step, render_step

    recipe = load(options)
    step = step_option(graph_of(recipe), "", options.step)
    images = _images(options)
    if set(images) != {"trainer"}:
        raise InputError("launch: give the image of the job as --image trainer=REPOSITORY@sha256:…")
    arguments = (recipe, step, store_option(options), images["trainer"])
    if options.dry_run:
        manifest = render_step(*arguments, options.launch_config)
        print(yaml.safe_dump(manifest, sort_keys=False), end="")
        return
    print(launch_step(*arguments, options.launch_config).uri)


def _doctor(options: argparse.Namespace) -> int:
    from omnistage.doctor.check import report
    from omnistage.doctor.machine import check_machine

    if not options.cluster:
        return report(list(check_machine(options.home, store_option(options))), options.json)
    from omnistage.doctor.cluster import Wanted, check_cluster

    settings = {}
    if options.recipe:
        settings = load(options).cluster.model_dump(mode="json", exclude_unset=True)
    wanted = Wanted(
        options.namespace,
        settings,
        _images(options),
        store_option(options) if options.store else None,
        options.launch_config,
        options.service_account,
        options.pull_timeout,
    )
    return report(list(check_cluster(wanted)), options.json)
