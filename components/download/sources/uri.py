"""Sources as one URI: what a parameter of a submitted run says instead of a recipe's section.

===========================  ==============================================================
``hf://owner/name@revision``  a repository of the Hugging Face hub; ``hub:`` says the same
``modelscope://owner/name``   a model of ModelScope, ``@revision`` too
``s3://bucket/prefix``        objects of a bucket
``https://host/file.zip``     one file
``file:///folder``            a folder of a mounted volume
===========================  ==============================================================
"""

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote, urlsplit

from components.download.fingerprint import folder_fingerprint
from omnistage.errors import InputError
from omnistage.recipe.errors import secret_in_address

_HELP = (
    "expected hf://owner/name@revision, modelscope://owner/name@revision, s3://bucket/prefix, "
    "https://host/file or file:///folder"
)
_HUB = re.compile(r"(?P<repo>[^/@\s]+(/[^/@\s]+)?)(@(?P<revision>[^@\s]+))?")
_MODELSCOPE = re.compile(r"(?P<repo>[^/@\s]+/[^/@\s]+)(@(?P<revision>[^@\s]+))?")


def parse_source(uri: str) -> dict[str, Any]:
    """Return the source that a URI names, as an entry of a recipe's ``sources``.

    Raises:
        InputError: If it is none of the forms above, or an address with a secret in it.
    """
    if tip := secret_in_address(uri):
        raise InputError(f"source {uri}: {tip}")
    scheme, colon, rest = uri.partition(":")
    name = rest.removeprefix("//")
    if colon and scheme in {"hf", "hub"} and (found := _HUB.fullmatch(name)):
        return {"type": "hub", "repo": found["repo"], **_revision(found)}
    if colon and scheme == "modelscope" and (found := _MODELSCOPE.fullmatch(name)):
        return {"type": "modelscope", "model": found["repo"], **_revision(found)}
    if scheme in {"s3", "http", "https", "file"} and rest.startswith("//"):
        try:
            parts = urlsplit(uri)
        except ValueError as e:
            raise InputError(f"source {uri!r}: {e}; {_HELP}") from e
        if scheme == "s3" and parts.netloc:
            return {"type": "s3", "uri": uri}
        if scheme in {"http", "https"} and parts.netloc and not parts.path.endswith("/"):
            return {"type": "https", "files": [{"url": uri}]}
        if scheme == "file" and parts.netloc in {"", "localhost"} and len(parts.path) > 1:
            return {"type": "folder", "path": unquote(parts.path)}
    raise InputError(f"source {uri!r}: {_HELP}")


def with_source(uri: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return a function that puts a source in the place of those of a download's settings.

    The hashes that the settings state are those of the other files, so they are left out. A folder
    gets the fingerprint of what is in it now.

    Args:
        uri: The source; empty to leave the settings as they are.
    """

    def change(config: dict[str, Any]) -> dict[str, Any]:
        if not uri:
            return config
        source = parse_source(uri)
        if source["type"] == "folder":
            source["fingerprint"] = folder_fingerprint(source["path"], ["*"])
        kept = {name: value for name, value in config.items() if name != "sha256"}
        return {**kept, "sources": [source]}

    return change


def _revision(found: re.Match[str]) -> dict[str, str]:
    return {"revision": found["revision"]} if found["revision"] else {}
