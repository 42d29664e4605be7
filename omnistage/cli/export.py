"""``omnistage export`` and ``serve``: what a training step has made, for others."""

import argparse
import tempfile
from pathlib import Path
from typing import Any

from omnistage.cli.options import add_command, home_argument


def add_export_commands(commands: Any) -> None:
    """Add both commands."""
    export = add_command(
        commands, "export", _export, "write a trained model or adapter with its card for others"
    )
    _common(export)
    export.add_argument(
        "--to", required=True, metavar="TARGET", help="a new folder, s3://…, or hub:owner/name"
    )
    export.add_argument(
        "--merged", action="store_true", help="merge an adapter into the weights it belongs on"
    )
    serve = add_command(
        commands, "serve", _serve, "print the command that serves what a step has trained"
    )
    _common(serve)


def _common(command: argparse.ArgumentParser) -> None:
    command.add_argument("step", help="a training step of the run")
    command.add_argument("--run", help="name, part of a name or folder (default: latest)")
    home_argument(command)


def _export(options: argparse.Namespace) -> None:
    from omnistage.events import Events
    from omnistage.files import write_atomic
    from omnistage.store.open import open_store
    from omnistage.store.uris import store_uri
    from omnistage.swift.export.card import card
    from omnistage.swift.export.deliver import HUB, check_target, deliver, workplace
    from omnistage.swift.export.model import context_of, trained, write_files
    from omnistage.swift.export.serve import serve_command

    what = trained(options.home, options.run, options.step)
    check_target(options.to)
    merge = options.merged and what.is_adapter
    place = workplace(options.to, open_store(store_uri(what.made)).scratch)
    with tempfile.TemporaryDirectory(prefix=".omnistage-export-", dir=place) as scratch:
        out, work = Path(scratch) / "out", Path(scratch) / "work"
        out.mkdir()
        work.mkdir()
        context = context_of(what, work, Events("export"))
        family = write_files(what, merge, context, out)
        named = options.to.removeprefix(HUB)
        alone = what.is_adapter and not merge
        base = what.published_base or "BASE_MODEL"
        command = serve_command(what, family, *((base, named) if alone else (named, None)))
        write_atomic(out / "README.md", card(what, family, merge, command))
        deliver(out, options.to)
    print(f"exported to {options.to}; serve it with\n\n{command}")


def _serve(options: argparse.Namespace) -> None:
    from omnistage.events import Events
    from omnistage.swift.export.model import context_of, trained
    from omnistage.swift.export.serve import serve_command
    from omnistage.swift.family import family_of
    from omnistage.swift.lineage import loadable

    what = trained(options.home, options.run, options.step)
    with tempfile.TemporaryDirectory(prefix="omnistage-serve-") as work:
        context = context_of(what, Path(work), Events("serve"))
        family = family_of(what.lineage.base, context.files(what.lineage.base) / "files")
        dtype = what.config.get("dtype", "bfloat16")
        model, adapter, _ = loadable(context, what.made, family, dtype)
    print(serve_command(what, family, str(model), str(adapter) if adapter else None))
