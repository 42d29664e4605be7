"""A thin client of the Kubernetes API that retries transient API-server errors.

Objects are plain dicts, as in their manifests. A call is repeated, with back-off, while the server
answers 408, 410, 429 or 5xx or drops the connection: an API server that is upgraded or overloaded
for minutes must not cost a training run of days. A call that the server refuses raises
:class:`ApiError`.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from urllib.parse import quote, urlencode

import urllib3

from omnistage.errors import InputError, StageFailedError, TransientError
from omnistage.retry import Clock, retry

TRANSIENT = frozenset({408, 410, 429, 500, 502, 503, 504})
"""Statuses after which the same call may succeed."""
_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_TIMEOUT = urllib3.Timeout(connect=10, read=60)
_PATIENCE = 1800.0


class Kind(Protocol):
    """A kind of object in the API; the core group is the empty one."""

    @property
    def group(self) -> str:
        """The API group."""
        ...

    @property
    def version(self) -> str:
        """Its version."""
        ...

    @property
    def plural(self) -> str:
        """Of the kind, in lower case."""
        ...


class Resource(NamedTuple):
    """A kind of object that is only read or checked."""

    group: str
    version: str
    plural: str


PODS = Resource("", "v1", "pods")
EVENTS = Resource("", "v1", "events")
CONFIG_MAPS = Resource("", "v1", "configmaps")
WORKLOADS = Resource("kueue.x-k8s.io", "v1beta1", "workloads")
WORKFLOWS = Resource("argoproj.io", "v1alpha1", "workflows")
_REVIEWS = Resource("authorization.k8s.io", "v1", "selfsubjectaccessreviews")


class ApiError(StageFailedError):
    """The API server refused a call; the message is its own."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class DroppedError(TransientError):
    """A stream broke before its end."""


class Api:
    """Calls one cluster.

    Args:
        client: ``kubernetes.client.ApiClient`` that has the address and the credentials.
        notice: Told, now and then, that a call keeps failing and is repeated.
        patience: Seconds for which one call is repeated before it is a :class:`TransientError`.
        clock: Waits and tells the time, here and for those who watch jobs.
    """

    def __init__(
        self,
        client: Any,
        notice: Callable[[str], None] | None = None,
        patience: float = _PATIENCE,
        clock: Clock = time,
    ) -> None:
        self.clock = clock
        self._client = client
        self._pool: urllib3.PoolManager = client.rest_client.pool_manager
        self._notice = notice or (lambda text: print(text, file=sys.stderr, flush=True))
        self._patience = patience
        self._offset = 0.0
        self._namespace = "default"

    @classmethod
    def connect(
        cls, notice: Callable[[str], None] | None = None, patience: float = _PATIENCE
    ) -> "Api":
        """Connect as the pod this runs in, else as the kubeconfig says.

        Args:
            notice: As of the class.
            patience: As of the class.

        Raises:
            InputError: If there is neither, or the Kubernetes client is not installed.
        """
        try:
            from kubernetes import client, config
        except ImportError as e:
            raise InputError(
                "the kubernetes package is missing: uv sync --extra pipeline, or the launcher image"
            ) from e
        settings: Any = client.Configuration()
        namespace = "default"
        try:
            if _SERVICE_ACCOUNT.joinpath("token").exists():
                config.load_incluster_config(client_configuration=settings)
                namespace = _SERVICE_ACCOUNT.joinpath("namespace").read_text().strip()
            else:
                # By default the package reads the variable once, when it is imported.
                files = os.environ.get("KUBECONFIG") or None
                config.load_kube_config(files, client_configuration=settings)
                context = config.list_kube_config_contexts(files)[1]["context"]
                namespace = context.get("namespace") or namespace
        except config.ConfigException as e:
            raise InputError(
                f"no cluster to talk to: {e}; set KUBECONFIG, or check with `kubectl cluster-info`"
            ) from e
        settings.retries = False
        settings.connection_pool_maxsize = 64
        api = cls(client.ApiClient(settings), notice, patience)
        api._namespace = namespace
        return api

    def own_namespace(self) -> str:
        """Return the namespace of this pod, or of the kubeconfig's context."""
        return self._namespace

    def now(self) -> float:
        """Return the API server's time, in seconds since the epoch, by its latest answer."""
        return self.clock.time() + self._offset

    def get(self, kind: Kind, namespace: str, name: str) -> dict[str, Any] | None:
        """Return an object, or ``None`` if there is none."""
        try:
            return self._json("GET", _path(kind, namespace, name))
        except ApiError as e:
            if e.status == 404:
                return None
            raise

    def list(
        self, kind: Kind, namespace: str = "", *, labels: str = "", fields: str = ""
    ) -> list[dict[str, Any]]:
        """Return the objects that the selectors choose; of all namespaces without one.

        Raises:
            ApiError: With status 404 if the cluster does not know the kind.
        """
        query = {"labelSelector": labels, "fieldSelector": fields}
        return self._json("GET", _path(kind, namespace), query=query)["items"]

    def create(
        self, kind: Kind, namespace: str, manifest: Mapping[str, Any], *, patience: float = 300
    ) -> dict[str, Any]:
        """Create an object and return it as stored.

        A call whose answer was lost is repeated, so status 409 may mean one's own first try.
        """
        return self._json("POST", _path(kind, namespace), body=manifest, patience=patience)

    def patch(
        self, kind: Kind, namespace: str, name: str, change: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Apply a JSON merge patch; a stale ``metadata.resourceVersion`` in it gives status 409."""
        return self._json(
            "PATCH",
            _path(kind, namespace, name),
            body=change,
            content_type="application/merge-patch+json",
        )

    def delete(
        self, kind: Kind, namespace: str, name: str, *, uid: str = "", resource_version: str = ""
    ) -> bool:
        """Delete an object, and then what it owns; return whether it was there.

        What it owns goes in the background: Trainer 2.3 makes a TrainJob's JobSet anew, pods and
        all, while the TrainJob waits for its dependants to go (foreground).

        Args:
            kind: Of the object.
            namespace: Of the object.
            name: Of the object.
            uid: Only the object with this uid; one that took its name since is left alone.
            resource_version: Only if the object is unchanged.

        Raises:
            ApiError: With status 409 if it changed since ``resource_version``.
        """
        only = {"uid": uid, "resourceVersion": resource_version}
        body = {
            "kind": "DeleteOptions",
            "apiVersion": "v1",
            "propagationPolicy": "Background",
            "preconditions": {name: value for name, value in only.items() if value},
        }
        try:
            self._json("DELETE", _path(kind, namespace, name), body=body)
        except ApiError as e:
            if e.status == 404:
                return False
            if e.status == 409 and uid and not resource_version:
                return False
            raise
        return True

    def can_i(
        self, verb: str, group: str, resource: str, namespace: str, *, name: str = ""
    ) -> bool:
        """Return whether these credentials may do something; ``resource`` may be ``pods/log``."""
        plural, _, sub = resource.partition("/")
        attributes = {
            "verb": verb,
            "group": group,
            "resource": plural,
            "subresource": sub,
            "namespace": namespace,
            "name": name,
        }
        review = self.create(_REVIEWS, "", {"spec": {"resourceAttributes": attributes}})
        return bool(review["status"]["allowed"])

    def log_lines(
        self, namespace: str, pod: str, container: str, *, since: str = "", follow: bool = True
    ) -> Iterator[str]:
        """Yield the lines of a container's log as they come, each after its time stamp.

        Args:
            namespace: Of the pod.
            pod: Its name.
            container: Its container.
            since: RFC 3339 time, to the second, before which lines are left out.
            follow: Whether to wait for further lines until the container ends.

        Raises:
            DroppedError: If the connection breaks, or there was no line for a minute.
            ApiError: If there is no such log (404), or not yet (400).
        """
        query = {"container": container, "timestamps": "true", "sinceTime": since}
        if follow:
            query["follow"] = "true"
        response = self._request(
            "GET", _path(PODS, namespace, pod, "log"), query=query, stream=True
        )
        rest = b""
        try:
            for chunk in response.stream(65536):
                *lines, rest = (rest + chunk).split(b"\n")
                yield from (line.decode(errors="replace") for line in lines)
        except (urllib3.exceptions.HTTPError, OSError) as e:
            raise DroppedError(f"the log of {pod} broke off: {e}") from e
        finally:
            response.close()
        if rest:
            yield rest.decode(errors="replace")

    def _json(self, method: str, path: str, **options: Any) -> Any:
        return json.loads(self._request(method, path, **options).data)

    def _request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        content_type: str = "application/json",
        stream: bool = False,
        patience: float | None = None,
    ) -> urllib3.BaseHTTPResponse:
        chosen = {name: value for name, value in (query or {}).items() if value}
        url = self._client.configuration.host + path
        if chosen:
            url += f"?{urlencode(chosen)}"
        data = None if body is None else json.dumps(body)
        headers = {"Accept": "*/*" if stream else "application/json", "Content-Type": content_type}

        def once() -> urllib3.BaseHTTPResponse:
            sent = dict(headers)
            self._client.update_params_for_auth(sent, [], ["BearerToken"])
            return self._once(method, url, sent, data, stream)

        limit = min(self._patience, patience or self._patience)
        notice, clock = self._notice, self.clock
        return retry(
            once, patience=limit, first=0.2, longest=10, jitter=0.5, notice=notice, clock=clock
        )

    def _once(
        self, method: str, url: str, headers: dict[str, str], data: str | None, stream: bool
    ) -> urllib3.BaseHTTPResponse:
        """Make one call.

        Raises:
            ApiError: If the server refuses it.
            TransientError: If the same call may succeed later.
        """
        host = self._client.configuration.host
        wait = 0.0
        try:
            response = self._pool.request(
                method,
                url,
                headers=headers,
                body=data,
                preload_content=not stream,
                timeout=_TIMEOUT,
                retries=False,
            )
            if 200 <= response.status < 300:
                self._set_clock(response)
                return response
            said = error_message(response)
            if response.status not in TRANSIENT:
                raise ApiError(response.status, said)
            wait = _retry_after(response)
        except (urllib3.exceptions.HTTPError, OSError) as e:
            said = str(e)
            if "CERTIFICATE_VERIFY_FAILED" in said:
                raise InputError(f"{host} is not the cluster of the kubeconfig: {said}") from e
        path = url.removeprefix(host)
        raise TransientError(f"the API server at {host}: {method} {path}: {said}", wait)

    def _set_clock(self, response: urllib3.BaseHTTPResponse) -> None:
        date = response.headers.get("Date")
        if date:
            self._offset = parsedate_to_datetime(date).timestamp() - self.clock.time()
            # The header is cut to whole seconds.
            self._offset = 0.0 if abs(self._offset) < 2 else self._offset


def seconds(stamp: str | None) -> float | None:
    """Return a time of the Kubernetes API as seconds since the epoch."""
    return datetime.fromisoformat(stamp).timestamp() if stamp else None


def _path(kind: Kind, namespace: str, name: str = "", sub: str = "") -> str:
    root = f"/apis/{kind.group}/{kind.version}" if kind.group else f"/api/{kind.version}"
    parts = ["namespaces", namespace] if namespace else []
    return "/".join([root, *map(quote, filter(None, [*parts, kind.plural, name, sub]))])


def error_message(response: urllib3.BaseHTTPResponse) -> str:
    """Return the status and the server's own words."""
    text = response.data.decode(errors="replace").strip()
    try:
        message = json.loads(text).get("message") or text
    except (ValueError, AttributeError):
        message = text
    return f"{response.status} {message[:4000]}"


def _retry_after(response: urllib3.BaseHTTPResponse) -> float:
    value = response.headers.get("Retry-After", "")
    return min(float(value), 60.0) if value.isdigit() else 0.0
