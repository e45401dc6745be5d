"""Unpacking archives of the outside world, evil ones among them."""

import gzip
import io
import lzma
import tarfile
from pathlib import Path

import numpy as np
import pytest

from datasets.tools import archives
from tests.datasets.tools.making import files_below, tar_of, zip_of


def special(kind, linkname=""):
    info = tarfile.TarInfo()
    info.type, info.linkname = kind, linkname
    return info


@pytest.mark.parametrize("make", [tar_of, lambda members: tar_of(members, "w"), zip_of])
def test_archives_are_unpacked_whatever_they_are_called(make, tmp_path):
    (tmp_path / "archive").write_bytes(make({"a/1.jpg": b"one", "a/b/2.jpg": b"two"}))
    assert archives.extract(tmp_path / "archive", tmp_path / "out") == 2
    assert files_below(tmp_path / "out") == ["a/1.jpg", "a/b/2.jpg"]
    assert (tmp_path / "out/a/b/2.jpg").read_bytes() == b"two"


EVIL = {
    "parent": tar_of({"../evil": b"x"}),
    "parent in the middle": tar_of({"a/../../evil": b"x"}),
    "absolute": tar_of({"/tmp/evil": b"x"}),
    "link out": tar_of({"a": special(tarfile.SYMTYPE, "../"), "a/evil": b"x"}),
    "absolute link": tar_of({"a": special(tarfile.SYMTYPE, "/etc/passwd")}),
    "hard link out": tar_of({"a": special(tarfile.LNKTYPE, "../outside")}),
    "link to itself": tar_of({"a": special(tarfile.SYMTYPE, "a")}),
    "device": tar_of({"a": special(tarfile.CHRTYPE)}),
    "pipe": tar_of({"a": special(tarfile.FIFOTYPE)}),
    "zip parent": zip_of({"../evil": b"x"}),
    "zip absolute": zip_of({"/tmp/evil": b"x"}),
    "zip backslashes": zip_of({"..\\evil": b"x"}),
    "zip drive": zip_of({"C:evil": b"x"}),
}


@pytest.mark.parametrize("kind", EVIL)
def test_an_evil_archive_is_refused_and_nothing_lands_outside(kind, tmp_path):
    (tmp_path / "outside").write_bytes(b"secret")
    (tmp_path / "archive").write_bytes(EVIL[kind])
    target = tmp_path / "deep" / "target"
    with pytest.raises(ValueError, match="nothing is taken from"):
        archives.extract(tmp_path / "archive", target)
    assert files_below(tmp_path) == ["archive", "outside"]
    assert not any(path.is_symlink() for path in tmp_path.rglob("*"))


def test_a_link_inside_the_archive_becomes_a_copy(tmp_path):
    content = {
        "a/1.jpg": b"one",
        "b/2.jpg": special(tarfile.SYMTYPE, "../a/1.jpg"),
        "b/3.jpg": special(tarfile.LNKTYPE, "a/1.jpg"),
    }
    (tmp_path / "archive").write_bytes(tar_of(content))
    archives.extract(tmp_path / "archive", tmp_path / "out")
    for name in ("b/2.jpg", "b/3.jpg"):
        assert (tmp_path / "out" / name).read_bytes() == b"one"
        assert not (tmp_path / "out" / name).is_symlink()


@pytest.mark.parametrize(
    "content, message",
    [
        (tar_of({"a": np.random.default_rng(1).bytes(200_000)})[:100_000], "is damaged or cut off"),
        (tar_of({"a": b"x" * 20_000}, "w")[:10_000], "is damaged or cut off"),
        (b"<!DOCTYPE html><html>Quota exceeded</html>", "is a web page, neither a tar nor a zip file"),
        (b"", "is empty"),
    ],
)
def test_what_is_no_whole_archive_is_named(content, message, tmp_path):
    (tmp_path / "archive").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        archives.extract(tmp_path / "archive", tmp_path / "out")


def marked(flag=0, method=None):
    """A zip file whose member says that it is encrypted, or of another method."""
    content = bytearray(zip_of({"good": b"x", "a": b"y" * 100}))
    at = content.rindex(b"PK\x01\x02")
    content[at + 8] |= flag
    if method is not None:
        content[at + 10 : at + 12] = method.to_bytes(2, "little")
    return bytes(content)


@pytest.mark.parametrize(
    "content, message",
    [
        (marked(flag=1), "'a' is encrypted; unpack it yourself"),
        (marked(method=9), r"'a' is compressed by deflate64 \(method 9\); unpack it yourself"),
        (marked(method=77), r"'a' is compressed by an unknown way \(method 77\); unpack it yourself"),
        (marked(flag=0x20), "of a kind that is not read here .*; unpack it yourself"),
        (zip_of({"a/" * 3000 + "b": b"x"}), "has 3001 folders .*nothing is taken from"),
        (tar_of({"a/" * 3000 + "b": b"x"}), "has 3001 folders .*nothing is taken from"),
        (zip_of({"a" * 3000: b"x"}), "and 3,000 characters.*nothing is taken from"),
        (
            lzma.compress(tar_of({"a": np.random.default_rng(1).bytes(99_999)}, "w"))[:50_000],
            "damaged or cut",
        ),
    ],
    ids=[
        "encrypted",
        "deflate64",
        "unknown method",
        "patched",
        "deep zip",
        "deep tar",
        "long name",
        "half xz",
    ],
)
def test_an_archive_that_cannot_be_unpacked_is_told_in_words(content, message, tmp_path):
    (tmp_path / "archive").write_bytes(content)
    with pytest.raises(ValueError, match=f"archive.*{message}"):
        archives.extract(tmp_path / "archive", tmp_path / "out")
    assert set(files_below(tmp_path)) <= {"archive", "out/good", "out/a"}


def test_a_full_disk_names_the_file_that_is_unpacked(tmp_path):
    with (
        open("/dev/full", "wb", buffering=0) as full,
        pytest.raises(OSError, match=r"cannot write one\.jpg \(No space left.*make room"),
    ):
        archives._write(full, b"x", Path("one.jpg"))


FILES = {"a.txt": b"first" * 300, "b.txt": b"second", "c.txt": b"third" * 99}


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_files_behind_a_damaged_header_are_not_lost_in_silence(mode, tmp_path):
    with tarfile.open(fileobj=io.BytesIO(tar_of(FILES, "w"))) as tar:
        at = tar.getmember("b.txt").offset
    content = bytearray(tar_of(FILES, "w"))
    content[at] ^= 1
    (tmp_path / "a.tar").write_bytes(gzip.compress(content) if mode == "w:gz" else content)
    with pytest.raises(ValueError, match=r"a\.tar is damaged or cut off \(bad checksum\)"):
        archives.extract(tmp_path / "a.tar", tmp_path / "out")
    (tmp_path / "a.tar").write_bytes(content[:at])  # cut where a file ends
    with pytest.raises(ValueError, match=r"a\.tar is damaged or cut off \(empty header\)"):
        archives.extract(tmp_path / "a.tar", tmp_path / "out")


def test_the_check_sum_behind_a_compressed_tar_is_read(tmp_path):
    content = bytearray(gzip.compress(tar_of(FILES, "w"), mtime=0))
    content[-8] ^= 1  # of the CRC
    (tmp_path / "a.tar.gz").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.tar\.gz is damaged or cut off \(CRC check failed"):
        archives.extract(tmp_path / "a.tar.gz", tmp_path / "out")


@pytest.mark.parametrize("content", [bytes(1024), b"PK\x05\x06" + bytes(18)])
def test_an_archive_of_nothing_is_refused(content, tmp_path):
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.zip is an archive without files"):
        archives.extract(tmp_path / "a.zip", tmp_path / "out")


@pytest.mark.parametrize("names", [("a", "a/b"), ("a/b", "a")])
def test_a_name_that_is_file_and_folder_is_told_with_the_archive(names, tmp_path):
    (tmp_path / "a.zip").write_bytes(zip_of(dict.fromkeys(names, b"x")))
    with pytest.raises(ValueError, match=rf"a\.zip: '{names[1]}' is a file and a folder"):
        archives.extract(tmp_path / "a.zip", tmp_path / "out")
