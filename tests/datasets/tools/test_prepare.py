"""Preparing a data set from a server on this machine, from archives put there by hand, and from evil ones."""

import gzip
import hashlib
import io
import lzma
import re
import sys
import tarfile
import threading
import types
import zipfile
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from datasets.tools import archives, downloads, known, prepare
from datasets.tools.sources import Source

CONTENT = bytes(range(256)) * 400  # 100 KiB


class Server:
    """Files over HTTP, with the faults that real servers have; remembers the ranges it was asked for."""

    def __init__(self):
        self.files = {}  # path -> bytes
        self.break_after = []  # bytes after which the next answers break off
        self.ranges = True
        self.asked = []  # (path, Range header)
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                server.answer(self)

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def url(self, path):
        return f"http://127.0.0.1:{self.http.server_port}/{path}"

    def answer(self, request):
        path, wanted = request.path.strip("/"), request.headers.get("Range")
        self.asked.append((path, wanted))
        if path not in self.files:
            request.send_error(404)
            return
        content = self.files[path]
        tag = f'"{hashlib.md5(content).hexdigest()}"'
        start = 0
        if wanted and self.ranges and request.headers.get("If-Range", tag) == tag:
            start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1])
            if start >= len(content):
                request.send_response(416)
                request.send_header("Content-Range", f"bytes */{len(content)}")
                request.end_headers()
                return
            request.send_response(206)
            request.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            request.send_response(200)
        request.send_header("Content-Length", str(len(content) - start))
        request.send_header("ETag", tag)
        request.end_headers()
        stop = start + self.break_after.pop(0) if self.break_after else None
        request.wfile.write(content[start:stop])


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(downloads, "PAUSE", 0)
    server = Server()
    yield server
    server.http.shutdown()
    server.http.server_close()


@pytest.fixture
def target(tmp_path):
    return tmp_path / "file.bin"


def md5(content):
    return hashlib.md5(content).hexdigest()


def tar_of(members, mode="w:gz"):
    """A tar file; a member is content, or a TarInfo that says what else it is."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:
        for name, content in members.items():
            info = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.name = name
            if isinstance(content, bytes):
                info.size = len(content)
            tar.addfile(info, io.BytesIO(content) if isinstance(content, bytes) else None)
    return buffer.getvalue()


def zip_of(members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in members.items():
            file.writestr(name, content)
    return buffer.getvalue()


def special(kind, linkname=""):
    info = tarfile.TarInfo()
    info.type, info.linkname = kind, linkname
    return info


def files_below(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


# Downloading


def test_a_file_is_downloaded_and_checked(server, target):
    server.files["a"] = CONTENT
    downloads.download([server.url("a")], target, md5(CONTENT))
    assert target.read_bytes() == CONTENT
    assert files_below(target.parent) == [target.name]


def test_a_connection_that_breaks_is_taken_up_where_it_broke(server, target):
    server.files["a"] = CONTENT
    server.break_after = [1000, 50_000]
    downloads.download([server.url("a")], target, hashlib.sha256(CONTENT).hexdigest())
    assert target.read_bytes() == CONTENT
    assert [wanted for _, wanted in server.asked] == [None, "bytes=1000-", "bytes=51000-"]


def test_a_later_call_goes_on_with_the_part_of_an_earlier_one(server, target, monkeypatch):
    server.files["a"] = CONTENT
    server.break_after = [1000]
    with monkeypatch.context() as patch:
        patch.setattr(downloads, "ATTEMPTS", 1)
        with pytest.raises(downloads.DownloadError, match="broke after 1,000 of 102,400 bytes"):
            downloads.download([server.url("a")], target)
    assert not target.exists()
    downloads.download([server.url("a")], target)
    assert target.read_bytes() == CONTENT
    assert server.asked[-1][1] == "bytes=1000-"


@pytest.mark.parametrize("change", ["the file changed", "no ranges", "another address"])
def test_a_part_that_does_not_belong_to_the_file_is_not_continued(change, server, target, monkeypatch):
    server.files["a"] = CONTENT
    server.break_after = [1000]
    monkeypatch.setattr(downloads, "ATTEMPTS", 1)
    with pytest.raises(downloads.DownloadError):
        downloads.download([server.url("a")], target)
    server.files["a"] = server.files["b"] = expected = CONTENT[::-1] if change != "no ranges" else CONTENT
    server.ranges = change != "no ranges"
    downloads.download([server.url("b" if change == "another address" else "a")], target)
    assert target.read_bytes() == expected


def test_a_part_that_is_the_whole_file_is_not_downloaded_again(server, target):
    server.files["a"] = CONTENT
    downloads.part_of(target).write_bytes(CONTENT)
    Path(f"{target}.part.json").write_text(f'{{"url": "{server.url("a")}"}}')
    downloads.download([server.url("a")], target)
    assert target.read_bytes() == CONTENT and len(server.asked) == 1


def test_a_wrong_checksum_leaves_nothing_behind(server, target):
    server.files["a"] = CONTENT
    with pytest.raises(ValueError, match=f"md5 is {md5(CONTENT)} instead of {md5(b'')}"):
        downloads.download([server.url("a")], target, md5(b""))
    assert files_below(target.parent) == []


def test_a_mirror_is_asked_where_the_first_address_is_gone(server, target):
    server.files["b"] = CONTENT
    downloads.download([server.url("gone"), server.url("b")], target)
    assert target.read_bytes() == CONTENT
    assert [path for path, _ in server.asked] == ["gone", "b"]  # a 404 is final: not asked twice


def test_all_addresses_and_their_answers_are_named(server, target):
    with pytest.raises(downloads.DownloadError, match=r"/x: HTTP Error 404.*; .*/y: HTTP Error 404"):
        downloads.download([server.url("x"), server.url("y")], target)


def test_drive_is_reached_through_gdown(target, monkeypatch):
    def fetch(id, output, resume):
        assert id == "some-id" and resume
        Path(output).write_bytes(CONTENT)
        return output

    monkeypatch.setitem(sys.modules, "gdown", types.SimpleNamespace(download=fetch))
    downloads.download_from_drive("some-id", target, md5(CONTENT))
    assert target.read_bytes() == CONTENT

    target.unlink()
    monkeypatch.setitem(sys.modules, "gdown", None)
    with pytest.raises(downloads.DownloadError, match="file/d/some-id/view: needs the package gdown"):
        downloads.download_from_drive("some-id", target)


# Unpacking


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


# Data sets


@pytest.fixture
def sources(monkeypatch):
    """Replace the sources of a data set."""

    def replace_sources(name, *sources):
        changed = replace(known.find(name), sources=sources)
        entries = tuple(changed if entry.name == name else entry for entry in known.entries())
        monkeypatch.setattr(known, "entries", lambda: entries)
        monkeypatch.setattr(known, "published", lambda: {})
        return changed

    return replace_sources


EUROSAT = zip_of({"2750/River/River_1.jpg": b"image", "2750/Forest/Forest_1.jpg": b"image"})


def eurosat(server):
    return Source(
        file="EuroSAT.zip",
        urls=(server.url("EuroSAT.zip"),),
        md5=md5(EUROSAT),
        gives=("2750",),
        take="2750",
        to="2750",
    )


def test_a_data_set_is_downloaded_unpacked_and_examined_once(server, sources, tmp_path, capsys):
    server.files["EuroSAT.zip"] = EUROSAT
    sources("eurosat", eurosat(server))
    assert prepare.main(["eurosat", "--root", str(tmp_path)]) == 1  # two images are not EuroSAT
    out = capsys.readouterr().out
    assert "EuroSAT.zip: downloaded" in out and f"EuroSAT, {tmp_path / 'eurosat'}" in out
    assert files_below(tmp_path / "eurosat/2750") == ["Forest/Forest_1.jpg", "River/River_1.jpg"]

    (tmp_path / "eurosat/2750/River/River_1.jpg").write_bytes(b"mine")
    prepare.main(["eurosat", "--root", str(tmp_path)])
    assert "there already: 2750" in capsys.readouterr().out
    assert len(server.asked) == 1
    assert (tmp_path / "eurosat/2750/River/River_1.jpg").read_bytes() == b"mine"


def test_an_archive_put_there_by_hand_is_used_if_it_is_the_published_one(server, sources, tmp_path):
    entry = sources("eurosat", eurosat(server))
    (tmp_path / "eurosat").mkdir()
    archive = tmp_path / "eurosat/EuroSAT.zip"
    archive.write_bytes(zip_of({"2750/Other/1.jpg": b""}))
    with pytest.raises(ValueError, match="is not the published file.*replace it, or unpack it yourself"):
        prepare.prepare(entry, tmp_path)
    archive.write_bytes(EUROSAT)
    assert prepare.prepare(entry, tmp_path) == []
    assert (tmp_path / "eurosat/2750/River/River_1.jpg").is_file() and server.asked == []


def test_a_damaged_archive_leaves_no_half_folder(sources, tmp_path):
    entry = sources("eurosat", Source(file="a.tar", gives=("2750",), take="2750", to="2750"))
    (tmp_path / "eurosat").mkdir()
    (tmp_path / "eurosat/a.tar").write_bytes(
        tar_of({"2750/a/1.jpg": b"x", "2750/a/2": b"x" * 20_000}, "w")[:9000]
    )
    with pytest.raises(ValueError, match="damaged or cut off"):
        prepare.prepare(entry, tmp_path)
    assert [path.name for path in (tmp_path / "eurosat").iterdir() if not path.name.startswith(".p")] == [
        "a.tar"
    ]


def test_a_file_that_needs_a_login_is_asked_for_by_name_and_accepted(sources, tmp_path, capsys):
    source = Source(
        file="cars.tgz", gives=("cars_train",), take="cars_train", to="cars_train", by_hand="log in at x"
    )
    sources("stanford_cars", source)
    command = ["stanford_cars", "--root", str(tmp_path)]
    assert prepare.main(command) == 1
    out = capsys.readouterr().out
    assert (
        f"To be put there by hand, into {tmp_path / 'stanford_cars'}:\n  cars.tgz\n      log in at x\n" in out
    )
    assert out.endswith(f"python -m datasets.prepare stanford_cars --root {tmp_path}\n")

    (tmp_path / "stanford_cars/cars.tgz").write_bytes(tar_of({"somewhere/cars_train/00001.jpg": b"x"}))
    prepare.main(command)
    assert "by hand" not in capsys.readouterr().out
    assert (tmp_path / "stanford_cars/cars_train/00001.jpg").is_file()


def test_a_dead_link_names_what_it_answered_and_the_copies_known(server, sources, tmp_path, capsys):
    source = replace(eurosat(server), by_hand="zenodo has it too")
    sources("eurosat", source)
    assert prepare.main(["eurosat", "--root", str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert "HTTP Error 404" in out and "zenodo has it too" in out


def test_annotations_are_fetched_only_where_the_split_is_missing(server, sources, tmp_path):
    server.files |= {"split": b"{}", "labels": b"x"}
    split = Source(file="split_zhou_OxfordFlowers.json", urls=(server.url("split"),))
    labels = Source(file="imagelabels.mat", urls=(server.url("labels"),), optional=True)
    entry = sources("oxford_flowers", labels, split)
    assert prepare.prepare(entry, tmp_path / "with") == []
    assert not (tmp_path / "with/oxford_flowers/imagelabels.mat").exists()

    del server.files["split"]
    assert [source for source, _ in prepare.prepare(entry, tmp_path / "without")] == [split]
    assert (tmp_path / "without/oxford_flowers/imagelabels.mat").is_file()


def test_class_names_are_copied_from_imagenet(sources, tmp_path):
    entry = sources("imagenet_a", known.find("imagenet_a").sources[0])
    (tmp_path / "imagenet").mkdir()
    (tmp_path / "imagenet/classnames.txt").write_text("n01440764 tench\n")
    assert prepare.prepare(entry, tmp_path) == []
    assert (tmp_path / "imagenet-adversarial/classnames.txt").read_text() == "n01440764 tench\n"


def test_an_archive_inside_an_archive_and_a_folder_below_others_are_found(sources, tmp_path):
    inner = tar_of({"101_ObjectCategories/ant/1.jpg": b"x"})
    (tmp_path / "caltech-101").mkdir()
    entry = known.find("caltech101")
    source = replace(entry.sources[0], md5="")
    (tmp_path / "caltech-101" / source.file).write_bytes(
        zip_of({"caltech-101/101_ObjectCategories.tar.gz": inner, "__MACOSX/x": b""})
    )
    prepare.prepare(sources("caltech101", source), tmp_path)
    assert files_below(tmp_path / "caltech-101/101_ObjectCategories") == ["ant/1.jpg"]

    (tmp_path / "fgvc_aircraft").mkdir()
    source = known.find("fgvc_aircraft").sources[0]
    (tmp_path / "fgvc_aircraft" / source.file).write_bytes(
        tar_of({"fgvc-aircraft-2013b/data/variants.txt": b"A", "fgvc-aircraft-2013b/data/images/1.jpg": b"x"})
    )
    prepare.prepare(sources("fgvc_aircraft", source), tmp_path)
    assert (tmp_path / "fgvc_aircraft/variants.txt").is_file()
    assert (tmp_path / "fgvc_aircraft/images/1.jpg").is_file()


def test_imagenets_three_archives_become_class_folders(sources, tmp_path):
    folder = tmp_path / "imagenet"
    folder.mkdir()
    published = [source for source in known.find("imagenet").sources if source.file.endswith((".tar", ".gz"))]
    entry = sources("imagenet", *(replace(source, md5="") for source in published))
    assert [source.file for source, _ in prepare.prepare(entry, tmp_path)] == [s.file for s in published]

    kind = [("ILSVRC2012_ID", object), ("WNID", object)]
    rows = [(np.array([[1]]), "n02"), (np.array([[2]]), "n01")]
    savemat(tmp_path / "meta.mat", {"synsets": np.array(rows, dtype=kind)})
    data = "ILSVRC2012_devkit_t12/data"
    train = {f"{wnid}.tar": tar_of({f"{wnid}_1.JPEG": b"x"}, "w") for wnid in ("n01", "n02")}
    val = {f"ILSVRC2012_val_{number}.JPEG": b"x" for number in (2, 1, 3)}
    (folder / "ILSVRC2012_img_train.tar").write_bytes(tar_of(train, "w"))
    (folder / "ILSVRC2012_img_val.tar").write_bytes(tar_of(val, "w"))
    (folder / "ILSVRC2012_devkit_t12.tar.gz").write_bytes(
        tar_of(
            {
                f"{data}/meta.mat": (tmp_path / "meta.mat").read_bytes(),
                f"{data}/ILSVRC2012_validation_ground_truth.txt": b"1\n2\n1\n",
            }
        )
    )
    assert prepare.prepare(entry, tmp_path) == []
    assert files_below(folder / "images") == [
        "train/n01/n01_1.JPEG",
        "train/n02/n02_1.JPEG",
        "val/n01/ILSVRC2012_val_2.JPEG",
        "val/n02/ILSVRC2012_val_1.JPEG",
        "val/n02/ILSVRC2012_val_3.JPEG",
    ]


def test_the_embedded_data_are_drawn(tmp_path, capsys):
    assert prepare.main(["demo_signs", "--root", str(tmp_path)]) == 0
    assert capsys.readouterr().out.endswith("all is well\n")


def test_every_source_leads_somewhere():
    for entry in known.entries():
        if entry.drawn:
            continue
        for source in entry.sources:
            assert source.urls or source.drive or source.by_hand, (entry.name, source.file)
            assert source.unpack in prepare.UNPACK
            assert len(source.md5) in (0, 32)
        given = {result for source in entry.sources for result in source.results}
        wanted = {*entry.images, *entry.files} | ({entry.split} if entry.split else set())
        assert wanted <= given | {
            "images_variant_train.txt",
            "images_variant_val.txt",
            "images_variant_test.txt",
        }


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
