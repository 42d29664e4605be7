"""Archives from anybody: what is odd is read, what is hostile or damaged is refused by name."""

import bz2
import gzip
import hashlib
import io
import lzma
import random
import stat
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from typing import BinaryIO, cast

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from omnistage.archives.decompress import Decompressed
from omnistage.archives.file_views import JoinedFiles
from omnistage.archives.reader import ArchiveLimits, read_members
from omnistage.errors import InputError

LIMITS = ArchiveLimits(max_members=1000, max_bytes=1 << 40, max_ratio=200)
FILES = {"a/one.txt": b"1" * 10, "a/b/two.bin": bytes(range(256)) * 9, "empty": b""}


def tar_bytes(files: dict[str, bytes], **header: object) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            for key, value in header.items():
                setattr(info, key, value)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def zip_bytes(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def read(
    data: bytes, limits: ArchiveLimits = LIMITS, encoding: str | None = None
) -> dict[str, bytes]:
    members = read_members(io.BytesIO(data), len(data), "x.archive", limits, encoding)
    return {m.name: b"".join(m.chunks()) for m in members}


PACKINGS: dict[str, Callable[[dict[str, bytes]], bytes]] = {
    "tar": tar_bytes,
    "tar.gz": lambda f: gzip.compress(tar_bytes(f)),
    "tar.bz2": lambda f: bz2.compress(tar_bytes(f)),
    "tar.xz": lambda f: lzma.compress(tar_bytes(f)),
    "tar.zst": lambda f: zstandard.compress(tar_bytes(f)),
    "zip": zip_bytes,
    "stored zip": lambda f: zip_bytes(f, zipfile.ZIP_STORED),
    "bzip2 zip": lambda f: zip_bytes(f, zipfile.ZIP_BZIP2),
}


@pytest.mark.parametrize("packing", PACKINGS)
def test_every_packing_gives_the_members_back(packing):
    assert read(PACKINGS[packing](FILES)) == FILES


@pytest.mark.parametrize("packing", PACKINGS)
def test_an_archive_cut_anywhere_is_refused(packing):
    noise = random.Random(0).randbytes(20_000)  # does not compress, so a cut is in the data
    whole = PACKINGS[packing]({"a": noise, "b": noise[::-1]})
    for share in (0.1, 0.5, 0.75):
        with pytest.raises(InputError, match=r"x\.archive: "):
            read(whole[: int(len(whole) * share)])


@pytest.mark.parametrize("packing", ["tar", "tar.gz", "tar.zst"])
def test_a_tar_that_ends_between_two_members_is_truncated_and_not_short(packing):
    first = tar_bytes({"a": b"x" * 512})[:1024]
    pack = {"tar": bytes, "tar.gz": gzip.compress, "tar.zst": zstandard.compress}[packing]
    with pytest.raises(InputError, match="truncated or damaged"):
        read(pack(first))


@pytest.mark.parametrize("packing", ["tar.gz", "zip", "stored zip"])
def test_a_flipped_byte_of_a_checksummed_archive_is_found(packing):
    data = bytearray(PACKINGS[packing]({"a": random.Random(1).randbytes(5000)}))
    data[2500] ^= 1
    with pytest.raises(InputError, match="damaged"):
        read(bytes(data))


def test_a_damaged_tar_header_is_not_taken_for_the_end():
    data = bytearray(tar_bytes({"a": b"x" * 512, "b": b"y" * 512}))
    data[1024 + 5] ^= 1  # in the name of the second header, so its checksum is wrong
    with pytest.raises(InputError, match="no valid header"):
        read(bytes(data))


def test_several_gzip_and_zstd_members_one_after_another_are_one_stream():
    tar = tar_bytes(FILES)
    assert read(gzip.compress(tar[:700]) + gzip.compress(tar[700:])) == FILES
    assert read(zstandard.compress(tar[:700]) + zstandard.compress(tar[700:])) == FILES


def test_what_an_archive_is_its_bytes_say():
    with pytest.raises(InputError, match="not an archive.*begins with b'<html>"):
        read(b"<html>Sign in to download</html>")
    with pytest.raises(InputError, match="empty"):
        read(b"")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../evil", r"climbs"),
        ("a/../../evil", r"climbs"),
        ("/etc/passwd", "absolute"),
        ("C:/evil.txt", "drive letter"),
        ("c:evil.txt", "drive letter"),
        ("..\\evil", "climbs"),
        ("\\\\server\\share", "absolute"),
        ("bad\nname", "control characters"),
        ("x" * 300, "too long"),
    ],
)
@pytest.mark.parametrize("pack", [tar_bytes, zip_bytes])
def test_a_hostile_name_is_refused_with_archive_and_member(pack, name, reason):
    with pytest.raises(InputError, match=rf"x\.archive: member .* is refused: .*{reason}") as e:
        read(pack({"good": b"1", name: b"2"}))
    assert repr(name) in str(e.value)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (tarfile.SYMTYPE, "symbolic link"),
        (tarfile.LNKTYPE, "hard link"),
        (tarfile.CHRTYPE, "character device"),
        (tarfile.BLKTYPE, "block device"),
        (tarfile.FIFOTYPE, "named pipe"),
    ],
)
def test_links_and_devices_in_a_tar_are_refused(kind, reason):
    data = tar_bytes({"member": b""}, type=kind, linkname="/etc/passwd")
    with pytest.raises(InputError, match=f"member 'member' is refused: it is a {reason}"):
        read(data)


@pytest.mark.parametrize(
    ("mode", "reason"),
    [(stat.S_IFLNK, "symbolic link"), (stat.S_IFCHR, "character device"), (stat.S_IFIFO, "pipe")],
)
def test_links_and_devices_in_a_zip_are_refused(mode, reason):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        info = zipfile.ZipInfo("member")
        info.create_system = 3
        info.external_attr = (mode | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(InputError, match=f"'member' is refused: it is a .*{reason}"):
        read(out.getvalue())


def test_an_encrypted_zip_is_refused():
    data = bytearray(zip_bytes({"secret": b"x"}))
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(InputError, match="'secret' is refused: it is encrypted"):
        read(bytes(data))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name_are_refused():
    tar = tar_bytes({"same": b"1"})[:1024] + tar_bytes({"same": b"2"})
    with pytest.raises(InputError, match="'same' is refused: a member of this name came before"):
        read(tar)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("same", "1")
        archive.writestr("same", "2")
    with pytest.raises(InputError, match="'same' is refused"):
        read(out.getvalue())


@pytest.mark.parametrize("packing", ["tar.gz", "tar.zst", "zip"])
def test_a_bomb_is_refused_by_its_ratio(packing):
    bomb = PACKINGS[packing]({"small": b"1", "zeros": bytes(101_000_000)})
    assert len(bomb) < 500_000
    with pytest.raises(InputError, match=r"'zeros' is refused: .* 200 times.*max_ratio"):
        read(bomb)


def test_nothing_but_zeros_after_the_last_member_is_refused():
    bomb = gzip.compress(tar_bytes({"a": b"1"}) + bytes(101_000_000), 1)
    with pytest.raises(InputError, match="after its last member, 'a', come more than"):
        read(bomb)


def test_count_and_size_limits_name_the_setting():
    few = ArchiveLimits(max_members=2, max_bytes=1 << 40, max_ratio=200)
    with pytest.raises(InputError, match=r"more than 2 members; raise limits\.max_members"):
        read(tar_bytes(FILES), few)
    small = ArchiveLimits(max_members=10, max_bytes=1000, max_ratio=200)
    with pytest.raises(InputError, match=r"'a/b/two.bin'.*more than 1000 bytes.*max_bytes"):
        read(zip_bytes(FILES), small)


def test_an_extension_header_of_gigabytes_is_not_read():
    info = tarfile.TarInfo("@LongLink")
    info.type = tarfile.GNUTYPE_LONGNAME
    info.size = 4 << 30
    with pytest.raises(InputError, match="extension header of 4294967296 bytes"):
        read(info.tobuf(tarfile.GNU_FORMAT) + bytes(4096))


def test_folders_and_the_top_itself_are_passed_over(tmp_path):
    (tmp_path / "top" / "inner").mkdir(parents=True)
    (tmp_path / "top" / "inner" / "x.txt").write_text("x")
    subprocess.run(["tar", "-cf", "a.tar", "-C", "top", "."], cwd=tmp_path, check=True)
    assert read((tmp_path / "a.tar").read_bytes()) == {"inner/x.txt": b"x"}


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("音频/测试.wav", "gbk"),
        ("かな/カナ.wav", "shift_jis"),
        ("café/Größe.wav", "cp437"),
        ("日本語/音.wav", "utf-8"),
    ],
)
def test_a_name_in_a_legacy_encoding_is_guessed(text, encoding):
    raw = text.encode(encoding)
    assert list(read(_zip_named(raw))) == [text]
    assert list(read(_tar_named(raw))) == [text]


def test_a_name_in_another_encoding_can_be_stated():
    raw = "한국어/소리.wav".encode("euc_kr")
    assert list(read(_zip_named(raw), encoding="euc_kr")) == ["한국어/소리.wav"]
    with pytest.raises(InputError, match="member_encoding"):
        read(_zip_named(raw), encoding="ascii")


def test_windows_separators_become_slashes():
    assert list(read(zip_bytes({"clips\\one.mp4": b"1"}))) == ["clips/one.mp4"]


def test_zip64_is_read():
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive, archive.open("big", "w", force_zip64=True) as f:
        f.write(b"x" * 5000)
    assert read(out.getvalue()) == {"big": b"x" * 5000}


@pytest.mark.parametrize("size", ["64k", "100k"])
def test_a_spanned_zip_is_read_over_its_parts(tmp_path, size):
    files = {f"clip{n}.bin": random.Random(n).randbytes(30_000) for n in range(9)}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    subprocess.run(
        ["zip", "-q", "-s", size, "all.zip", *files], cwd=tmp_path, check=True, timeout=30
    )
    parts = [*sorted(tmp_path.glob("all.z[0-9]*")), tmp_path / "all.zip"]
    assert len(parts) > 2
    with JoinedFiles(parts) as joined:
        members = read_members(
            cast(BinaryIO, joined), joined.starts[-1], "all.zip", LIMITS, None, joined.starts[:-1]
        )
        assert {m.name: b"".join(m.chunks()) for m in members} == files


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    packing=st.sampled_from(["tar", "tar.gz", "tar.zst", "zip", "stored zip"]),
    at=st.floats(0, 1),
    junk=st.binary(min_size=1, max_size=40),
)
def test_no_damage_crashes_the_reader_or_changes_bytes_unnoticed(packing, at, junk):
    files = {"one": b"1" * 700, "two": bytes(range(256)) * 4}
    data = bytearray(PACKINGS[packing](files))
    start = int(at * len(data))
    data[start : start + len(junk)] = junk
    found, refused = {}, ""
    try:
        found = read(bytes(data))
    except InputError as e:
        refused = str(e)
    assert refused == "" or refused.startswith("x.archive: ")
    if packing in ("tar.gz", "zip", "stored zip"):  # formats with a checksum over the bytes
        assert all(files.get(name, data) == data for name, data in found.items())


def test_offsets_lead_to_the_bytes():
    data = tar_bytes(FILES)
    for member in read_members(io.BytesIO(data), len(data), "x", LIMITS):
        wanted = hashlib.sha256(FILES[member.name]).digest()
        there = data[member.offset : member.offset + member.size]
        assert hashlib.sha256(there).digest() == wanted


def _tar_named(raw: bytes) -> bytes:
    out = io.BytesIO()
    name = raw.decode("latin-1")
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT, encoding="latin-1") as tar:
        tar.addfile(tarfile.TarInfo(name))
    return out.getvalue()


def _zip_named(raw: bytes) -> bytes:
    """Return a zip whose one name has these bytes and no UTF-8 flag."""
    stand_in = "n" * len(raw)
    return zip_bytes({stand_in: b""}).replace(stand_in.encode(), raw)


def test_decompressed_data_are_read_forward_only():
    stream = Decompressed(io.BytesIO(gzip.compress(b"0123456789")), "gz")
    assert (stream.seek(4), stream.read(2), stream.tell()) == (4, b"45", 6)
    with pytest.raises(io.UnsupportedOperation, match="forward only"):
        stream.seek(5)
    assert (stream.seek(99), stream.read(1)) == (10, b"")
