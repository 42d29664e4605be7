"""JSON requests to a judge or a reward server: where it is, how patiently it is asked."""

import os
from functools import cache
from typing import Any

from pydantic import Field

from omnistage.errors import InputError, TransientError
from omnistage.files import counted
from omnistage.retry import retry
from omnistage.settings import Settings, operational

URL_VARIABLE = "OMNISTAGE_JUDGE_URL"
MODEL_VARIABLE = "OMNISTAGE_JUDGE_MODEL"
KEY_VARIABLE = "OMNISTAGE_JUDGE_API_KEY"
SETTINGS_VARIABLE = "OMNISTAGE_JUDGE_SETTINGS"
CACHE_VARIABLE = "OMNISTAGE_JUDGEMENTS"
"""Folder or s3:// URI where judgements are kept; the stage sets it to a place in its store."""

_TRANSIENT = {408, 409, 425, 429}


class JudgeSettings(Settings):
    """How the rewards that ask a server ask it."""

    url: str = Field(
        default="",
        description="Base address of an OpenAI-compatible endpoint, http://host:8000/v1; by "
        f"default `{URL_VARIABLE}`.",
        json_schema_extra=operational(),
    )
    model: str = Field(
        default="", description=f"Name of the model that judges; by default `{MODEL_VARIABLE}`."
    )
    concurrency: int = Field(
        default=16,
        ge=1,
        le=1000,
        description="Requests under way at a time, of a training process.",
        json_schema_extra=operational(),
    )
    tries: int = Field(
        default=5, ge=1, description="Tries of a request.", json_schema_extra=operational()
    )
    timeout: float = Field(
        default=180.0,
        gt=0,
        description="Seconds to wait for one answer.",
        json_schema_extra=operational(),
    )
    first_wait: float = Field(
        default=1.0,
        ge=0,
        description="Seconds before the second try; doubled each time.",
        json_schema_extra=operational(),
    )
    budget: int | None = Field(
        default=None,
        ge=1,
        description="Requests that a training process may make; then the run ends. No limit by "
        "default. Kept judgements cost none.",
        json_schema_extra=operational(),
    )

    def variables(self) -> dict[str, str]:
        """Return the environment by which a training process learns these settings."""
        found = {SETTINGS_VARIABLE: self.model_dump_json()}
        found |= {URL_VARIABLE: self.url} if self.url else {}
        return found | ({MODEL_VARIABLE: self.model} if self.model else {})


def judge_settings() -> JudgeSettings:
    """Return the settings that the environment holds; those of a recipe, else the defaults."""
    return JudgeSettings.model_validate_json(os.environ.get(SETTINGS_VARIABLE) or "{}")


def post_json(
    url: str,
    payload: Any,
    *,
    headers: dict[str, str] | None = None,
    settings: JudgeSettings | None = None,
) -> Any:
    """Post a JSON body and return the JSON answer.

    Lost connections, time-outs, server errors (5xx), 408, 409, 425 and 429 are tried again, the
    wait doubling each time, or as long as the server's ``Retry-After`` says.

    Args:
        url: Full address.
        payload: What to send, as JSON.
        headers: Extra request headers.
        settings: Tries, time-out and waits; those of the environment by default.

    Raises:
        InputError: If the server refuses the request (another 4xx) or answers no JSON.
        TransientError: If the last try failed too.
    """
    settings = settings or judge_settings()
    try:
        return retry(
            lambda: _post(url, payload, headers, settings.timeout),
            tries=settings.tries,
            first=settings.first_wait,
            longest=60.0,
        )
    except TransientError as e:
        raise TransientError(
            f"{url} did not answer in {counted(settings.tries, 'try', 'tries')}: {e}"
        ) from e


def _post(url: str, payload: Any, headers: dict[str, str] | None, timeout: float) -> Any:
    import httpx  # only where a server is asked: recipes are checked without it

    try:
        response = _client().post(url, json=payload, headers=headers, timeout=timeout)
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as e:
        raise InputError(f"{url!r} is not an address of a reward server: {e}") from e
    except httpx.TransportError as e:
        raise TransientError(f"{type(e).__name__}: {e}") from e
    if response.status_code in _TRANSIENT or response.status_code >= 500:
        after = response.headers.get("Retry-After", "")
        wait = min(60.0, float(after)) if after.isdecimal() else None
        raise TransientError(f"HTTP {response.status_code}", wait)
    if not response.is_success:
        raise InputError(f"{url} refused the request: HTTP {response.status_code}")
    try:
        return response.json()
    except ValueError as e:
        raise InputError(f"{url} did not answer JSON: {response.text[:80]!r}") from e


@cache
def _client() -> Any:
    """Return this process's client, which keeps connections open."""
    import httpx

    return httpx.Client(limits=httpx.Limits(max_connections=None))


def utf8(text: str) -> str:
    """Return a text with question marks in place of lone surrogates, which UTF-8 cannot hold."""
    return text.encode("utf-8", "replace").decode("utf-8")


def required_variable(name: str, what: str) -> str:
    """Return an environment variable.

    Raises:
        InputError: If it is not set; the message says what it is for.
    """
    value = os.environ.get(name, "").strip()
    if not value:
        raise InputError(f"set {name} to {what}")
    return value
