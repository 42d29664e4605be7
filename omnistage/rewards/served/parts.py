"""Media as parts of a chat message, in OpenAI's form; a clip in that of vLLM and SGLang."""

import base64
import mimetypes
from pathlib import Path
from typing import Any


def media_part(kind: str, path: Path) -> dict[str, Any]:
    """Return a medium as a part of a message.

    Args:
        kind: ``images``, ``audios`` or ``videos``.
        path: The file.

    Raises:
        OSError: If it cannot be read.
    """
    data = base64.b64encode(path.read_bytes()).decode()
    if kind == "audios":
        sound = {"data": data, "format": path.suffix.lstrip(".").lower() or "wav"}
        return {"type": "input_audio", "input_audio": sound}
    guessed = mimetypes.guess_type(path.name)[0]
    name = "image_url" if kind == "images" else "video_url"
    mime = guessed or ("image/png" if kind == "images" else "video/mp4")
    return {"type": name, name: {"url": f"data:{mime};base64,{data}"}}
