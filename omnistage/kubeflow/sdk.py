"""What the KFP SDK has no public way to do: the one file that goes around it."""

import inspect
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

    def pipeline(*values: Any) -> None:
        body({p.name: value for p, value in zip(parameters, values, strict=True)})

    lines = "\n".join(f"    {p.name}: {p.about}" for p in parameters)
    pipeline.__doc__ = f"{about}\n\nArgs:\n{lines}\n"
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    pipeline.__signature__ = inspect.Signature(  # pyright: ignore[reportFunctionMemberAccess]
        [inspect.Parameter(p.name, kind, annotation=p.kind, default=p.default) for p in parameters]
    )
    return dsl.pipeline(name=name, description=about)(pipeline)


class _Types(dict[str, type[Any]]):
    """Artifact types by schema title, for KFP's executor."""

    def get(self, title: str, default: Any = None) -> type[Any]:
        """The type of a title, else the class in the annotation, else ``dsl.Artifact``."""
        from kfp import dsl

        return super().get(title, default if isinstance(default, type) else dsl.Artifact)


def allow_optional_inputs() -> None:
    """Have KFP's executor make artifacts of optional inputs.

    The executor of KFP 2.17 takes the class of an artifact whose schema title it does not know from
    the annotation of the input. Of an optional input that is ``Optional[...]``, which it tries to
    instantiate (``kfp/dsl/executor.py``, ``create_artifact_instance``).
    """
    from kfp.dsl.types import artifact_types

    artifact_types._SCHEMA_TITLE_TO_TYPE = _Types(artifact_types._SCHEMA_TITLE_TO_TYPE)


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
