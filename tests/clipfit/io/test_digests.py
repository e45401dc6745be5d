"""Digests of files' contents, and what is remembered of them."""

import hashlib
import multiprocessing
import os
import sqlite3

import pytest

from clipfit.io import digests
from clipfit.io.digests import Digests, content_digest, content_digests


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The database, in a cache folder of this test, where a file may have been written just now."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(digests, "SETTLED", -(10**12))
    return tmp_path / "cache/clipfit" / digests.DATABASE


@pytest.fixture
def reads(monkeypatch):
    """Names of the files that are read for their digest."""
    read, names = digests.file_digest, []

    def counted(path):
        names.append(os.path.basename(path))
        return read(path)

    monkeypatch.setattr(digests, "file_digest", counted)
    return names


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def test_a_file_is_read_once_and_again_when_it_changed(tmp_path, cache, reads):
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"one")
    assert content_digest(path) == content_digest(path) == sha256(b"one")
    assert reads == ["photo.jpg"]
    path.write_bytes(b"two")
    assert content_digest(path) == sha256(b"two") and len(reads) == 2


def test_a_change_that_keeps_size_and_modification_time_is_seen(tmp_path, cache):
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"one")
    content_digest(path)
    before = path.stat()
    path.write_bytes(b"two")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert content_digest(path) == sha256(b"two")


def test_touching_a_file_changes_no_digest(tmp_path, cache, reads):
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"one")
    digest = content_digest(path)
    os.utime(path, (1, 1))
    assert content_digest(path) == digest and len(reads) == 2


def test_a_file_that_was_just_written_is_not_remembered(tmp_path, cache, reads, monkeypatch):
    monkeypatch.setattr(digests, "SETTLED", 10**15)
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"one")
    assert content_digest(path) == content_digest(path) == sha256(b"one")
    assert len(reads) == 2


def test_a_file_that_is_written_while_it_is_read_is_not_remembered(tmp_path, cache, monkeypatch):
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"one")
    read = digests.file_digest

    def slow(path):
        digest = read(path)
        with open(path, "ab") as file:
            file.write(b"more")
        return digest

    monkeypatch.setattr(digests, "file_digest", slow)
    content_digest(path)
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache.parents[1]))
    assert content_digest(path) == sha256(b"onemore")


def test_many_files_keep_their_order_and_may_repeat(tmp_path, cache, reads):
    paths = [tmp_path / name for name in ("b", "a", "c")]
    for path in paths:
        path.write_bytes(path.name.encode())
    assert content_digests([*paths, paths[0]]) == [sha256(name) for name in (b"b", b"a", b"c", b"b")]
    assert reads == ["b", "a", "c"]
    content_digests(paths)
    assert len(reads) == 3
    with pytest.raises(FileNotFoundError, match="missing"):
        content_digests([*paths, tmp_path / "missing"])


def test_bytes_that_somebody_needs_anyway_are_read_once(tmp_path, cache, reads):
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"one")
    with Digests() as known:
        assert known.read(path) == (b"one", sha256(b"one"))
    assert content_digest(path) == sha256(b"one") and reads == []


@pytest.mark.parametrize("damage", ["no database", "cut", "a flipped bit", "a folder in its place"])
def test_a_damaged_cache_costs_only_time(damage, tmp_path, cache, reads):
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"one")
    content_digest(path)
    content = cache.read_bytes()
    if damage == "no database":
        cache.write_bytes(b"something else" * 1000)
    elif damage == "cut":
        cache.write_bytes(content[: len(content) // 2 + 100])
    elif damage == "a flipped bit":
        with sqlite3.connect(cache) as database:
            database.execute("UPDATE digests SET digest = ?", ("0" + sha256(b"one")[1:],))
    else:
        cache.unlink()
        cache.mkdir()
    assert content_digest(path) == sha256(b"one") and len(reads) == 2
    assert content_digest(path) == sha256(b"one")
    assert len(reads) == (3 if damage == "a folder in its place" else 2)  # elsewhere it is mended


def test_a_cache_that_cannot_be_written_costs_only_time(tmp_path, cache, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"one")
    assert content_digest(path) == sha256(b"one")


def test_a_cache_that_another_process_holds_costs_only_time(tmp_path, cache, monkeypatch):
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"one")
    content_digest(path)
    monkeypatch.setattr(digests, "PATIENCE", 0.01)
    holder = sqlite3.connect(cache, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    assert content_digest(path) == sha256(b"one")
    holder.close()


def test_the_files_asked_for_longest_ago_are_forgotten(tmp_path, cache, reads, monkeypatch):
    monkeypatch.setattr(digests, "MOST", 2)
    paths = [tmp_path / name for name in "abc"]
    for day, path in enumerate(paths, start=1):
        path.write_bytes(b"x")
        monkeypatch.setattr(digests.time, "time", lambda day=day: day * 24 * 3600.0)
        content_digest(path)
    content_digests(paths[1:])
    assert reads == ["a", "b", "c"]
    content_digest(paths[0])
    assert reads[3:] == ["a"]


def _digest_all(folder, start):
    start.wait()
    for _ in range(5):
        content_digests(sorted(folder.glob("*.jpg")))


def test_several_processes_write_the_cache_at_once(tmp_path, cache, reads):
    paths = [tmp_path / f"{number}.jpg" for number in range(40)]
    for path in paths:
        path.write_bytes(path.name.encode())
    context = multiprocessing.get_context("fork")
    start = context.Event()
    processes = [context.Process(target=_digest_all, args=(tmp_path, start)) for _ in range(4)]
    for process in processes:
        process.start()
    start.set()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    assert content_digests(paths) == [sha256(path.name.encode()) for path in paths] and reads == []
