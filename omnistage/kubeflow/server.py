"""The calls that ``omnistage submit`` makes to a Kubeflow Pipelines server.

Made with KFP's own client; its errors become one clear message, and calls that only read wait out
a server that is busy or restarting.
"""

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from omnistage.errors import InputError, TransientError
from omnistage.kubeflow.sdk import check_health
from omnistage.retry import retry

T = TypeVar("T")

_TIMEOUT = 60
_TRANSIENT = frozenset({0, 408, 429, 500, 502, 503, 504})
_PATIENCE = 600.0
_CONNECT_PATIENCE = 30.0


class PipelinesServer:
    """A Kubeflow Pipelines server.

    Args:
        endpoint: Its address; by default KFP's own way: ``KF_PIPELINES_ENDPOINT``, the cluster
            this runs in, the kubeconfig.
        namespace: Of the runs, on an installation for several users.
        say: Told when the server does not answer and is waited for.
        patience: Seconds that a server which does not answer is waited for.

    Raises:
        InputError: If the server refuses the credentials, or is not one.
        TransientError: If it does not answer.
    """

    def __init__(
        self,
        endpoint: str | None,
        namespace: str | None,
        say: Callable[[str], None],
        patience: float = _PATIENCE,
    ) -> None:
        self._namespace = namespace
        self._say = say
        self._patience = patience
        # KFP logs the whole exception, with its stack, for each try.
        logging.getLogger().addFilter(lambda record: "healthz" not in str(record.msg))
        self._client: Any = self._call(
            "connecting", lambda: _connect(endpoint, namespace), min(patience, _CONNECT_PATIENCE)
        )

    @property
    def where(self) -> str:
        """The server's address."""
        return self._client._existing_config.host

    def run_url(self, run_id: str) -> str:
        """Return the address of a run's page; nothing where no page opens under it.

        KFP's API, when it is reached past the user interface (a port-forward, a Service), has none.
        """
        from urllib3.exceptions import HTTPError

        home = self._client._get_url_prefix().rstrip("/")
        api = self._client._run_api.api_client
        try:
            page = api.rest_client.pool_manager.request(
                "GET", f"{home}/", headers=api.default_headers, timeout=10.0, retries=2
            )
        except (HTTPError, OSError):
            return ""
        opens = page.status == 200 and "text/html" in page.headers.get("Content-Type", "")
        return f"{home}/#/runs/details/{run_id}" if opens else ""

    def experiment(self, name: str) -> str:
        """Return the id of an experiment; create it if there is none by that name."""
        made = self._call(
            "the experiment",
            lambda: self._client.create_experiment(name, namespace=self._namespace),
        )
        return made.experiment_id

    def upload(self, package: Path, name: str, version: str) -> tuple[str, str]:
        """Upload a package, unless this version is there, and return pipeline and version id.

        Args:
            package: As compiled.
            name: Of the pipeline.
            version: Of the package.

        Raises:
            InputError: If the server refuses the package.
        """
        found = self._call("the pipelines", lambda: self._pipelines(name))
        if not found:
            self._call("uploading", lambda: self._new_pipeline(package, name))
            found = self._call("the pipelines", lambda: self._pipelines(name))
        pipeline = found[0].pipeline_id
        have = self._call("the versions", lambda: self._versions(pipeline, version))
        if not have:
            self._call("uploading", lambda: self._new_version(package, pipeline, version))
            have = self._call("the versions", lambda: self._versions(pipeline, version))
        return pipeline, have[0].pipeline_version_id

    def runs_named(self, experiment: str, name: str) -> list[str]:
        """Return the ids of an experiment's runs with a given name."""
        found = self._call(
            "the runs",
            lambda: self._client.list_runs(
                experiment_id=experiment, filter=_named(name), page_size=100
            ),
        )
        return [run.run_id for run in found.runs or []]

    def create_run(
        self,
        experiment: str,
        name: str,
        version: tuple[str, str],
        parameters: Mapping[str, Any],
        service_account: str | None,
    ) -> str:
        """Start a run and return its id.

        Raises:
            InputError: If the server refuses it: a wrong parameter, no right.
            TransientError: If the server's answer was lost: the run may be there.
        """
        made = self._once(
            "starting the run",
            lambda: self._client.run_pipeline(
                experiment,
                name,
                pipeline_id=version[0],
                version_id=version[1],
                params=dict(parameters),
                service_account=service_account,
            ),
        )
        return made.run_id

    def get_run(self, run_id: str) -> Any:
        """Return a run, with its tasks, or None if there is none.

        Raises:
            InputError: If it may not be read.
            TransientError: If the server does not answer for long.
        """
        try:
            return self._call(
                "the run",
                lambda: self._client._run_api.run_service_get_run(
                    run_id=run_id, _request_timeout=_TIMEOUT
                ),
            )
        except NotThereError:
            return None

    def _pipelines(self, name: str) -> list[Any]:
        found = self._client.list_pipelines(filter=_named(name), namespace=self._namespace)
        return found.pipelines or []

    def _versions(self, pipeline: str, version: str) -> list[Any]:
        found = self._client.list_pipeline_versions(pipeline, filter=_named(version))
        return found.pipeline_versions or []

    def _new_pipeline(self, package: Path, name: str) -> None:
        with _already_there():
            self._client.upload_pipeline(
                str(package), pipeline_name=name, namespace=self._namespace
            )

    def _new_version(self, package: Path, pipeline: str, version: str) -> None:
        with _already_there():
            self._client.upload_pipeline_version(str(package), version, pipeline_id=pipeline)

    def _call(self, what: str, call: Callable[[], T], patience: float | None = None) -> T:
        """Make a call that may be repeated, with retries until the server answers."""
        return retry(
            lambda: self._once(what, call),
            patience=self._patience if patience is None else patience,
            notice=self._say,
            quiet=5,
        )

    def _once(self, what: str, call: Callable[[], T]) -> T:
        from kfp_server_api import ApiException
        from urllib3.exceptions import HTTPError

        try:
            # KFP prints links of its own.
            with contextlib.redirect_stdout(io.StringIO()):
                return call()
        except ApiException as e:
            message = f"Kubeflow Pipelines, {what}: {e.status} {_error_message(e)}"
            if e.status in _TRANSIENT:
                raise TransientError(message) from e
            if e.status in (401, 403):
                message += "; log in to it (KFP's own settings), or give --namespace"
            raise (NotThereError if e.status == 404 else InputError)(message) from e
        except (HTTPError, OSError) as e:
            raise TransientError(f"Kubeflow Pipelines does not answer ({what}): {e}") from e
        except ValueError as e:  # what KFP's client refuses by itself
            raise InputError(f"Kubeflow Pipelines, {what}: {e}") from e


class NotThereError(InputError):
    """The server has nothing by that id."""


def _connect(endpoint: str | None, namespace: str | None) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import kfp

        # KFP's own default means that there is no namespace of the user.
        client: Any = kfp.Client(host=endpoint, namespace=namespace or "kubeflow")
    check_health(client, _TIMEOUT)
    return client


def _named(name: str) -> str:
    predicate = {"operation": "EQUALS", "key": "display_name", "stringValue": name}
    return json.dumps({"predicates": [predicate]})


@contextlib.contextmanager
def _already_there() -> Any:
    """Accept that another process has uploaded the same thing first."""
    from kfp_server_api import ApiException

    try:
        yield
    except ApiException as e:
        if e.status != 409:
            raise


def _error_message(error: Any) -> str:
    """Return the message in an answer that reports an error."""
    try:
        body = json.loads(error.body or "")
        text = body.get("message") or body.get("error_message") or body.get("error") or ""
    except (ValueError, AttributeError):
        text = str(error.body or error.reason or "")
    return " ".join(str(text).split())[:1000]
