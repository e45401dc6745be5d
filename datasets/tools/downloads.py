"""Downloading large files: with a progress bar, going on where a broken download stopped, checked before use.

torchvision's downloaders start again from zero; the archives here have up to 40 GB.
"""

import http.client
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from tqdm import tqdm

from clipfit.io.digests import file_digest
from clipfit.io.files import read_json, write_json

ATTEMPTS = 5  # in a row without a new byte, before an address is given up
PAUSE = 1.0  # seconds before the second attempt; doubled for each further one
TIMEOUT = 60.0  # seconds without an answer
BLOCK = 1 << 20  # bytes


class DownloadError(OSError):
    """No address gave the file; the message says what each one answered."""


def download(urls: Sequence[str], target: Path, checksum: str = "") -> None:
    """Download the first address that works to `target`, which appears when it is complete and checked.

    Bytes are collected in `<target>.part`. A later call goes on from there if the server still has the same
    file under the same address.

    Args:    checksum in hexadecimal: MD5 or SHA-256, told apart by length; empty: not checked
    Raises:  DownloadError if no address works; ValueError if what came has another checksum
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    failures = []
    for url in urls:
        try:
            part = _download_part(url, target)
        except (OSError, http.client.HTTPException) as error:
            failures.append(f"{url}: {error}")
            continue
        adopt(part, target, checksum)
        return
    raise DownloadError("; ".join(failures))


def download_from_drive(file_id: str, target: Path, checksum: str = "") -> None:
    """Download a file from Google Drive to `target`, as `download` does.

    Raises: DownloadError, also if gdown is not installed; ValueError for another checksum
    """
    url = drive_link(file_id)
    try:
        import gdown
    except ImportError as error:
        raise DownloadError(f"{url}: needs the package gdown (pip install 'gdown>=5.2')") from error
    target.parent.mkdir(parents=True, exist_ok=True)
    part = part_of(target)
    try:
        found = gdown.download(id=file_id, output=str(part), resume=True)
    except Exception as error:  # its exceptions share no base and changed between versions
        raise DownloadError(f"{url}: {error}") from error
    if not found or not part.is_file():
        raise DownloadError(f"{url}: Google Drive did not give the file (its daily limit may be reached)")
    adopt(part, target, checksum)


def drive_link(file_id: str) -> str:
    return f"https://drive.google.com/file/d/{file_id}/view"


def part_of(target: Path) -> Path:
    return target.with_name(f"{target.name}.part")


def adopt(part: Path, target: Path, checksum: str) -> None:
    """Rename a complete download to its name if its checksum is right; else remove it.

    Raises: ValueError for another checksum
    """
    try:
        verify(part, checksum)
    except ValueError as error:
        part.unlink()
        raise ValueError(f"{error}; it was removed: try again") from error
    finally:
        _origin_of(part).unlink(missing_ok=True)
    os.replace(part, target)


def verify(path: Path, checksum: str) -> None:
    """Compare a file with its published MD5 or SHA-256 (hexadecimal); an empty checksum fits every file.

    Raises: ValueError naming both
    """
    if not checksum:
        return
    kind = {32: "md5", 64: "sha256"}[len(checksum)]
    found = file_digest(path, kind)
    if found != checksum:
        raise ValueError(
            f"{path} is not the published file: its {kind} is {found} instead of {checksum}; "
            "it may be cut off, or a changed copy"
        )


def _download_part(url: str, target: Path) -> Path:
    """Fill `<target>.part` from `url`; lost connections are taken up again while bytes still come."""
    part = part_of(target)
    attempt = 0
    with tqdm(desc=target.name, unit="B", unit_scale=True, disable=None) as bar:
        while True:
            before = _size(part)
            try:
                _receive(url, part, bar)
                return part
            except urllib.error.HTTPError as error:
                if error.code < 500 and error.code not in (408, 429):  # it will not change its mind
                    raise
                failure = error
            except (OSError, http.client.HTTPException) as error:
                failure = error
            attempt = 1 if _size(part) > before else attempt + 1
            if attempt >= ATTEMPTS:
                raise failure
            time.sleep(PAUSE * 2 ** (attempt - 1))


def _receive(url: str, part: Path, bar: tqdm) -> None:
    """One request: the rest of the file, or all of it where the server cannot go on from the middle.

    Raises: OSError if the connection ends before the file does
    """
    have = _size(part)
    origin = _read_origin(part)
    headers = {"User-Agent": "Mozilla/5.0 (datasets.prepare)"}
    if have and origin.get("url") == url:
        headers["Range"] = f"bytes={have}-"
        if origin.get("validator"):
            headers["If-Range"] = origin["validator"]
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # there is nothing after the part
            if error.headers.get("Content-Range", "").endswith(f"/{have}"):
                return
            part.unlink()
            raise ConnectionError(
                f"the part of {have:,} bytes does not fit the file; starting again"
            ) from error
        raise
    with response:
        if not (response.status == 206 and _starts_at(response, have)):
            have = 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        validator = response.headers.get("ETag") or response.headers.get("Last-Modified") or ""
        if validator.startswith("W/"):  # a weak one does not say that the bytes are the same
            validator = ""
        write_json({"url": url, "validator": validator}, _origin_of(part))
        bar.total, bar.n = total, have
        with open(part, "ab" if have else "wb") as file:
            while block := response.read(BLOCK):
                file.write(block)
                bar.update(len(block))
    if total is not None and _size(part) != total:
        raise ConnectionError(f"the connection broke after {_size(part):,} of {total:,} bytes")


def _starts_at(response, offset: int) -> bool:
    match = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return match is not None and int(match[1]) == offset


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _origin_of(part: Path) -> Path:
    """Where it is noted from which address, and which state of it, the part comes."""
    return part.with_name(f"{part.name}.json")


def _read_origin(part: Path) -> dict:
    with suppress(FileNotFoundError, ValueError):
        return dict(read_json(_origin_of(part)))
    return {}
