"""Downloading from servers with every fault: retries resume, the next place is asked, wrong files vanish."""

import hashlib
import shutil
import sys
import types
from pathlib import Path

import pytest

from clipfit.io.downloads import DownloadError, NoRoomError, Patience, download, part_of
from clipfit.io.heads import ask
from clipfit.io.places import FilePlace, verify
from tests.web import EAGER, patience_for

CONTENT = bytes(range(256)) * 400  # 100 KiB


def sha256(content):
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def target(tmp_path):
    return tmp_path / "folder/file.bin"


def fetch(places, target, patience=EAGER):
    return download(
        [place if isinstance(place, FilePlace) else FilePlace(place) for place in places], target, patience
    )


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("kind", ["md5", "sha256", "git blob"])
def test_a_file_is_downloaded_and_checked(kind, server, target):
    server.files["a"] = CONTENT
    blob = hashlib.sha1(b"blob %d\0" % len(CONTENT) + CONTENT).hexdigest()
    checksum = {"md5": hashlib.md5(CONTENT).hexdigest(), "sha256": sha256(CONTENT), "git blob": blob}[kind]
    place = FilePlace(server.url("a"), checksum=checksum, size=len(CONTENT))
    assert fetch([place], target) == place
    assert target.read_bytes() == CONTENT and names(target.parent) == ["file.bin"]
    target.write_bytes(CONTENT[:-1])
    with pytest.raises(ValueError, match=f"{kind}.* instead of {checksum}"):
        verify(target, checksum)


def test_the_blob_id_is_gits(tmp_path):
    (tmp_path / "hello").write_bytes(b"hello\n")
    verify(
        tmp_path / "hello", "ce013625030ba8dba906f756967f9e9ca394464a"
    )  # echo hello | git hash-object --stdin


FAULTS = {
    404: r"HTTP Error 404",
    403: r"HTTP Error 403",
    503: r"HTTP Error 503",
    "slow": "no answer in time",
    "html": "a web page instead of the file",
    "wrong bytes": r"sha256 is \w+ instead of \w+; it may be cut off, or a changed copy; it was removed",
    "another size": "a file of 5 bytes; the published one has 102,400",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_next_place_is_asked_and_the_error_says_what_each_answered(fault, server, target):
    server.files |= {"bad": CONTENT, "good": CONTENT}
    server.faults["bad"] = fault
    size, patience = 0, patience_for(fault)
    if fault == "wrong bytes":
        server.files["bad"] = CONTENT[::-1]
    elif fault == "another size":
        server.files["bad"], size = b"small", len(CONTENT)
    bad, good = (FilePlace(server.url(path), checksum=sha256(CONTENT), size=size) for path in ("bad", "good"))
    with pytest.raises(DownloadError, match=rf"/bad: .*{FAULTS[fault]}"):
        fetch([bad], target, patience)
    final = fault not in (503, "slow")
    assert server.paths.count("bad") == (1 if final else patience.attempts)
    assert not target.exists()
    assert fetch([bad, good], target, patience) == good
    assert target.read_bytes() == CONTENT and names(target.parent) == ["file.bin"]


def test_a_certificate_that_is_not_accepted_is_final(tls, server, target):
    server.files["good"] = tls.files["a"] = CONTENT
    with pytest.raises(DownloadError, match=r"/a: its certificate is not accepted \(self.signed"):
        fetch([tls.url("a")], target, Patience(attempts=3, pause=1e9))
    fetch([tls.url("a"), server.url("good")], target)
    assert target.read_bytes() == CONTENT and tls.asked == []


def test_a_name_that_nobody_knows_is_final(target):
    with pytest.raises(DownloadError, match="http://nowhere.invalid/a: "):
        fetch(["http://nowhere.invalid/a"], target, Patience(attempts=3, pause=1e9))


def test_every_place_is_in_the_error(server, target):
    with pytest.raises(DownloadError) as error:
        fetch([server.url("x"), server.url("y")], target)
    assert [line.split(": HTTP")[0] for line in str(error.value).splitlines()] == [
        server.url("x"),
        server.url("y"),
    ]


def test_a_redirect_is_followed(server, target):
    server.files["new"] = CONTENT
    server.moved["old"] = "new"
    fetch([server.url("old")], target)
    assert target.read_bytes() == CONTENT


def test_a_connection_that_breaks_is_taken_up_where_it_broke(server, target):
    server.files["a"] = CONTENT
    server.break_after = [1000, 50_000]
    fetch([FilePlace(server.url("a"), checksum=sha256(CONTENT))], target)
    assert target.read_bytes() == CONTENT
    assert [wanted for _, wanted in server.asked] == [None, "bytes=1000-", "bytes=51000-"]


ONCE = Patience(attempts=1)


def test_a_later_call_goes_on_with_the_part_of_an_earlier_one(server, target):
    server.files["a"] = CONTENT
    server.faults["a"] = "cut"
    with pytest.raises(DownloadError, match="broke after 51,200 of 102,400 bytes"):
        fetch([server.url("a")], target, ONCE)
    assert not target.exists()
    fetch([server.url("a")], target, ONCE)
    assert target.read_bytes() == CONTENT and server.asked[-1] == ("a", "bytes=51200-")


def test_another_place_goes_on_with_a_part_of_the_same_checksum(server, target):
    server.files |= {"a": CONTENT, "b": CONTENT}
    server.faults["a"] = "cut"
    fetch([FilePlace(server.url(path), checksum=sha256(CONTENT)) for path in "ab"], target, ONCE)
    assert target.read_bytes() == CONTENT and server.asked[-1] == ("b", "bytes=51200-")


def test_a_part_with_other_bytes_costs_only_a_second_download(server, target):
    server.files |= {"a": CONTENT[::-1], "b": CONTENT}
    server.faults["a"] = "cut"
    fetch([FilePlace(server.url(path), checksum=sha256(CONTENT)) for path in "ab"], target, ONCE)
    assert target.read_bytes() == CONTENT and server.paths == ["a", "b", "b"]


@pytest.mark.parametrize("change", ["the file changed", "no ranges", "range refused", "another address"])
def test_a_part_that_does_not_belong_to_the_file_is_not_continued(change, server, target):
    server.files["a"] = CONTENT
    server.break_after = [1000]
    with pytest.raises(DownloadError):
        fetch([server.url("a")], target, ONCE)
    expected = CONTENT[::-1] if change in ("the file changed", "another address") else CONTENT
    server.files["a"] = server.files["b"] = expected
    server.faults["a"] = change
    fetch([server.url("b" if change == "another address" else "a")], target)
    assert target.read_bytes() == expected


def test_a_part_that_is_the_whole_file_is_not_downloaded_again(server, target):
    server.files["a"] = CONTENT
    target.parent.mkdir()
    part_of(target).write_bytes(CONTENT)
    Path(f"{target}.part.json").write_text(f'{{"address": "{server.url("a")}"}}')
    fetch([server.url("a")], target)
    assert target.read_bytes() == CONTENT and len(server.asked) == 1


def test_a_full_disk_ends_it_before_the_download_begins(server, target, monkeypatch):
    server.files |= {"a": CONTENT, "b": CONTENT}
    monkeypatch.setattr(shutil, "disk_usage", lambda _: types.SimpleNamespace(free=1000))
    with pytest.raises(NoRoomError, match="needs 102,400 bytes in .*, where 1,000 are free; make room"):
        fetch([server.url("a"), server.url("b")], target)
    assert server.paths == ["a"] and names(target.parent) == []


def test_hugging_face_is_asked_where_hf_endpoint_says(server, target, monkeypatch):
    server.files["timm/model/resolve/main/a.bin"] = CONTENT
    monkeypatch.setenv("HF_ENDPOINT", server.url(""))
    fetch(["https://huggingface.co/timm/model/resolve/main/a.bin"], target)
    assert target.read_bytes() == CONTENT
    assert FilePlace("https://example.org/a").address == "https://example.org/a"


# Google Drive


def test_drive_is_reached_through_gdown(target, monkeypatch):
    def give(id, output, resume):
        assert id == "some-id" and resume and not Path(output).exists()
        Path(output).write_bytes(CONTENT)
        return output

    monkeypatch.setitem(sys.modules, "gdown", types.SimpleNamespace(download=give))
    target.parent.mkdir()
    part_of(target).write_bytes(b"of another place")  # which gdown would take for the file
    Path(f"{target}.part.json").write_text("{}")
    fetch([FilePlace(drive="some-id", checksum=sha256(CONTENT))], target)
    assert target.read_bytes() == CONTENT and names(target.parent) == ["file.bin"]


@pytest.mark.parametrize("fault", ["wrong bytes", "limit", "not installed"])
def test_where_drive_fails_the_next_place_is_asked(fault, server, target, monkeypatch):
    def fail(id, output, resume):
        if fault == "limit":
            raise RuntimeError("too many users")
        Path(output).write_bytes(b"a web page")
        return output

    monkeypatch.setitem(
        sys.modules, "gdown", None if fault == "not installed" else types.SimpleNamespace(download=fail)
    )
    drive = FilePlace(drive="some-id", checksum=sha256(CONTENT))
    said = {"wrong bytes": "sha256 is", "limit": "too many users", "not installed": "pip install 'gdown"}[
        fault
    ]
    with pytest.raises(DownloadError, match=f"file/d/some-id/view: .*{said}"):
        fetch([drive], target)
    server.files["a"] = CONTENT
    fetch([drive, server.url("a")], target)
    assert target.read_bytes() == CONTENT


# Asking without fetching


def test_asking_gives_status_and_size_and_fetches_nothing(server, tls):
    server.files |= {"a": CONTENT, "b": CONTENT}
    server.moved["old"] = "a"
    server.faults["b"] = "no head"
    assert ask(FilePlace(server.url("a"))) == (True, "200", len(CONTENT))
    assert ask(FilePlace(server.url("old"), size=len(CONTENT))) == (True, "200", len(CONTENT))
    assert ask(FilePlace(server.url("b"))) == (True, "206", len(CONTENT))
    assert ask(FilePlace(server.url("a"), size=5)) == (False, "200, another size", len(CONTENT))
    server.faults["parked"] = "html"
    assert ask(FilePlace(server.url("parked")))[:2] == (False, "200, a web page")
    assert ask(FilePlace(server.url("gone")))[:2] == (False, "HTTP Error 404 (Not Found)")
    assert not ask(FilePlace(tls.url("a"))).alive
    assert server.methods.count("GET") == 1  # of one byte, where HEAD is refused


def test_an_address_that_does_not_answer_is_not_alive(server):
    server.faults["a"] = "slow"
    assert ask(FilePlace(server.url("a")), timeout=0.1)[:2] == (False, "no answer in time")
