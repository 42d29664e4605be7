"""Images as a viewer shows them: upright, on white, in sRGB, and grey neither white nor black."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, TiffImagePlugin

from omnistage.archives.images import as_shown, deviation, open_image, write_as_shown

RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)


def encoded(image: Image.Image, kind: str, **options: Any) -> io.BytesIO:
    out = io.BytesIO()
    image.save(out, kind, **options)
    out.seek(0)
    return out


def left_red_right_blue(mode: str = "RGB") -> Image.Image:
    image = Image.new("RGB", (80, 40), RED)
    image.paste(BLUE, (40, 0, 80, 40))
    return image.convert(mode)


def near(pixel: Any, wanted: tuple[int, int, int]) -> bool:
    return all(abs(a - b) <= 8 for a, b in zip(pixel, wanted, strict=True))


def orientation(value: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = value
    return exif.tobytes()


@pytest.mark.parametrize(
    ("turned", "size", "place"),
    [
        (1, (80, 40), (5, 20)),
        (2, (80, 40), (75, 20)),
        (3, (80, 40), (75, 20)),
        (6, (40, 80), (20, 5)),
        (8, (40, 80), (20, 75)),
    ],
)
@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "tiff"])
def test_a_photo_is_turned_as_its_orientation_says(kind, turned, size, place):
    data = encoded(left_red_right_blue(), kind, exif=orientation(turned))
    with open_image(data) as image:
        assert deviation(image) == (None if turned == 1 else f"EXIF orientation {turned}")
        shown = as_shown(image)
    assert shown.size == size
    assert near(shown.getpixel(place), RED)


@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_grey_of_16_bits_is_neither_white_nor_black(kind):
    ramp = np.tile(np.linspace(0, 65535, 256).astype(np.uint16), (4, 1))
    with open_image(encoded(Image.fromarray(ramp), kind)) as image:
        assert deviation(image) == "16-bit grey"
        shown = np.asarray(as_shown(image))
    assert np.abs(shown[0, :, 0].astype(int) - np.arange(256)).max() <= 1


@pytest.mark.parametrize(
    ("low", "high", "first", "last"),
    [(0, 1, 0, 255), (0, 0.5, 0, 127), (0, 200, 0, 200), (-3, 5, 0, 255), (10, 4000, 0, 255)],
)
def test_grey_of_floats_fills_the_range_that_it_was_meant_for(low, high, first, last):
    ramp = np.tile(np.linspace(low, high, 64, dtype=np.float32), (4, 1))
    with open_image(encoded(Image.fromarray(ramp), "tiff")) as image:
        assert deviation(image) == "grey of floating-point numbers"
        shown = as_shown(image)
    assert near(shown.getpixel((0, 0)), (first,) * 3)
    assert near(shown.getpixel((63, 0)), (last,) * 3)


def test_grey_that_a_png_calls_transparent_is_white():
    ramp = np.array([[0, 1000, 65535]], np.uint16)
    with open_image(encoded(Image.fromarray(ramp), "png", transparency=1000)) as image:
        assert np.asarray(as_shown(image))[0, :, 0].tolist() == [0, 255, 255]


def test_a_dark_16_bit_pgm_stays_dark():
    with open_image(io.BytesIO(b"P5 2 1 65535 \x00\x00\x00\xff")) as image:
        assert np.asarray(as_shown(image))[0, :, 0].tolist() == [0, 0]


def tiff_of_integers(values: list[int], kind: type[np.generic]) -> io.BytesIO:
    """Pillow writes 8 bits as unsigned and 32 as signed ones: the tag is changed afterwards."""
    array = np.array([values], kind)
    stored = array.view({1: np.uint8, 4: np.int32}[array.itemsize])
    info = TiffImagePlugin.ImageFileDirectory_v2()
    info[339] = 2  # SampleFormat: signed
    data = encoded(Image.fromarray(stored), "tiff", tiffinfo=info).getvalue()
    signed = b"\x53\x01\x03\x00\x01\x00\x00\x00\x02"
    assert data.count(signed) == 1
    kept = signed if array.dtype.kind == "i" else signed[:-1] + b"\x01"
    return io.BytesIO(data.replace(signed, kept))


@pytest.mark.parametrize(
    ("kind", "values", "shown"),
    [
        (np.uint32, [0, 2**31, 2**32 - 1], [0, 127, 255]),
        (np.uint32, [0, 32768, 65535], [0, 127, 255]),
        (np.int32, [-(2**31), 0, 2**31 - 1], [0, 127, 255]),
        (np.int8, [-128, 0, 127], [0, 128, 255]),
    ],
)
def test_signed_and_unsigned_integers_of_a_scanner_keep_their_order(kind, values, shown):
    with open_image(tiff_of_integers(values, kind)) as image:
        assert deviation(image)
        assert np.asarray(as_shown(image))[0, :, 0].tolist() == pytest.approx(shown, abs=1)


def test_floats_that_are_no_numbers_are_refused():
    values = np.ones((4, 4), dtype=np.float32)
    values[2, 1] = np.nan
    with (
        open_image(encoded(Image.fromarray(values), "tiff")) as image,
        pytest.raises(ValueError, match="no numbers"),
    ):
        as_shown(image)


def test_scanned_grey_where_white_is_zero_is_not_shown_as_a_negative():
    page = np.full((4, 4), 65535, dtype=np.uint16)
    data = encoded(Image.fromarray(page), "tiff", tiffinfo={262: 0})
    with open_image(data) as image:
        assert near(as_shown(image).getpixel((1, 1)), (0, 0, 0))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_lies_under_transparent_pixels_is_not_shown(mode):
    image = Image.new("RGBA", (20, 20), (*RED, 0))
    image.paste((0, 0, 0, 255), (0, 0, 10, 20))
    if mode == "P":
        image = image.quantize(4)
    with open_image(encoded(image.convert(mode), "png")) as found:
        assert deviation(found) == "transparency"
        shown = as_shown(found)
    assert shown.getpixel((15, 5)) == WHITE
    assert near(shown.getpixel((5, 5)), (0, 0, 0))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L", "1", "RGB"])
def test_an_image_that_pillow_shows_right_is_left_alone(mode):
    with open_image(encoded(left_red_right_blue(mode), "png")) as image:
        assert deviation(image) is None


def exchanged_profile() -> bytes:
    """Return a profile in which red means blue."""
    data = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = data.replace(b"rXYZ", b"????", 1).replace(b"bXYZ", b"rXYZ", 1)
    data = data.replace(b"????", b"bXYZ", 1)
    return data.replace("sRGB".encode("utf-16-be"), "test".encode("utf-16-be"))


@pytest.mark.parametrize("kind", ["jpeg", "png", "tiff", "webp"])
def test_a_colour_profile_is_applied(kind):
    data = encoded(left_red_right_blue(), kind, icc_profile=exchanged_profile())
    with open_image(data) as image:
        assert (deviation(image) or "").startswith("colour profile test")
        shown = as_shown(image)
    assert near(shown.getpixel((5, 20)), BLUE)


def test_a_broken_colour_profile_and_that_of_srgb_are_passed_over():
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for profile in (srgb, b"no profile", srgb[:200]):
        data = encoded(left_red_right_blue(), "jpeg", icc_profile=profile)
        with open_image(data) as image:
            assert deviation(image) is None
            assert near(as_shown(image).getpixel((5, 20)), RED)


def test_heic_is_read():
    with open_image(encoded(left_red_right_blue(), "HEIF", quality=95)) as image:
        assert deviation(image) == "HEIC"
        assert near(as_shown(image).getpixel((5, 20)), RED)


@pytest.mark.parametrize(
    "data",
    [
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n",
        b'<svg xmlns="http://www.w3.org/2000/svg"/>',
        b"8BPS" + bytes(40),
        b"%PDF-1.4\n",
    ],
)
def test_a_format_that_no_recipe_has_is_not_opened(data):
    with pytest.raises(OSError, match="cannot identify"):
        open_image(io.BytesIO(data))


@pytest.mark.parametrize(
    ("kind", "options", "becomes"),
    [
        ("jpeg", {"exif": orientation(6)}, "JPEG"),
        ("HEIF", {}, "PNG"),
        ("tiff", {"icc_profile": exchanged_profile()}, "PNG"),
    ],
)
def test_what_is_written_needs_no_further_conversion_and_is_the_same_each_time(
    kind, options, becomes
):
    written = []
    for _ in range(2):
        data = encoded(left_red_right_blue(), kind, **options)
        with open_image(data) as image:
            shown = as_shown(image)
        write_as_shown(data)
        written.append(data.getvalue())
        with open_image(io.BytesIO(written[-1])) as image:
            assert (image.format, image.mode, image.size) == (becomes, "RGB", shown.size)
            assert deviation(image) is None
    assert written[0] == written[1]
