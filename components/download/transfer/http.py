"""Byte ranges over HTTP, with every fault named as transient or final.

urllib3 and not httpx, which the hub's client uses: measured over loopback, a core receives
2.5 GB/s with the one and 0.6 GB/s with the other.
"""

import contextlib
import email.utils
import re
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

import orjson
import urllib3
from urllib3.exceptions import HTTPError, LocationValueError

from components.download.transfer.networks import GuardedPools, GuardedProxy
from components.download.transfer.remote_file import Place
from omnistage.errors import InputError, TransientError

_CHUNK = 1 << 18  # bytes asked for at a time
_SLOWEST = 1000  # bytes per second below which a connection counts as stalled
_LONGEST_WAIT = 120.0  # seconds a server may make us wait with Retry-After
_TRANSIENT = {408, 425, 429, 500, 502, 503, 504, 507, 509, 520, 521, 522, 523, 524, 529}


@dataclass(frozen=True)
class Header:
    """What a server says of a file."""

    size: int | None
    etag: str | None
    ranges: bool


class Http:
    """Connections to any server, kept open between requests; safe for several threads.

    Args:
        connections: Kept open to one server at most.
        stall_seconds: Silence, or less than 1 kB/s, after which a connection is given up.
    """

    def __init__(self, connections: int, stall_seconds: float) -> None:
        self._stall = stall_seconds
        self._settings = {
            "maxsize": connections,
            "timeout": urllib3.Timeout(connect=min(stall_seconds, 30), read=stall_seconds),
            "retries": urllib3.Retry(
                total=10, connect=0, read=0, status=0, other=0, redirect=10, raise_on_status=False
            ),
        }
        self._pools: dict[str | None, urllib3.PoolManager] = {}

    def header(self, place: Place) -> Header:
        """Ask for one byte of a file, and so for its size, its entity tag and ranges.

        Raises:
            TransientError: If it may work the next time.
            InputError: If it never will.
        """
        with self._get(place, "bytes=0-0") as response:
            etag = response.headers.get("ETag")
            strong = etag if etag and not etag.startswith("W/") else None
            if response.status == 206 or _is_part(response):
                total = re.fullmatch(r"bytes 0-0/(\d+)", _content_range(response))
                return Header(int(total[1]) if total else None, strong, total is not None)
            length = response.headers.get("Content-Length")
            empty = response.status == 416
            return Header(0 if empty else int(length) if length else None, strong, False)

    def json(self, place: Place) -> Any:
        """Fetch a JSON document.

        Raises:
            TransientError: If it may work the next time.
            InputError: If it never will.
        """
        with self._get(place, None) as response:
            try:
                return orjson.loads(response.read(decode_content=True))
            except (HTTPError, OSError) as e:
                raise TransientError(f"the connection broke: {_text(e)}") from e
            except orjson.JSONDecodeError as e:
                raise TransientError(f"the answer is not JSON: {_text(e)}") from e

    @contextlib.contextmanager
    def range(
        self, place: Place, start: int, end: int | None, size: int | None, etag: str | None
    ) -> Iterator[Iterator[bytes]]:
        """Open a range of a file.

        Args:
            place: Where it is served.
            start: First byte.
            end: Byte after the last, or None for the end of the file.
            size: What the whole must have, when known.
            etag: What it must be, when known.

        Yields:
            The bytes from ``start`` on. Fewer than asked for means a dropped connection; never
            more.

        Raises:
            TransientError: If it may work the next time.
            InputError: If it never will.
        """
        whole = start == 0 and (end is None or end == size)
        wanted = None if whole else f"bytes={start}-{'' if end is None else end - 1}"
        with self._get(place, wanted) as response:
            if response.status == 416:
                raise TransientError(f"the server has no byte {start} of it")
            self._check(response, start, size, etag)
            skip = start if response.status == 200 and not _is_part(response) else 0
            yield self._bytes(response, skip, None if end is None else end - start)

    @staticmethod
    def _check(
        response: urllib3.BaseHTTPResponse, start: int, size: int | None, etag: str | None
    ) -> None:
        found = response.headers.get("ETag")
        if etag and found and found != etag:
            raise TransientError(f"the file changed on the server (entity tag {found}, was {etag})")
        if response.status == 206 or _is_part(response):
            said = _content_range(response)
            parts = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", said)
            if not parts or int(parts[1]) != start:
                raise TransientError(f"the server answered with the wrong range {said!r}")
            total = parts[2]
        else:
            total = response.headers.get("Content-Length", "*")
        if size is not None and total != "*" and int(total) != size:
            raise TransientError(f"the server has {total} bytes, {size} were expected")

    def _bytes(
        self, response: urllib3.BaseHTTPResponse, skip: int, count: int | None
    ) -> Iterator[bytes]:
        waited, received = 0.0, 0
        while count is None or count > 0:
            began = time.monotonic()
            try:
                data = response.read1(_CHUNK, decode_content=False)
            except (HTTPError, OSError) as e:
                raise TransientError(f"the connection broke: {_text(e)}") from e
            if not data:
                return
            waited += time.monotonic() - began
            received += len(data)
            if waited > self._stall:
                if received < _SLOWEST * waited:
                    raise TransientError(f"the line stalls: {received} bytes in {waited:.0f} s")
                waited, received = 0.0, 0
            if skip:
                dropped = min(skip, len(data))
                skip -= dropped
                data = data[dropped:]
                if not data:
                    continue
            if count is not None:
                data = data[:count]
                count -= len(data)
            yield data

    @contextlib.contextmanager
    def _get(self, place: Place, wanted: str | None) -> Iterator[urllib3.BaseHTTPResponse]:
        headers = {"Accept-Encoding": "identity", **place.headers}
        if wanted:
            headers["Range"] = wanted
        try:
            response = self._pool(place.url).request(
                "GET", place.url, headers=headers, preload_content=False
            )
        except LocationValueError as e:
            raise InputError(f"{shown(place.url)}: not a valid address: {e}") from e
        except (HTTPError, OSError) as e:
            raise TransientError(_text(e)) from e
        try:
            if response.status not in (200, 206, 416):
                raise _refusal(response, place.url)
            yield response
        finally:
            if response.length_remaining == 0:
                response.drain_conn()
                response.release_conn()
            else:
                response.close()

    def _pool(self, url: str) -> urllib3.PoolManager:
        parts = urlsplit(url)
        proxies = urllib.request.getproxies()
        proxy = proxies.get(parts.scheme)
        if proxy and urllib.request.proxy_bypass(parts.netloc):
            proxy = None
        if proxy not in self._pools:
            self._pools[proxy] = (
                GuardedProxy(proxy, proxy_headers=_proxy_credentials(proxy), **self._settings)
                if proxy
                else GuardedPools(**self._settings)
            )
        return self._pools[proxy]


def _proxy_credentials(proxy: str) -> dict[str, str]:
    """Return the header with user and password of a proxy's address, which urllib3 leaves out."""
    parts = urlsplit(proxy)
    if parts.username is None:
        return {}
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return urllib3.make_headers(proxy_basic_auth=pair)


def _content_range(response: urllib3.BaseHTTPResponse) -> str:
    return response.headers.get("Content-Range", "").strip()


def _is_part(response: urllib3.BaseHTTPResponse) -> bool:
    """Whether a 200 is a range nevertheless; ModelScope serves the one and says the other."""
    return response.status == 200 and _content_range(response).startswith("bytes ")


def shown(url: str) -> str:
    """Return an address without what may be secret in it: user, password, query."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _refusal(response: urllib3.BaseHTTPResponse, url: str) -> Exception:
    status = response.status
    if status in _TRANSIENT or status >= 500:
        return TransientError(f"the server answered {status}", _wait(response))
    advice = {
        401: "it wants credentials: set the source's token, or the address with its password in "
        "OMNISTAGE_SIGNED_URLS, in the environment",
        403: "access is denied: accept the licence on its page, or set a token or signed address "
        "(OMNISTAGE_SIGNED_URLS) that may read it",
        404: "it is not there: check the name and the revision",
        410: "it was removed",
    }.get(status, response.reason or "")
    return InputError(f"{shown(url)}: the server answered {status}; {advice}")


def _wait(response: urllib3.BaseHTTPResponse) -> float | None:
    """Return the seconds of a Retry-After header, which also may be a date."""
    said = response.headers.get("Retry-After", "").strip()
    if said.isdigit():
        return min(float(said), _LONGEST_WAIT)
    date = email.utils.parsedate_tz(said) if said else None
    if date is None:
        return None
    return min(max(0.0, email.utils.mktime_tz(date) - time.time()), _LONGEST_WAIT)


def _text(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
