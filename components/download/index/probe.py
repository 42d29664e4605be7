"""Read media files: what they are, how large, how long, with sound or not, and what is wrong."""

import re
from collections.abc import Callable
from contextlib import suppress
from fractions import Fraction
from typing import Any, BinaryIO

from omnistage.archives.media_names import MediaKind
from omnistage.errors import machine_errors

_CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,mpegvideo,flv,asf,ogg,wav,mp3,aac,flac,"
    "aiff,au,amr,amrnb,amrwb"
)
"""What ffmpeg may take a file for: not playlists, whose entries are other files and addresses."""
_MOST_ASPECT = 200  # long to short side; ms-swift and Qwen's processors refuse more
_PAGED = {"GIF", "PNG", "WEBP", "AVIF", "TIFF"}  # in a JPEG of a phone, further pictures are extras
_FRAMES = 0.02  # share of the stated frames, or two, that a whole stream may lack
_SECONDS = 0.05  # share of the stated duration, or a quarter of a second, that it may lack
_SQUARE = 0.02  # share by which pixels may be wider than high
_AV_TIME_BASE = 1_000_000  # ffmpeg's unit of a container's duration, in a second
_ENDLESS = 1 << 62  # frames that libsndfile states where it does not know
_STREAMED = 0x7FFFFF00  # bytes from which a WAV's stated size means that it was not known


_POINTER = b"version https://git-lfs"
_CUT = re.compile(r"(?:data|SSND|Data Size)\s*: (\d+) \(should be (\d+)\)")


def probe(kind: MediaKind, file: BinaryIO, decode: bool = False) -> dict[str, Any]:
    """Read a medium.

    Args:
        kind: What the name says it is.
        file: The bytes, seekable, at their beginning.
        decode: Whether all of it is decoded, to find what is broken behind the header.

    Returns:
        ``type`` and ``format``; ``width`` and ``height`` in pixels, as a viewer shows it;
        ``duration`` in seconds; ``fps``, ``frames``, ``has_audio``; ``sample_rate`` in Hz and
        ``channels``: those that the kind has, None where unknown. ``converted``, why the media root
        has other bytes than the artifact, where it has; ``pixel_aspect`` of a clip whose pixels are
        not square. Or only ``error``, one line, when it cannot
        be shown to a model.

    Raises:
        TransientError: If a file system does not give the bytes for now.
        InputError: If they may not be read.
    """
    with machine_errors("reading a medium"):
        start = file.read(len(_POINTER))
        file.seek(0)
    if not start:
        return {"error": "the file is empty"}
    if start == _POINTER:
        return {"error": "it is a Git LFS pointer; the file itself was not downloaded"}
    try:
        return {"type": kind, **_PROBES[kind](file, decode)}
    except MemoryError:
        raise
    except EOFError:
        _check_readable(file)
        return {"error": "it is cut: the file ends before anything can be decoded"}
    except Exception as e:  # decoders raise whatever they like on broken bytes
        _check_readable(file)
        # ffmpeg's errors name a number and a file '<none>' beside their words.
        text = " ".join((getattr(e, "strerror", None) or str(e)).split())
        return {"error": f"{type(e).__name__}: {text}"[:200]}


def _check_readable(file: BinaryIO) -> None:
    """Read the bytes of a medium that could not be decoded: the disk may be at fault.

    Raises:
        TransientError: If a file system does not give them for now.
        InputError: If they may not be read.
    """
    with suppress(OSError, ValueError), machine_errors("reading a medium"):
        file.seek(0)
        while file.read(1 << 20):
            pass


def _image(file: BinaryIO, decode: bool) -> dict[str, Any]:
    from omnistage.archives.images import as_shown, deviation, open_image

    with open_image(file) as image:
        name = (image.format or "").lower()
        width, height = image.size
        if max(width, height) > _MOST_ASPECT * min(width, height):
            raise ValueError(
                f"{width} x {height} pixels: one side is over {_MOST_ASPECT} times the other, "
                "which the model's processor refuses"
            )
        frames = getattr(image, "n_frames", 1) if image.format in _PAGED else 1
        reason = deviation(image)
        if reason:
            width, height = as_shown(image).size
        elif decode:
            image.load()
    if decode and name == "png":
        file.seek(0)
        with open_image(file) as image:
            image.verify()  # the checksums, which loading does not look at
    found = {"format": name, "width": width, "height": height}
    if frames > 1:
        found["frames"] = frames
    return {**found, "converted": reason} if reason else found


def _audio(file: BinaryIO, decode: bool) -> dict[str, Any]:
    import soundfile

    try:
        sound = soundfile.SoundFile(file)
    except soundfile.LibsndfileError:
        file.seek(0)
        return _audio_by_ffmpeg(file, decode)
    with sound:
        frames = sound.frames
        if frames >= _ENDLESS:
            file.seek(0)
            return _audio_by_ffmpeg(file, decode)
        if decode:
            whole = _samples(sound)
            if whole < frames:
                raise ValueError(f"only {whole} of {frames} samples can be decoded")
        if not frames:
            raise ValueError("it has no samples: 0 s of sound")
        cut = _CUT.search(sound.extra_info)
        if decode and cut and int(cut[2]) < int(cut[1]) < _STREAMED:
            raise ValueError(f"it is cut: {cut[2]} of {cut[1]} bytes")
        return {
            "format": sound.format.lower(),
            "duration": round(frames / sound.samplerate, 6),
            "sample_rate": sound.samplerate,
            "channels": sound.channels,
        }


def _samples(sound: Any) -> int:
    """Return how many samples of a sound can be decoded.

    Raises:
        ValueError: If one of them is no number.
    """
    import numpy as np

    whole = 0
    floats = sound.subtype in ("FLOAT", "DOUBLE")
    while len(block := sound.read(1 << 16, dtype="float32" if floats else "int16")):
        if floats and not np.isfinite(block).all():
            raise ValueError("it has samples that are no numbers")
        whole += len(block)
    return whole


def _open_container(file: BinaryIO) -> Any:
    import av

    return av.open(
        file, mode="r", metadata_errors="ignore", options={"format_whitelist": _CONTAINERS}
    )


def _audio_by_ffmpeg(file: BinaryIO, decode: bool) -> dict[str, Any]:
    with _open_container(file) as container:
        if not container.streams.audio:
            raise ValueError("no sound track")
        stream = container.streams.audio[0]
        duration = _duration(container, stream)
        if decode or duration is None:
            ends = _decode(container, [stream])
            duration = round(float(ends[stream]), 6) if duration is None else duration
        if not duration:
            raise ValueError("it has no samples: 0 s of sound")
        return {
            "format": container.format.name,
            "duration": duration,
            "sample_rate": stream.rate,
            "channels": stream.channels,
        }


def _video(file: BinaryIO, decode: bool) -> dict[str, Any]:
    with _open_container(file) as container:
        if not container.streams.video and container.streams.audio:
            file.seek(0)
            return {"type": "audio", **_audio_by_ffmpeg(file, decode)}
        if not container.streams.video:
            raise ValueError("no picture track")
        stream = container.streams.video[0]
        rate = stream.average_rate or stream.guessed_rate
        fps = round(float(rate), 6) if rate else None
        duration = _duration(container, stream)
        frames = stream.frames or None  # 0 where the header does not say
        if frames is None and duration is not None and fps is not None:
            frames = round(duration * fps)
        if not stream.width or not stream.height:
            raise ValueError("no picture size in the header")
        found = {
            "format": container.format.name,
            "width": stream.width,
            "height": stream.height,
            "duration": duration,
            "fps": fps,
            "frames": frames,
            "has_audio": bool(container.streams.audio),
        }
        first = next(container.decode(stream), None)  # says how it is turned
        if first is None:
            raise ValueError("no frame can be decoded")
        if decode:
            container.seek(0)
            _decode(container, [stream, *container.streams.audio[:1]])
    shape = stream.sample_aspect_ratio or 1
    if abs(shape - 1) > _SQUARE:  # decoders show the pixels as if they were
        found["pixel_aspect"] = f"{shape.numerator}:{shape.denominator}"
    if first.rotation % 180:  # decord, with which Qwen's processors read clips, turns them too
        found["width"], found["height"] = found["height"], found["width"]
    return found


def _decode(container: Any, streams: list[Any]) -> dict[Any, Fraction]:
    """Decode streams from beginning to end, and return when each ends, in seconds.

    A cut file decodes without an error up to the cut. It is known by frames that are missing *and*
    an end before the stated one: either alone is found in clips that a phone has trimmed.

    Raises:
        ValueError: If a stream has no frame, or the file is cut.
    """
    counts = dict.fromkeys(streams, 0)
    ends = dict.fromkeys(streams, Fraction(0))
    for packet in container.demux(streams):
        stream = packet.stream
        for frame in packet.decode():
            counts[stream] += not frame.is_corrupt
            if frame.pts is not None and frame.time_base:
                end = (frame.pts + (frame.duration or 0)) * frame.time_base
                ends[stream] = max(ends[stream], end)
    for stream, count in counts.items():
        what = "sound" if stream.type == "audio" else "picture"
        if not count:
            raise ValueError(f"its {what} track has no frame that can be decoded")
        lacks = stream.frames - count > max(2, _FRAMES * stream.frames)
        stated = float(stream.duration * stream.time_base) if stream.duration else 0.0
        if lacks and _short(ends[stream], stated):
            raise ValueError(
                f"it is cut: only {count} of {stream.frames} {what} frames can be decoded"
            )
    whole = (container.duration or 0) / _AV_TIME_BASE
    if container.format.name.startswith("matroska") and _short(max(ends.values()), whole):
        raise ValueError(f"it is cut: {float(max(ends.values())):.1f} of {whole:.1f} s")
    return ends


def _short(end: Fraction, stated: float) -> bool:
    return stated - float(end) > max(0.25, _SECONDS * stated)


def _duration(container: Any, stream: Any) -> float | None:
    known = []
    if container.duration is not None:
        known.append(container.duration / _AV_TIME_BASE)
    if stream.duration is not None and stream.time_base:
        known.append(float(stream.duration * stream.time_base))
    return round(next((seconds for seconds in known if seconds), known[0]), 6) if known else None


_PROBES: dict[MediaKind, Callable[[BinaryIO, bool], dict[str, Any]]] = {
    "image": _image,
    "audio": _audio,
    "video": _video,
}
