"""Read the headers of media files: what they are, how large, how long, with sound or without."""

from collections.abc import Callable
from typing import Any, BinaryIO, Literal

MediaKind = Literal["image", "audio", "video"]

_EXTENSIONS: dict[MediaKind, frozenset[str]] = {
    "image": frozenset(
        [
            "jpg",
            "jpeg",
            "jpe",
            "png",
            "gif",
            "bmp",
            "webp",
            "tif",
            "tiff",
            "ppm",
            "pgm",
            "avif",
            "jfif",
        ]
    ),
    "audio": frozenset(
        [
            "wav",
            "flac",
            "ogg",
            "oga",
            "opus",
            "mp3",
            "m4a",
            "aac",
            "wma",
            "aif",
            "aiff",
            "au",
            "amr",
        ]
    ),
    "video": frozenset(
        ["mp4", "m4v", "mov", "mkv", "webm", "avi", "mpg", "mpeg", "wmv", "flv", "ts", "3gp", "ogv"]
    ),
}
_KINDS: dict[str, MediaKind] = {
    extension: kind for kind, all_ in _EXTENSIONS.items() for extension in all_
}


def media_kind(name: str) -> MediaKind | None:
    """Return what a file is by its extension, or None when it is no medium."""
    base = name.rpartition("/")[2]
    if base.startswith("._"):
        return None  # a Mac's resource fork of a medium, with the medium's extension
    return _KINDS.get(base.rpartition(".")[2].lower()) if "." in base else None


def probe(kind: MediaKind, file: BinaryIO) -> dict[str, Any]:
    """Read a medium's header.

    Args:
        kind: What the name says it is.
        file: The bytes, seekable, at their beginning.

    Returns:
        ``type`` and ``format``; ``width`` and ``height`` in pixels; ``duration`` in seconds;
        ``fps``, ``frames``, ``has_audio``; ``sample_rate`` in Hz and ``channels``: those that the
        kind has. Or only ``error``, one line, when it cannot be decoded.
    """
    try:
        return {"type": kind, **_PROBES[kind](file)}
    except MemoryError:
        raise
    except Exception as e:  # decoders raise whatever they like on broken bytes
        text = " ".join(str(e).split())
        return {"error": f"{type(e).__name__}: {text}"[:200]}


def _image(file: BinaryIO) -> dict[str, Any]:
    from PIL import Image

    with Image.open(file) as image:
        return {
            "format": (image.format or "").lower(),
            "width": image.width,
            "height": image.height,
        }


def _audio(file: BinaryIO) -> dict[str, Any]:
    import soundfile

    try:
        info = soundfile.info(file)
    except soundfile.LibsndfileError:
        file.seek(0)
        return _audio_by_ffmpeg(file)
    return {
        "format": info.format.lower(),
        "duration": round(info.frames / info.samplerate, 6),
        "sample_rate": info.samplerate,
        "channels": info.channels,
    }


def _audio_by_ffmpeg(file: BinaryIO) -> dict[str, Any]:
    import av

    with av.open(file, mode="r", metadata_errors="ignore") as container:
        if not container.streams.audio:
            raise ValueError("no sound track")
        stream = container.streams.audio[0]
        return {
            "format": container.format.name,
            "duration": _duration(container, stream),
            "sample_rate": stream.rate,
            "channels": stream.channels,
        }


def _video(file: BinaryIO) -> dict[str, Any]:
    import av

    with av.open(file, mode="r", metadata_errors="ignore") as container:
        if not container.streams.video:
            raise ValueError("no picture track")
        stream = container.streams.video[0]
        rate = stream.average_rate or stream.guessed_rate
        fps = round(float(rate), 6) if rate else None
        duration = _duration(container, stream)
        frames = stream.frames or (round(duration * fps) if duration and fps else None)
        if not stream.width or not stream.height:
            raise ValueError("no picture size in the header")
        return {
            "format": container.format.name,
            "width": stream.width,
            "height": stream.height,
            "duration": duration,
            "fps": fps,
            "frames": frames,
            "has_audio": bool(container.streams.audio),
        }


def _duration(container: Any, stream: Any) -> float | None:
    if container.duration:
        return round(container.duration / 1_000_000, 6)  # ffmpeg's AV_TIME_BASE is a microsecond
    if stream.duration and stream.time_base:
        return round(float(stream.duration * stream.time_base), 6)
    return None


_PROBES: dict[MediaKind, Callable[[BinaryIO], dict[str, Any]]] = {
    "image": _image,
    "audio": _audio,
    "video": _video,
}
