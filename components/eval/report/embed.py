"""Media as data URIs, so that the report is one file that shows and plays what was judged."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import av
from av.error import FFmpegError
from PIL import Image, UnidentifiedImageError

from omnistage.files import human_bytes
from omnistage.records.preview import MIME_TYPES, data_uri, still

MEDIUM_LIMIT = 2_000_000
"""Bytes up to which a file is embedded as it is."""
_PREVIEW_PIXELS = 640
_SMALL_PIXELS = 160
_IMAGE_TYPES = {"PNG": "image/png", "JPEG": "image/jpeg", "GIF": "image/gif", "WEBP": "image/webp"}
_PLAYED_CODECS = {"h264", "vp8", "vp9", "av1"}


@dataclass(frozen=True)
class Medium:
    """A medium ready for the page.

    Attributes:
        kind: The element that shows it.
        uri: The whole medium as a data URI, or ``None`` when it is not embedded.
        poster: A still picture as a data URI: a video's first frame.
        note: What the reader should know, such as why it is not embedded.
        small: An image so small that it is shown enlarged, pixel by pixel.
    """

    kind: Literal["image", "audio", "video"]
    uri: str | None = None
    poster: str | None = None
    note: str | None = None
    small: bool = False


def embed(path: Path, kind: Literal["image", "audio", "video"], limit: int) -> Medium:
    """Return a medium for the page; one that cannot be shown comes back with a note that says why.

    Args:
        path: The file on local disk.
        kind: What it holds.
        limit: Most bytes to embed as they are; above it an image and a video become a still
            picture and a sound is left out.
    """
    if not path.is_file():
        return Medium(kind, note=f"{path.name or 'The medium'} is missing.")
    size = path.stat().st_size
    try:
        if kind == "image":
            return _image(path, size, limit)
        if kind == "audio":
            return _audio(path, size, limit)
        return _video(path, size, limit)
    except (UnidentifiedImageError, Image.DecompressionBombError, FFmpegError, OSError) as e:
        # The error's own text may hold a path of the machine, which has no place in a report.
        return Medium(kind, note=f"{path.name} could not be read ({type(e).__name__}).")


def _image(path: Path, size: int, limit: int) -> Medium:
    with Image.open(path) as image:
        small = max(image.size) < _SMALL_PIXELS
        mime = _IMAGE_TYPES.get(image.format or "")
        if mime and size <= limit:
            return Medium("image", data_uri(mime, path.read_bytes()), small=small)
        note = f"A smaller copy; {path.name} has {human_bytes(size)}." if size > limit else None
        return Medium("image", still(image, _PREVIEW_PIXELS), note=note, small=small)


def _audio(path: Path, size: int, limit: int) -> Medium:
    mime = _mime(path, "audio")
    if mime is None:
        return Medium("audio", note=f"{path.name} is in a format that browsers do not play.")
    if size > limit:
        return Medium("audio", note=f"Not embedded: {path.name} has {human_bytes(size)}.")
    return Medium("audio", data_uri(mime, path.read_bytes()))


def _video(path: Path, size: int, limit: int) -> Medium:
    with av.open(str(path)) as container:
        stream = container.streams.video[0] if container.streams.video else None
        if stream is None:
            return Medium("video", note=f"{path.name} has no pictures.")
        codec = stream.codec_context.name
        frame = next(container.decode(stream), None)
        poster = still(cast(Any, frame).to_image(), _PREVIEW_PIXELS) if frame else None
    mime = _mime(path, "video")
    if size > limit:
        note = f"First frame only: {path.name} has {human_bytes(size)}."
        return Medium("video", poster=poster, note=note)
    if mime is None or codec not in _PLAYED_CODECS:
        note = f"First frame only: browsers do not play {codec} in {path.suffix or 'this file'}."
        return Medium("video", poster=poster, note=note)
    return Medium("video", data_uri(mime, path.read_bytes()), poster)


def _mime(path: Path, kind: str) -> str | None:
    mime = MIME_TYPES.get(path.suffix.lower(), "")
    return mime if mime.startswith(kind) else None
