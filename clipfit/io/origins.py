"""SOURCES.json: where the files of a data set's folder came from.

    {"format": 1, "files": {"EuroSAT.zip": {"from": "https://...", "digest": "md5:c8fa...", "bytes": 94280567,
                                            "date": "2026-05-03", "gives": ["2750"]}}}

`from` is an address, or how the file was found where nothing was fetched. `digest` is null for a folder.
"""

import os
from contextlib import suppress
from pathlib import Path

from clipfit.io.files import read_json, write_json

ORIGINS = "SOURCES.json"
FORMAT = 1


def read_origins(folder: str | os.PathLike) -> dict[str, dict] | None:
    """File -> what is known of it; None where nothing is noted, or not readably: no run fails for it."""
    with suppress(OSError, ValueError, AttributeError, TypeError):
        files = read_json(Path(folder, ORIGINS))["files"]
        return {str(name): dict(origin) for name, origin in files.items()}
    return None


def note_origin(folder: str | os.PathLike, file: str, origin: dict) -> None:
    """Note where a file came from, instead of what was noted of it before."""
    files = {**(read_origins(folder) or {}), file: origin}
    write_json({"format": FORMAT, "files": files}, Path(folder, ORIGINS))
