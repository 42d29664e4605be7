"""What the KFP SDK has no public way to do: the one file that goes around it."""

import hashlib
import inspect
import linecache
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Parameter:
    """A parameter of a pipeline: what one may change when a package is submitted."""

    name: str
    kind: type
    about: str
    default: Any = inspect.Parameter.empty


def make_pipeline(
    name: str,
    about: str,
    parameters: Sequence[Parameter],
    body: Callable[[Mapping[str, Any]], None],
) -> Any:
    """Return a pipeline whose parameters are known only when it is made.

    KFP reads a pipeline's parameters from the signature and the docstring of a function, so a
    function gets both here.

    Args:
        name: Of the pipeline.
        about: Its description.
        parameters: Its parameters.
        body: Adds the tasks, given the parameters by name.
    """
    from kfp import dsl
    from kfp.dsl.pipeline_task import PipelineTask

    # Each setting of a task asks this, and KFP's own reads the source of every function on the
    # stack for the name in its message: where many modules are loaded, as in the tests, that was
    # nine tenths of a compilation.
    PipelineTask._ensure_container_spec_exists = _check_container  # pyright: ignore[reportAttributeAccessIssue]

    def pipeline(*values: Any) -> None:
        body({p.name: value for p, value in zip(parameters, values, strict=True)})

    lines = "\n".join(f"    {p.name}: {p.about}" for p in parameters)
    pipeline.__doc__ = f"{about}\n\nArgs:\n{lines}\n"
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    pipeline.__signature__ = inspect.Signature(  # pyright: ignore[reportFunctionMemberAccess]
        [inspect.Parameter(p.name, kind, annotation=p.kind, default=p.default) for p in parameters]
    )
    return dsl.pipeline(name=name, description=about)(pipeline)


def _check_container(task: Any) -> None:
    """Check that a task is a container, as what is set of it needs.

    Raises:
        ValueError: Naming the method of the task that was called.
    """
    if task.container_spec is None:
        raise ValueError(f"{sys._getframe(1).f_code.co_name} needs a task with a container")


def make_component(
    name: str,
    about: str,
    parameters: Sequence[Parameter],
    inputs: Mapping[str, tuple[str, str]],
    outputs: Mapping[str, tuple[str, str]],
    body: Sequence[str],
) -> Any:
    """Return a component whose inputs and outputs are known only when it is made.

    KFP sends the source text of a component's function to the pod and reads its signature and
    docstring, so the text is made here and put where :mod:`inspect` looks for it. A component with
    just the inputs of its step also needs no optional one, which KFP's executor cannot make.

    Args:
        name: Of the component and of its function; a Python name.
        about: Its description.
        parameters: Its parameters; those with a default last.
        inputs: Its input artifacts: name to class, as an expression such as
            ``types.BaseModel``, and description.
        outputs: Its output artifacts.
        body: Lines of the function.
    """
    from kfp import dsl

    from omnistage.kubeflow import types

    needed = [p for p in parameters if p.default is inspect.Parameter.empty]
    optional = [p for p in parameters if p.default is not inspect.Parameter.empty]
    signature = [f"{p.name}: {p.kind.__name__}," for p in needed]
    signature += [f"{n}: dsl.Input[{kind}]," for n, (kind, _) in inputs.items()]
    signature += [f"{n}: dsl.Output[{kind}]," for n, (kind, _) in outputs.items()]
    signature += [f"{p.name}: {p.kind.__name__} = {p.default!r}," for p in optional]
    told = [f"    {p.name}: {p.about}" for p in parameters]
    told += [f"    {n}: {what}" for n, (_, what) in (*inputs.items(), *outputs.items())]
    doc = [f'"""{about}', "", "Args:", *told, '"""']
    lines = [
        f"def {name}(",
        *(f"    {line}" for line in signature),
        "):",
        *(f"    {line}" if line else "" for line in (*doc, *body)),
    ]
    text = "\n".join(lines) + "\n"
    path = f"<component {name} {hashlib.sha256(text.encode()).hexdigest()[:16]}>"
    linecache.cache[path] = (len(text), None, text.splitlines(keepends=True), path)
    names: dict[str, Any] = {"dsl": dsl, "types": types}
    exec(compile(text, path, "exec"), names)
    return dsl.component(base_image="python", install_kfp_package=False)(names[name])


def check_health(client: Any, timeout: Any) -> None:
    """Ask a server once whether it is there; ``kfp.Client`` asks five times and has no time-out.

    Args:
        client: A ``kfp.Client``.
        timeout: Of connecting and reading, as urllib3 takes it.

    Raises:
        ApiException: Of ``kfp_server_api``, if the server refuses.
        HTTPError: Of urllib3, if it does not answer.
    """
    client._healthz_api.healthz_service_get_healthz(_request_timeout=timeout)
