"""Places on the internet that hold a file, and how to tell that a file is the published one."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from clipfit.io.digests import BLOCK, file_digest

HUGGING_FACE = "https://huggingface.co/"
KINDS = {32: "md5", 40: "git blob id", 64: "sha256"}  # hexadecimal digits -> kind of checksum


@dataclass(frozen=True)
class FilePlace:
    """One place of a file: an address or an id on Google Drive.

    checksum   in hexadecimal, of a kind of KINDS; empty: none is published
    size       bytes; 0: not known
    """

    url: str = ""
    drive: str = ""
    checksum: str = ""
    size: int = 0

    @property
    def address(self) -> str:
        """What is asked: for Hugging Face the host of $HF_ENDPOINT, if that is set."""
        if self.drive:
            return f"https://drive.google.com/file/d/{self.drive}/view"
        endpoint = os.environ.get("HF_ENDPOINT")
        if endpoint and self.url.startswith(HUGGING_FACE):
            return f"{endpoint.rstrip('/')}/{self.url.removeprefix(HUGGING_FACE)}"
        return self.url


def digest_of(path: str | os.PathLike, like: str) -> str:
    """Digest of a file, of the kind of the checksum `like`."""
    kind = KINDS[len(like)]
    return _blob_id(Path(path)) if kind == "git blob id" else file_digest(path, kind)


def verify(path: str | os.PathLike, checksum: str) -> None:
    """Compare a file with its published checksum; an empty one fits every file.

    Raises: ValueError naming both
    """
    if not checksum:
        return
    found = digest_of(path, like=checksum)
    if found != checksum:
        raise ValueError(
            f"{path} is not the published file: its {KINDS[len(checksum)]} is {found} instead of {checksum}; "
            "it may be cut off, or a changed copy"
        )


def labelled(checksum: str) -> str:
    """A checksum with its kind: sha256:4d3c..."""
    return f"{KINDS[len(checksum)].replace(' ', '-')}:{checksum}"


def _blob_id(path: Path) -> str:
    """The name that git gives to a content: SHA-1 of its length and its bytes."""
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()
