"""Addresses with a signature, a token or a password: the secret part comes from the environment.

Settings travel through specs, compiled packages and manifests, so they hold the plain address, and
``OMNISTAGE_SIGNED_URLS`` the whole one.
"""

import os
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

import urllib3

from components.download.transfer.remote_file import Place
from omnistage.errors import InputError
from omnistage.recipe.errors import SIGNED_VARIABLE


def signed_place(url: str) -> Place:
    """Return where a plain address is fetched: as the environment has it with its secrets.

    An address of the environment stands for the one that has the same path and no parameters but
    its own, and, if its path ends in a slash, for all addresses below it, which get its parameters.

    Raises:
        InputError: If the environment variable holds something else than addresses.
    """
    asked = urlsplit(url)
    wanted = _parameters(asked.query)
    for entry in os.environ.get(SIGNED_VARIABLE, "").split():
        parts = _split(entry)
        login, _, host = parts.netloc.rpartition("@")
        if (parts.scheme, host) != (asked.scheme, asked.netloc):
            continue
        given = _parameters(parts.query)
        if asked.path == parts.path and set(wanted) <= set(given):
            query = given
        elif parts.path.endswith("/") and asked.path.startswith(parts.path):
            query = [*wanted, *given]
        else:
            continue
        whole = urlunsplit((asked.scheme, host, asked.path, "&".join(query), ""))
        return Place(whole, _credentials(login))
    return Place(url)


def _split(entry: str) -> SplitResult:
    try:
        parts = urlsplit(entry)
    except ValueError as e:
        raise InputError(f"{SIGNED_VARIABLE}: not an address: {e}") from e
    if parts.scheme not in {"http", "https"} or not parts.netloc:
        raise InputError(
            f"{SIGNED_VARIABLE}: expected addresses that begin with https://, separated by white "
            "space"
        )
    return parts


def _parameters(query: str) -> list[str]:
    return [p for p in query.split("&") if p]


def _credentials(login: str) -> dict[str, str]:
    if not login:
        return {}
    user, _, password = login.partition(":")
    return urllib3.make_headers(basic_auth=f"{unquote(user)}:{unquote(password)}")
