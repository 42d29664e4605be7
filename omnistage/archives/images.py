"""Images as a viewer shows them.

Trainers open an image with Pillow and convert it to RGB. That turns a phone's portrait photo on its
side, 16-bit grey white and a float TIFF black, shows what lies under transparent pixels, takes
the numbers of another colour space for sRGB, and cannot read HEIC at all. Such an image is
converted once, when the media root is made; the artifact keeps the original.
"""

import functools
import io
import warnings
from typing import BinaryIO

import numpy as np
import pillow_heif
from PIL import Image, ImageCms, ImageFile, ImageOps, UnidentifiedImageError

pillow_heif.register_heif_opener()
warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the error comes at twice as many

FORMATS = (
    "JPEG",
    "PNG",
    "GIF",
    "BMP",
    "WEBP",
    "TIFF",
    "PPM",
    "AVIF",
    "HEIF",
    "JPEG2000",
)
"""What is opened, by the bytes and whatever the name: EPS, for one, would start Ghostscript."""
_ORIENTATION = 0x0112  # EXIF tag
_PHOTOMETRIC, _WHITE_IS_ZERO = 262, 0  # TIFF tag
_BITS, _SAMPLES, _UNSIGNED, _SIGNED = 258, 339, 1, 2  # TIFF tags, and two kinds of numbers
_MOST_PIXELS = 100_000_000  # of an image to convert, which takes about 8 bytes a pixel
_JPEG = {"format": "JPEG", "quality": 95, "subsampling": 0}
_PNG = {"format": "PNG", "compress_level": 1}


def open_image(file: BinaryIO) -> ImageFile.ImageFile:
    """Open an image of one of :data:`FORMATS`.

    Raises:
        OSError: If it is none of them.
    """
    try:
        return Image.open(file, formats=FORMATS)
    except UnidentifiedImageError as e:
        raise OSError(f"cannot identify it as an image ({', '.join(FORMATS)})") from e


def deviation(image: ImageFile.ImageFile) -> str | None:
    """Say why an image, converted to RGB as it is, would not look as a viewer shows it.

    Decodes the image where its transparency decides.

    Returns:
        The reason, or None where it looks the same.
    """
    if image.format == "HEIF":
        return "HEIC"
    orientation = image.getexif().get(_ORIENTATION, 1)
    if orientation in range(2, 9):
        return f"EXIF orientation {orientation}"
    if _integers(image) == (_SIGNED, 8):
        return "signed 8-bit values"
    if image.mode.startswith("I"):
        return "16-bit grey" if image.mode.startswith("I;16") else "32-bit grey"
    if image.mode == "F":
        return "grey of floating-point numbers"
    if image.has_transparency_data and _alpha(image)[0] < 255:
        return "transparency"
    profile = _profile(image.info.get("icc_profile"))
    if profile and profile[0] == _colours(image.mode):
        return f"colour profile {profile[1]}"
    return None


def as_shown(image: ImageFile.ImageFile) -> Image.Image:
    """Return an image in RGB as a viewer shows it: upright, on white, in sRGB.

    Grey of 16 bits shows its upper 8; floating-point and 32-bit grey is taken to go from 0 to 1,
    255 or 65,535 where it fits, and is stretched from its least to its greatest value otherwise.

    Raises:
        ValueError: If it is too large or has values that are no numbers.
        OSError: If it cannot be decoded.
    """
    if image.width * image.height > _MOST_PIXELS:
        raise ValueError(
            f"{image.width} x {image.height} pixels are too many to convert it ({deviation(image)})"
        )
    profile = image.info.get("icc_profile")
    kind = _integers(image)
    shown = ImageOps.exif_transpose(image)
    if kind == (_SIGNED, 8):
        if shown.mode != "L":
            raise ValueError("its colours are signed numbers")
        shown = Image.fromarray(np.asarray(shown).view(np.int8).astype(np.int32))
    elif kind == (_UNSIGNED, 32) and shown.mode == "I" and np.asarray(shown).min() < 0:
        # Pillow takes them for signed ones, so that the upper half is negative.
        shown = Image.fromarray(np.asarray(shown).view(np.uint32).astype(np.float32))
    if shown.mode.startswith("I") or shown.mode == "F":
        clear = image.info.get("transparency")
        hidden = None if not isinstance(clear, int) else np.asarray(shown) == clear
        # Pillow spreads a PGM's values over 16 bits, whatever the greatest one in it is.
        shown = _grey(shown, whole=image.format == "PPM")
        if hidden is not None:
            shown.paste(255, mask=Image.fromarray(hidden))
        if image.format == "TIFF" and image.tag_v2.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:  # pyright: ignore[reportAttributeAccessIssue]
            shown = ImageOps.invert(shown)
    if shown.has_transparency_data:
        above = shown.convert("RGBA")
        shown = Image.new("RGBA", shown.size, "white")
        shown.alpha_composite(above)
        shown = shown.convert("RGB")
    return _in_srgb(shown, profile).convert("RGB")


def write_as_shown(file: BinaryIO) -> None:
    """Replace the bytes of an image file by the image as a viewer shows it.

    A JPEG stays one, of quality 95 and without loss of colour resolution; all else becomes a PNG.
    """
    out = io.BytesIO()
    with open_image(file) as image:
        as_shown(image).save(out, **(_JPEG if image.format in ("JPEG", "MPO") else _PNG))
    file.seek(0)
    file.truncate()
    file.write(out.getbuffer())


def _integers(image: ImageFile.ImageFile) -> tuple[int, int] | None:
    """Return the kind and the bits of a TIFF's numbers, or None if it is none."""
    if image.format != "TIFF":
        return None
    tags = image.tag_v2  # pyright: ignore[reportAttributeAccessIssue]
    kind, bits = tags.get(_SAMPLES, (_UNSIGNED,)), tags.get(_BITS, (1,))
    return int(kind[0]), int(bits[0])


def _alpha(image: Image.Image) -> tuple[int, int]:
    """Return the least and the greatest opacity."""
    least, most = image.convert("RGBA").getchannel("A").getextrema()
    return int(least), int(most)  # pyright: ignore[reportArgumentType]


def _grey(image: Image.Image, whole: bool = False) -> Image.Image:
    """Return grey of more than 8 bits in 8; ``whole`` says that it goes to 65,535 in any case."""
    floats = image.mode == "F"
    if whole or image.mode.startswith("I;16"):
        image, low, high = image.convert("I"), 0.0, 65535.0
    else:
        if floats and not np.isfinite(np.asarray(image)).all():
            raise ValueError("it has pixels that are no numbers")
        low, high = (float(v) for v in image.getextrema())  # pyright: ignore[reportArgumentType]
        usual = [1.0, 255.0] if floats else [255.0, 65535.0]
        if low >= 0 and high <= usual[-1]:
            low, high = 0.0, next(most for most in usual if high <= most)
    scale = 255 / (high - low) if high > low else 0.0
    shift = -low * scale
    return image.point(lambda value: value * scale + shift).convert("L")


def _in_srgb(image: Image.Image, icc: bytes | None) -> Image.Image:
    profile = _profile(icc)
    colours = _colours(image.mode)
    if profile and profile[0] == "GRAY" and colours == "RGB":
        image, colours = image.convert("L"), "GRAY"  # grey that was put on white
    if not profile or profile[0] != colours:
        return image
    mode = {"GRAY": "L", "RGB": "RGB", "CMYK": "CMYK"}[profile[0]]
    try:
        found = ImageCms.profileToProfile(
            image.convert(mode), io.BytesIO(icc or b""), ImageCms.createProfile("sRGB"),
            outputMode="RGB",
        )  # fmt: skip
    except ImageCms.PyCMSError:
        return image  # as viewers do with a profile that they cannot use
    return found or image


def _colours(mode: str) -> str:
    return {"1": "GRAY", "L": "GRAY", "LA": "GRAY", "CMYK": "CMYK"}.get(mode, "RGB")


@functools.lru_cache(maxsize=16)
def _profile(icc: bytes | None) -> tuple[str, str] | None:
    """Return colour space and name of a profile, or None for sRGB and for what is no profile."""
    if not icc:
        return None
    try:
        profile = ImageCms.getOpenProfile(io.BytesIO(icc))
        name = ImageCms.getProfileDescription(profile).strip()
        space = profile.profile.xcolor_space.strip()  # pyright: ignore[reportAttributeAccessIssue]
    except (ImageCms.PyCMSError, OSError):
        return None
    if "srgb" in name.lower() or space not in ("GRAY", "RGB", "CMYK"):
        return None
    return space, name
