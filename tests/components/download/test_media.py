"""Media of a data set: shown to the model as a viewer shows them, or listed with what is wrong."""

import io
import struct
import zipfile
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image

from components.download import stage
from omnistage.archives.media_root import media_root
from omnistage.files import read_jsonl
from omnistage.store.uris import uri_path
from tests.archives.test_images import RED, encoded, left_red_right_blue, near, orientation
from tests.archives.test_reader import zip_bytes
from tests.components.download.download_kit import Heard, clip, download, png, wav


def noisy_clip(path, frames: int = 40) -> bytes:
    """Return a clip with a sound track whose bodies do not compress to nothing."""
    import av

    noise = np.random.default_rng(0)
    with av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("mpeg4", rate=8)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(frames):
            pixels = noise.integers(0, 255, (48, 64, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return path.read_bytes()


def indexed(tmp_path, files: dict[str, bytes], events=None, **settings: Any):
    """Return manifest and index rows, by path, of a folder with these files."""
    folder = tmp_path / "source"
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    source = {"type": "folder", "path": str(folder)}
    manifest = download(tmp_path, source, events=events, **settings).manifest
    return manifest, {r["path"]: r for r in read_jsonl(uri_path(manifest.uri) / "index.jsonl")}


def as_trained(path) -> Image.Image:
    """Open an image as trainers do."""
    return Image.open(path).convert("RGB")


def cut_jpeg() -> bytes:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    whole = encoded(Image.fromarray(noise), "jpeg").getvalue()
    return whole[: len(whole) // 2]


def damaged_png() -> bytes:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    data = bytearray(encoded(Image.fromarray(noise), "png").getvalue())
    data[len(data) // 2] ^= 0x40
    return bytes(data)


@pytest.mark.parametrize("packed", [False, True])
def test_images_reach_the_trainer_as_a_viewer_shows_them(tmp_path, packed):
    ramp = np.tile(np.linspace(0, 65535, 80).astype(np.uint16), (40, 1))
    files = {
        "p/exif.jpg": encoded(left_red_right_blue(), "jpeg", exif=orientation(6)).getvalue(),
        "p/x.heic": encoded(left_red_right_blue(), "HEIF").getvalue(),
        "p/g16.png": encoded(Image.fromarray(ramp), "png").getvalue(),
        "p/f.tiff": encoded(Image.fromarray(ramp.astype(np.float32) / 65535), "tiff").getvalue(),
        "p/plain.png": encoded(left_red_right_blue(), "png").getvalue(),
        "p/web.jpg": encoded(left_red_right_blue(), "webp").getvalue(),
        "p/cmyk.jpg": encoded(left_red_right_blue("CMYK"), "jpeg").getvalue(),
        "p/pal.png": encoded(left_red_right_blue("P"), "png").getvalue(),
        "p/x.avif": encoded(left_red_right_blue(), "avif").getvalue(),
    }
    given = {"p.zip": zip_bytes(files, zipfile.ZIP_STORED)} if packed else files
    events = Heard()
    manifest, rows = indexed(tmp_path, given, events)
    root = media_root(uri_path(manifest.uri), manifest.digest, tmp_path / "scratch")
    sizes = {p: (r["media"]["width"], r["media"]["height"]) for p, r in rows.items()}
    assert sizes == {p: as_trained(root / p).size for p in files}
    assert sizes["p/exif.jpg"] == (40, 80)
    assert near(as_trained(root / "p/exif.jpg").getpixel((20, 5)), RED)
    for name in ("p/x.heic", "p/plain.png", "p/web.jpg", "p/cmyk.jpg", "p/pal.png", "p/x.avif"):
        assert near(as_trained(root / name).getpixel((5, 20)), RED), name
    for name in ("p/g16.png", "p/f.tiff"):
        assert near(as_trained(root / name).getpixel((40, 20)), (129, 129, 129)), name
    assert {p for p, r in rows.items() if r["media"].get("converted")} == {
        "p/exif.jpg", "p/x.heic", "p/g16.png", "p/f.tiff",
    }  # fmt: skip
    assert manifest.counts["converted"] == 4
    assert (root / "p/plain.png").read_bytes() == files["p/plain.png"]


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("p/thin.png", png(2400, 8), "one side is over 200 times the other"),
        ("p/cut.jpg", cut_jpeg(), "truncated"),
        ("p/bad.png", damaged_png(), "broken|checksum|Truncated"),
        ("p/x.svg", b"<svg/>", "no decoder reads .svg files; convert it"),
        ("p/x.jpg", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "cannot identify"),
        ("a/empty.wav", wav(0), "no samples: 0 s of sound"),
        ("a/cut.wav", wav(1.0)[:9000], "it is cut"),
        ("v/list.mp4", b"ffconcat version 1.0\nfile '/etc/passwd'\n", "Error|Invalid"),
    ],
)
def test_what_no_model_can_be_shown_is_listed_with_the_reason(tmp_path, name, data, reason):
    events = Heard()
    manifest, rows = indexed(tmp_path, {name: data, "p/ok.png": png()}, events)
    assert list(rows[name]["media"]) == ["error"]
    (warning,) = events.warnings
    assert warning.startswith(f"1 medium cannot be decoded: {name} (")
    with pytest.raises(AssertionError, match=reason):
        assert rows[name]["media"]["error"] == ""
    assert manifest.counts["undecodable"] == 1
    assert "error" not in rows["p/ok.png"]["media"]


def zeroed(data: bytes) -> bytes:
    third = len(data) // 3
    return data[:third] + bytes(third) + data[2 * third :]


@pytest.mark.parametrize(
    "harm", [lambda d: d[: len(d) // 2], lambda d: d[: len(d) * 4 // 5], zeroed]
)
def test_a_clip_with_a_broken_body_is_found_where_media_are_decoded(tmp_path, harm):
    whole = noisy_clip(tmp_path / "x.mp4")
    files = {
        "v/whole.mp4": whole,
        "v/bad.mp4": harm(whole),
        "v/loud.mp4": clip(tmp_path / "y", True),
    }
    _, rows = indexed(tmp_path, files)
    assert [p for p, r in rows.items() if "error" in r["media"]] == ["v/bad.mp4"]
    assert rows["v/whole.mp4"]["media"]["frames"] == 40


def test_a_large_set_is_probed_by_its_headers_unless_the_recipe_says_otherwise(
    tmp_path, monkeypatch
):
    files = {"p/cut.jpg": cut_jpeg()}
    monkeypatch.setattr(stage, "_DECODED", 100)
    _, rows = indexed(tmp_path, files)
    assert rows["p/cut.jpg"]["media"]["width"] == 64
    _, rows = indexed(tmp_path, files, probe="decode")
    assert "truncated" in rows["p/cut.jpg"]["media"]["error"]
    monkeypatch.setattr(stage, "_DECODED", 1 << 40)
    _, rows = indexed(tmp_path, files, probe="header")
    assert "error" not in rows["p/cut.jpg"]["media"]


def test_an_image_with_several_frames_is_named(tmp_path):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    data = io.BytesIO()
    frames[0].save(data, "gif", save_all=True, append_images=frames[1:])
    events = Heard()
    _, rows = indexed(tmp_path, {"p/anim.gif": data.getvalue()}, events)
    assert rows["p/anim.gif"]["media"]["frames"] == 2
    assert "of which a model sees the first: p/anim.gif" in events.warnings[0]


def test_a_clip_that_a_phone_turned_has_the_size_that_is_shown(tmp_path):
    data = bytearray(clip(tmp_path / "x.mp4", False))
    matrix = data.index(b"tkhd") + 44
    struct.pack_into(">9i", data, matrix, 0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
    _, rows = indexed(tmp_path, {"v/x.mp4": bytes(data)})
    media = rows["v/x.mp4"]["media"]
    assert (media["width"], media["height"]) == (16, 32)


def test_the_length_of_a_sound_whose_header_does_not_say_it_is_counted(tmp_path):
    out = io.BytesIO()
    soundfile.write(out, np.zeros(12_000), 8000, format="flac")
    data = bytearray(out.getvalue())
    data[21] &= 0xF0  # the number of samples in STREAMINFO: 36 bits
    data[22:26] = bytes(4)
    _, rows = indexed(tmp_path, {"a/x.flac": bytes(data)})
    assert rows["a/x.flac"]["media"]["duration"] == 1.5


def test_an_archive_whose_name_leads_out_of_the_media_root_is_refused(tmp_path):
    from omnistage.errors import InputError

    with pytest.raises(InputError, match=r"'\.\.\.zip' is refused: .*give the file another name"):
        indexed(tmp_path, {"...zip": zip_bytes({"a": b"1"})})
