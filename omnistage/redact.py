"""Make text fit to be shown: URLs without passwords and tokens, no value of a secret variable.

Used at every border where text leaves the process: errors, events, logs, manifests, run folders
and records of runs.
"""

import os
import re
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

_SECRET = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?)(_ID)?$", re.IGNORECASE)
_URL_VARIABLE = re.compile(r"(URLS?|URI|PROXY|ENDPOINT)$", re.IGNORECASE)
_PARAMETER = (
    r"(token|sig|sign|signature|key|key_?id|secret|passw(or)?d|pwd|auth|"
    r"credentials?|jwt|hdn(ts|ea))"
)
_SECRET_PARAMETER = re.compile(_PARAMETER + "$", re.IGNORECASE)
_PASSED = re.compile(rf"([?&#][\w.%-]*{_PARAMETER}=)[^&\s#\"'<>]*", re.IGNORECASE)
_USER_NAME = re.compile(r"[a-z][a-z0-9_.-]*")
_SHORTEST = 6  # characters: a shorter value would be found in words too
_USER = re.compile(r"(?<=://)[^/\s?#\"'<>]*@")
_QUERY = re.compile(r"(?<=\w)(://[^\s?#\"'<>]*)\?([^\s#\"'<>]*)")
_VALUE = re.compile(r"=[^&;]*")
_HEADER = re.compile(r"\b(Bearer|Basic)\s+[\w+/=.~-]{8,}", re.IGNORECASE)
HIDDEN = "***"


def redact(text: str) -> str:
    """Return text without secrets.

    Of a URL the user and password go, and the values of its query, whose names stay: a signature
    has many names. Of the path of a URL alone the values of parameters that are named as secrets
    go. Values of environment variables that are named as secrets (``…_TOKEN``, ``…_KEY``, …) and
    the secrets of URLs in those that hold some go too, wherever they stand; but not a key's id in
    small letters, which is a user's name.

    >>> redact("https://me:word@host/a?X-Amz-Signature=ab12&part=1: refused")
    'https://***@host/a?X-Amz-Signature=***&part=*** refused'
    """
    text = _USER.sub(f"{HIDDEN}@", text)
    text = _QUERY.sub(lambda m: f"{m[1]}?{_VALUE.sub('=' + HIDDEN, m[2])}", text)
    text = _PASSED.sub(rf"\1{HIDDEN}", text)
    text = _HEADER.sub(rf"\1 {HIDDEN}", text)
    for secret in _secrets():
        text = text.replace(secret, HIDDEN)
    return text


def redacted(value: Any) -> Any:
    """Return a JSON value with every text in it redacted."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {key: redacted(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [redacted(item) for item in value]
    return value


def secrets_of(url: str) -> dict[str, str]:
    """Return the secrets in a URL, what each is to its value.

    >>> secrets_of("https://me:word@host/a?X-Amz-Signature=ab12&part=1")
    {'user and password': 'me:word', 'X-Amz-Signature': 'ab12'}
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return {}
    login, at, _ = parts.netloc.rpartition("@")
    given = parse_qsl(f"{parts.query}&{parts.fragment}")
    named = {name: value for name, value in given if _SECRET_PARAMETER.search(name)}
    return {**({"user and password": login} if at else {}), **named}


def _secrets() -> list[str]:
    """Return the secrets of this process's environment, the longest first."""
    found: set[str] = set()
    for name, value in os.environ.items():
        if _SECRET.search(name):
            # Of a store of one's own the key's id is a user's name, which a bucket may have too.
            if not (name.upper().endswith("_ID") and _USER_NAME.fullmatch(value.strip())):
                found.add(value.strip())
        elif _URL_VARIABLE.search(name) and "://" in value:
            for url in value.split():
                found |= _secret_texts(url)
    return sorted((s for s in found if len(s) >= _SHORTEST), key=len, reverse=True)


def _secret_texts(url: str) -> set[str]:
    """Return how the secrets of a URL may be written: as they stand there, and decoded."""
    parts = secrets_of(url)
    login = parts.pop("user and password", "")
    password = login.partition(":")[2]
    quoted = {value for word in url.split("&") for value in [word.rpartition("=")[2]]}
    values = set(parts.values())
    return {password, unquote(password), *values, *(q for q in quoted if unquote(q) in values)}
