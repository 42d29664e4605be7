"""Media as data URIs, for pages that are one file: the data card and the evaluation's report."""

import base64
import io

from PIL import Image

MIME_TYPES = {
    ".wav": "audio/wav",
    ".mp3": "audio/mpeg",
    ".flac": "audio/flac",
    ".ogg": "audio/ogg",
    ".opus": "audio/ogg",
    ".m4a": "audio/mp4",
    ".mp4": "video/mp4",
    ".m4v": "video/mp4",
    ".webm": "video/webm",
}
"""MIME types of the sounds and clips that browsers play, by suffix."""


def data_uri(mime: str, content: bytes) -> str:
    """Return a file's content as a data URI."""
    return f"data:{mime};base64,{base64.b64encode(content).decode()}"


def still(image: Image.Image, pixels: int, *, lossless: bool = False) -> str:
    """Return a picture as a data URI, scaled down to fit.

    Args:
        image: The picture; left as it is.
        pixels: Longest side of the result, at most.
        lossless: PNG instead of JPEG, for a picture of few pixels that is shown enlarged.
    """
    copy = image.copy() if lossless else image.convert("RGB")
    copy.thumbnail((pixels, pixels))
    buffer = io.BytesIO()
    if lossless:
        copy.save(buffer, "PNG")
        return data_uri("image/png", buffer.getvalue())
    copy.save(buffer, "JPEG", quality=85)
    return data_uri("image/jpeg", buffer.getvalue())
