"""Headers that contradict each other, or hold more than the members do."""

import bz2
import contextlib
import gzip
import io
import lzma
import struct
import tarfile
import zipfile
import zlib

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from omnistage.archives import reader
from omnistage.archives.reader import ArchiveLimits
from omnistage.errors import InputError
from tests.archives.test_reader import read, tar_bytes, zip_bytes


def _two_members(**central: int) -> bytes:
    """Return a zip of two members; fields of the first one's directory entry are replaced."""
    data = bytearray(zip_bytes({"a": b"1" * 600, "b": b"2" * 600}, zipfile.ZIP_STORED))
    entry = data.index(b"PK\x01\x02")
    places = {"method": (10, "<H"), "crc": (16, "<L"), "packed": (20, "<L"), "size": (24, "<L"),
              "offset": (42, "<L")}  # fmt: skip
    for name, value in central.items():
        at, form = places[name]
        struct.pack_into(form, data, entry + at, value)
    return bytes(data)


@pytest.mark.parametrize(
    ("central", "reason"),
    [
        ({"method": zipfile.ZIP_DEFLATED}, "two things of its compression"),
        ({"size": 599}, "two things of its size"),
        ({"size": 700, "packed": 700}, "two things of its size"),
        ({"crc": 1}, "two things of its size or checksum"),
        ({"offset": 631}, "two things of its name"),
        ({"offset": 5}, "no header at byte 5"),
    ],
)
def test_a_zip_that_says_two_things_of_a_member_is_refused(central, reason):
    with pytest.raises(InputError, match=reason):
        read(_two_members(**central))


def test_a_zip_with_another_name_before_the_bytes_is_refused():
    data = zip_bytes({"good.png": b"1"}).replace(b"good.png", b"evil.png", 1)
    with pytest.raises(InputError, match=r"'good.png' is refused: .*two things of its name"):
        read(data)


def test_members_of_a_zip_that_share_bytes_are_refused():
    inner = zip_bytes({"b": b"2"}, zipfile.ZIP_STORED)
    inner = inner[: inner.index(b"PK\x01\x02")]
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a", inner)  # the header of b lies within the bytes of a
        within = zipfile.ZipInfo("b")
        within.file_size = within.compress_size = 1
        within.CRC, within.header_offset = zlib.crc32(b"2"), 31
        archive.filelist.append(within)
    with pytest.raises(InputError, match="'a' is refused: its bytes overlap"):
        read(out.getvalue())


def test_a_member_that_inflates_to_more_than_the_zip_says_is_refused():
    data = bytearray(zip_bytes({"a": b"x" * 1000}))
    short, crc = struct.pack("<L", 900), struct.pack("<L", zlib.crc32(b"x" * 900))
    for start, crc_at, size_at in ((0, 14, 22), (data.index(b"PK\x01\x02"), 16, 24)):
        data[start + crc_at : start + crc_at + 4] = crc
        data[start + size_at : start + size_at + 4] = short
    with pytest.raises(InputError, match="more bytes than the zip says"):
        read(bytes(data))


@pytest.mark.parametrize("pack", [bz2.compress, gzip.compress, zstandard.compress, lzma.compress])
def test_headers_count_as_what_comes_out_of_the_decompressor(pack, monkeypatch):
    monkeypatch.setattr(reader, "_RATIO_FLOOR", 1_000_000)
    bomb = pack(b"".join(_long_header(f"file{n}") for n in range(20)))
    assert len(bomb) < 10_000
    with pytest.raises(InputError, match=r"after member 'file9': .*headers included.*max_ratio"):
        read(bomb)
    small = ArchiveLimits(max_members=1000, max_bytes=500_000, max_ratio=1e9)
    with pytest.raises(InputError, match=r"after member 'file4': .*headers included.*max_bytes"):
        read(bomb, small)


def _long_header(name: str) -> bytes:
    """Return an empty member behind 100,000 bytes of headers."""
    info = tarfile.TarInfo(name)
    info.pax_headers = {"comment": "x" * 98_000}
    return info.tobuf(tarfile.PAX_FORMAT)


def test_global_records_do_not_pile_up_in_memory():
    records = b"".join(b"12 k%05d=x\n" % n for n in range(2000))
    head = tarfile.TarInfo("pax")
    head.type, head.size = tarfile.XGLTYPE, len(records)
    data = head.tobuf(tarfile.USTAR_FORMAT) + records.ljust(-(-len(records) // 512) * 512, b"\0")
    with pytest.raises(InputError, match="too many global pax records"):
        read(data + tar_bytes({"a": b"1"}))


@settings(max_examples=80, deadline=None)
@given(
    edits=st.lists(
        st.tuples(st.floats(0, 0.999), st.integers(0, 255), st.booleans()), min_size=1, max_size=4
    ),
    method=st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]),
)
def test_whatever_two_headers_say_a_zip_is_read_as_it_was_packed_or_refused(edits, method):
    files = {"one.bin": b"1" * 300, "two.bin": bytes(range(256))}
    data = bytearray(zip_bytes(files, method))
    central = data.index(b"PK\x01\x02")
    for place, value, in_directory in edits:
        start, length = (central, len(data) - central) if in_directory else (0, 40)
        data[start + int(place * length)] = value
    found = {}
    with contextlib.suppress(InputError):
        found = read(bytes(data))
    assert all(files.get(name) == content for name, content in found.items())
