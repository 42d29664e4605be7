"""What a file is by the extension of its name: an image, a sound, a clip, or no medium."""

from typing import Any, Literal

MediaKind = Literal["image", "audio", "video"]

_EXTENSIONS: dict[MediaKind, str] = {
    "image": "jpg jpeg jpe jfif png apng gif bmp dib webp tif tiff ppm pgm pnm avif heic heif hif "
    "jp2 j2k",
    "audio": "wav flac ogg oga opus mp3 m4a aac wma aif aiff au amr",
    "video": "mp4 m4v mov mkv webm avi mpg mpeg wmv flv ts 3gp ogv",
}
_UNREADABLE: dict[MediaKind, str] = {
    "image": "svg psd ai eps pdf dng cr2 cr3 nef arw orf rw2 raf jxl",
    "audio": "mid midi dsf caf",
    "video": "rm rmvb swf m3u8",
}
"""What names say a medium that no decoder here reads: indexed, so that a row learns the reason."""
_KINDS: dict[str, MediaKind] = {
    extension: kind
    for table in (_EXTENSIONS, _UNREADABLE)
    for kind, all_ in table.items()
    for extension in all_.split()
}


def media_kind(name: str) -> MediaKind | None:
    """Return what a file is by its extension, or None when it is no medium."""
    base = name.rpartition("/")[2]
    if base.startswith("._"):
        return None  # a Mac's resource fork of a medium, with the medium's extension
    return _KINDS.get(_extension(base)) if "." in base else None


def unreadable(name: str) -> dict[str, Any] | None:
    """Return the ``error`` of a medium whose extension says that no decoder here reads it."""
    extension = _extension(name)
    if not any(extension in all_.split() for all_ in _UNREADABLE.values()):
        return None
    return {"error": f"no decoder reads .{extension} files; convert it to a usual format"}


def _extension(name: str) -> str:
    return name.rpartition(".")[2].lower()
