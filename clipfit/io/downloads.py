"""Downloading large files: several places in turn, resumed after a break, checked before they appear.

torchvision's downloaders start again from zero; the archives of data sets have up to 40 GB.
"""

import http.client
import os
import re
import shutil
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from contextlib import suppress
from errno import EDQUOT, ENOSPC
from pathlib import Path
from typing import NamedTuple

from clipfit.io.commands import pasted
from clipfit.io.digests import BLOCK
from clipfit.io.files import read_json, write_json
from clipfit.io.places import FilePlace, verify

USER_AGENT = "Mozilla/5.0 (clipfit)"  # some hosts refuse Python's own name


class Patience(NamedTuple):
    attempts: int = 3  # in a row without a new byte, before a place is given up
    pause: float = 1.0  # seconds before the second attempt; doubled for each further one
    timeout: float = 30.0  # seconds without an answer


PATIENCE = Patience()


class DownloadError(OSError):
    """No place gave the file; the message has a line for each place, with what happened there."""


class NoRoomError(OSError):
    """The disk is too full: no other place helps."""


def download(places: Sequence[FilePlace], target: Path, patience: Patience | None = None) -> FilePlace:
    """Download from the first place that works to `target`, which appears when it is complete and checked.

    Bytes are collected in `<target>.part`. A later call goes on from there, if the server still has the same
    file under the same address, or if another place has a file of the same checksum. A certificate, a name
    that is not known and an answer that is final (404) are not tried again.

    Returns: the place that gave the file
    Raises:  DownloadError if no place works; NoRoomError
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    failures = []
    for place in places:
        try:
            _fetch(place, target, patience or PATIENCE)
            return place
        except NoRoomError:
            raise
        except (OSError, ValueError, ImportError, http.client.HTTPException) as error:
            failures.append(f"{place.address}: {what_happened(error)}")
    raise DownloadError("\n".join(failures) or "no place is known")


def part_of(target: Path) -> Path:
    return target.with_name(f"{target.name}.part")


def request(address: str, headers: dict | None = None, method: str = "GET") -> urllib.request.Request:
    return urllib.request.Request(
        address, headers={"User-Agent": USER_AGENT, **(headers or {})}, method=method
    )


def _fetch(place: FilePlace, target: Path, patience: Patience) -> None:
    """Raises: what went wrong"""
    if place.drive:
        _adopt(_from_drive(place, target), target, place.checksum)
        return
    part = part_of(target)
    begun_elsewhere = part.exists() and _read_origin(part).get("address") != place.address
    _fill(place, part, patience)
    try:
        _adopt(part, target, place.checksum)
    except ValueError:
        if not begun_elsewhere:
            raise
        _fill(place, part, patience)  # the other place's beginning may have been at fault
        _adopt(part, target, place.checksum)


def _adopt(part: Path, target: Path, checksum: str) -> None:
    """Rename a complete download if its checksum is right, else remove it. Raises: ValueError"""
    try:
        verify(part, checksum)
    except ValueError as error:
        part.unlink()
        raise ValueError(f"{error}; it was removed") from error
    finally:
        _origin_of(part).unlink(missing_ok=True)
    os.replace(part, target)
    for left in (part_of(target), _origin_of(part_of(target))):  # of a place that was tried before
        left.unlink(missing_ok=True)


# One address ----------------------------------------------------------------------------------------


def _fill(place: FilePlace, part: Path, patience: Patience) -> None:
    """Fill `part`; lost connections are taken up again while bytes still come."""
    from tqdm import tqdm  # here, so that `clipfit.io` imports where no package is installed

    attempt = 0
    with tqdm(desc=part.stem, unit="B", unit_scale=True, disable=None) as bar:
        while True:
            before = _size(part)
            try:
                _receive(place, part, bar, patience.timeout)
                return
            except Exception as error:
                if not _may_pass(error):
                    raise
                failure = error
            attempt = 1 if _size(part) > before else attempt + 1
            if attempt >= patience.attempts:
                raise failure
            time.sleep(patience.pause * 2 ** (attempt - 1))


def _may_pass(error: Exception) -> bool:
    """Whether a second attempt may succeed: the connection or the server failed, not the address."""
    if isinstance(error, urllib.error.HTTPError):
        return error.code >= 500 or error.code in (408, 429)
    if isinstance(error, urllib.error.URLError) and isinstance(error.reason, Exception):
        error = error.reason
    lost = (TimeoutError, ConnectionError, http.client.HTTPException, ssl.SSLEOFError)
    return isinstance(error, lost)


def _receive(place: FilePlace, part: Path, bar, timeout: float) -> None:
    """One request: the rest of the file, or all of it where the server cannot go on from the middle.

    Raises: OSError if the connection ends before the file does; ValueError if it is another file
    """
    have, origin = _size(part), _read_origin(part)
    headers = {}
    if have and origin.get("address") == place.address:
        headers["Range"] = f"bytes={have}-"
        if origin.get("validator"):
            headers["If-Range"] = origin["validator"]
    elif have and place.checksum and origin.get("checksum") == place.checksum:  # the same bytes elsewhere
        headers["Range"] = f"bytes={have}-"
    try:
        response = urllib.request.urlopen(request(place.address, headers), timeout=timeout)
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
        _check_answer(place, response, total)
        _check_room(part, (total or 0) - have)
        validator = response.headers.get("ETag") or response.headers.get("Last-Modified") or ""
        if validator.startswith("W/"):  # a weak one does not say that the bytes are the same
            validator = ""
        write_json(
            {"address": place.address, "validator": validator, "checksum": place.checksum}, _origin_of(part)
        )
        bar.total, bar.n = total, have
        with open(part, "ab" if have else "wb") as file:
            while block := response.read(BLOCK):
                _write(file, block, part)
                bar.update(len(block))
    if total is not None and _size(part) != total:
        raise ConnectionError(f"the connection broke after {_size(part):,} of {total:,} bytes")


def _check_answer(place: FilePlace, response, total: int | None) -> None:
    """Raises: ValueError for what cannot be the file, before it is downloaded"""
    if response.headers.get_content_type() == "text/html":
        raise ValueError("it answers with a web page instead of the file")
    if place.size and total is not None and total != place.size:
        raise ValueError(f"it has a file of {total:,} bytes; the published one has {place.size:,}")


def _check_room(part: Path, wanted: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if wanted > free:
        raise NoRoomError(
            ENOSPC, f"{part.stem} needs {wanted:,} bytes in {part.parent}, where {free:,} are free; make room"
        )


def _write(file, block: bytes, part: Path) -> None:
    try:
        file.write(block)
    except OSError as error:
        if error.errno not in (ENOSPC, EDQUOT):
            raise
        text = f"cannot write {part} ({error.strerror}); make room, and the same command goes on from there"
        raise NoRoomError(error.errno, text) from error


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


def what_happened(error: Exception) -> str:
    """An exception in the words of a user."""
    reason = getattr(error, "reason", None)
    if isinstance(error, urllib.error.HTTPError):
        return f"HTTP Error {error.code} ({error.reason})"
    if isinstance(reason, Exception):
        error = reason
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted ({error.verify_message})"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return str(error) or type(error).__name__


# Google Drive ---------------------------------------------------------------------------------------


def _from_drive(place: FilePlace, target: Path) -> Path:
    """The downloaded file, not yet checked. It never has the name of the other parts, which gdown would
    take for the whole file.

    Raises: ImportError without gdown; ConnectionError
    """
    try:
        import gdown
    except ImportError as error:
        install = pasted(["python", "-m", "pip", "install", "gdown>=5.2"])
        raise ImportError(f"needs the package gdown: {install}") from error
    part = target.with_name(f"{target.name}.drive")
    try:
        found = gdown.download(id=place.drive, output=str(part), resume=True)
    except Exception as error:  # its exceptions share no base and changed between versions
        raise ConnectionError(str(error)) from error
    if not found or not part.is_file():
        raise ConnectionError("Google Drive did not give the file (its daily limit may be reached)")
    return part
