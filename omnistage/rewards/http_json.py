"""One JSON request to a reward server, with patience for transient errors."""

import os
import time
from typing import Any

from omnistage.errors import InputError, TransientError

TRIES = 5
TIMEOUT = 180.0
_TRANSIENT = {408, 409, 425, 429}


def post_json(
    url: str,
    payload: Any,
    *,
    headers: dict[str, str] | None = None,
    tries: int = TRIES,
    timeout: float = TIMEOUT,
    first_wait: float = 1.0,
) -> Any:
    """Post a JSON body and return the JSON answer.

    Lost connections, time-outs, server errors (5xx), 408, 409, 425 and 429 are tried again, the
    wait doubling each time.

    Args:
        url: Full address.
        payload: What to send, as JSON.
        headers: Extra request headers.
        tries: How often to ask in all.
        timeout: Seconds to wait for one answer.
        first_wait: Seconds before the second try.

    Raises:
        InputError: If the server refuses the request (another 4xx) or answers no JSON.
        TransientError: If the last try failed too.
    """
    import httpx  # only where a server is asked: recipes are checked without it

    fault = ""
    for attempt in range(tries):
        if attempt:
            time.sleep(first_wait * 2 ** (attempt - 1))
        try:
            response = httpx.post(url, json=payload, headers=headers, timeout=timeout)
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as e:
            raise InputError(f"{url!r} is not an address of a reward server: {e}") from e
        except httpx.TransportError as e:
            fault = f"{type(e).__name__}: {e}"
            continue
        if response.status_code in _TRANSIENT or response.status_code >= 500:
            fault = f"HTTP {response.status_code}"
            continue
        if not response.is_success:
            raise InputError(f"{url} refused the request: HTTP {response.status_code}")
        try:
            return response.json()
        except ValueError as e:
            raise InputError(f"{url} did not answer JSON: {response.text[:80]!r}") from e
    raise TransientError(f"{url} did not answer in {tries} tries; the last fault: {fault}")


def required_variable(name: str, what: str) -> str:
    """Return an environment variable.

    Raises:
        InputError: If it is not set; the message says what it is for.
    """
    value = os.environ.get(name, "").strip()
    if not value:
        raise InputError(f"set {name} to {what}")
    return value
