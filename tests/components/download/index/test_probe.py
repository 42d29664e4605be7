"""Headers of media: what is there is read, what is broken is said and never raised."""

import errno
import io

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from components.download.index.probe import probe
from omnistage.archives.media_names import media_kind
from omnistage.errors import TransientError
from tests.components.download.download_kit import clip, png, wav


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a/b.JPG", "image"),
        ("x.wav", "audio"),
        ("x.tar.mp4", "video"),
        ("rows.jsonl", None),
        ("mp4", None),
        ("__MACOSX/._x.wav", None),
    ],
)
def test_the_extension_says_what_a_file_is(name, kind):
    assert media_kind(name) == kind


@pytest.mark.parametrize("kind", ["png", "jpeg", "gif", "webp", "bmp"])
def test_an_image_has_format_and_size(kind):
    out = io.BytesIO()
    Image.new("RGB", (9, 5)).save(out, kind)
    out.seek(0)
    assert probe("image", out) == {"type": "image", "format": kind, "width": 9, "height": 5}


@pytest.mark.parametrize("kind", ["wav", "flac", "ogg"])
def test_a_sound_has_length_rate_and_channels(kind):
    out = io.BytesIO()
    soundfile.write(out, np.zeros((4000, 2)), 8000, format=kind)
    out.seek(0)
    assert probe("audio", out) == {
        "type": "audio",
        "format": kind,
        "duration": 0.5,
        "sample_rate": 8000,
        "channels": 2,
    }


def test_a_sound_that_is_cut_in_its_header_says_so():
    out = io.BytesIO()
    soundfile.write(out, np.zeros((4000, 2)), 8000, format="ogg")
    found = probe("audio", io.BytesIO(out.getvalue()[:60]))
    assert found == {"error": "it is cut: the file ends before anything can be decoded"}


@pytest.mark.parametrize("sound", [True, False])
def test_a_clip_has_size_length_rate_and_maybe_sound(tmp_path, sound):
    found = probe("video", io.BytesIO(clip(tmp_path / "x.mp4", sound)))
    assert (found["width"], found["height"]) == (32, 16)
    assert (found["fps"], found["frames"], found["has_audio"]) == (4.0, 8, sound)
    assert found["duration"] == pytest.approx(2.0, abs=0.15)


def test_pixels_that_are_not_square_are_said(tmp_path):
    stretched = probe("video", io.BytesIO(clip(tmp_path / "4.mp4", False, pixel_aspect=4)))
    assert stretched["pixel_aspect"] == "4:1"
    assert "pixel_aspect" not in probe("video", io.BytesIO(clip(tmp_path / "1.mp4", False)))


def test_a_sound_named_like_a_clip_is_a_sound():
    found = probe("video", io.BytesIO(wav()))
    assert (found["type"], found["format"]) == ("audio", "wav")


@pytest.mark.parametrize("kind", ["image", "audio", "video"])
def test_what_a_broken_download_leaves_is_named(kind):
    assert probe(kind, io.BytesIO(b"")) == {"error": "the file is empty"}
    found = probe(kind, io.BytesIO(b"version https://git-lfs.github.com/spec/v1\n"))
    assert found == {"error": "it is a Git LFS pointer; the file itself was not downloaded"}


def test_samples_that_are_no_numbers_are_found():
    out = io.BytesIO()
    soundfile.write(out, np.array([0.0, np.nan, 0.5]), 8000, format="wav", subtype="FLOAT")
    out.seek(0)
    found = probe("audio", out, decode=True)
    assert found == {"error": "ValueError: it has samples that are no numbers"}


class Stale(io.BytesIO):
    """A file on a server that restarts after some reads."""

    def __init__(self, data: bytes, reads: int) -> None:
        super().__init__(data)
        self.reads = reads

    def read(self, size: int | None = -1) -> bytes:
        self.reads -= 1
        if self.reads < 0:
            raise OSError(errno.ESTALE, "Stale file handle")
        return super().read(size)


@pytest.mark.parametrize("reads", [0, 1])
@pytest.mark.parametrize("kind", ["image", "audio", "video"])
def test_a_medium_that_the_disk_does_not_give_for_now_is_not_broken(kind, reads):
    with pytest.raises(TransientError, match="stale file handle"):
        probe(kind, Stale(png(), reads))


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(["image", "audio", "video"]),
    start=st.sampled_from([b"", png(), wav(), b"\0\0\0\x18ftypmp42"]),
    keep=st.integers(0, 80),
    rest=st.binary(max_size=80),
)
def test_broken_bytes_never_raise(kind, start, keep, rest):
    found = probe(kind, io.BytesIO(start[:keep] + rest))
    assert "error" in found or found["type"] == kind or (kind, found["type"]) == ("video", "audio")
