"""Lists of pictures: CSV, JSON Lines, JSON or parquet with a column for the file and one for the label.

| column | called                       |
|--------|------------------------------|
| file   | `file_name`, `path`, `image` |
| label  | `label`, `class`             |
| part   | `split`, if there is one     |

Hugging Face's `metadata.csv` (or .jsonl, .parquet) in a folder, or in each of its parts, is such a list.
Relative paths start from the folder of the list.
"""

import csv
import io
import json
import os
from collections.abc import Iterator

from clipfit.io.commands import pasted
from datasets.pictures.found import FoundPictures, checked, part_named

FILE, LABEL, SPLIT = ("file_name", "path", "image"), ("label", "class"), ("split",)
SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet")
METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
Rows = list[dict[str, str]]


def metadata_file(folder: str) -> str:
    """Path of the metadata in a folder, "" if it has none."""
    paths = (os.path.join(folder, name) for name in METADATA)
    return next(filter(os.path.isfile, paths), "")


def read_metadata(folder: str, parts: dict[str, str]) -> FoundPictures:
    """Hugging Face's form. Args: parts, folder with metadata -> part; "" is `folder` itself"""
    found = FoundPictures("metadata as Hugging Face has it", folder)
    lists = []
    for name, part in parts.items():
        path = metadata_file(os.path.join(folder, name))
        add_rows(found, path, read_rows(path), part if len(parts) > 1 else "")
        lists.append(path)
    return checked(found, listed_in=" and ".join(lists))


def read_list(path: str, rows: Rows) -> FoundPictures:
    """A list in a file. Raises: ValueError naming the columns that there are where one is lacking"""
    found = FoundPictures(f"a list, {os.path.basename(path)}", os.path.dirname(path))
    add_rows(found, path, rows)
    return checked(found, listed_in=path)


def add_rows(found: FoundPictures, path: str, rows: Rows, part: str = "") -> None:
    """Args: part of all rows where none says its own"""
    file, label = column(rows, FILE, path, "the picture"), column(rows, LABEL, path, "its class")
    split = next((name for name in columns(rows) if name in SPLIT), "")
    folder = os.path.dirname(path)
    for number, row in enumerate(rows, start=1):
        name = text(row.get(file)).replace("\\", "/")
        if name:
            said = part_named(text(row.get(split)), f"{path}, entry {number}") if split else ""
            found.add(full_path(folder, name), text(row.get(label)), said or part)


def column(rows: Rows, names: tuple[str, ...], path: str, what: str) -> str:
    """The first of these names that is a column. Raises: ValueError naming those that there are"""
    known = columns(rows)
    for name in names:
        if name in known:
            return name
    raise ValueError(
        f"{path} has no column for {what}: call it {' or '.join(names)} "
        f"(there is: {', '.join(known) or 'nothing'})"
    )


def columns(rows: Rows) -> list[str]:
    """Names of all columns, in order of first appearance."""
    return list(dict.fromkeys(name for row in rows for name in row))


def read_rows(path: str) -> Rows:
    """The rows of a file as mappings from a column's name, in lower case, to its value.

    Raises: ValueError naming the file, and where it is damaged; RuntimeError for parquet without pyarrow
    """
    suffix = os.path.splitext(path)[1].lower()
    if suffix == ".parquet":
        rows = _parquet(path)
    elif suffix in (".csv", ".tsv"):
        rows = _csv(path)
    elif suffix == ".json":
        rows = read_json_list(path)
    else:
        rows = _json_lines(path)
    return [{str(name).strip().lower(): value for name, value in row.items() if name} for row in rows]


def read_json_list(path: str) -> list:
    """The objects of a JSON file that is a list. Raises: ValueError"""
    content = read_json_file(path)
    if not isinstance(content, list) or not all(isinstance(row, dict) for row in content):
        raise ValueError(f'{path} is no list of objects such as {{"file_name": ..., "label": ...}}')
    return content


def read_json_file(path: str):
    """Raises: ValueError naming the file if it is no JSON"""
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}, line {error.lineno} is not JSON ({error.msg})") from error


def read_text(path: str) -> str:
    """A text file, with or without a byte order mark. Raises: ValueError if it is not UTF-8"""
    with open(path, "rb") as file:
        try:
            return file.read().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} is not UTF-8 text ({error}); save it as UTF-8") from error


def full_path(folder: str, name: str) -> str:
    """The absolute path of a name in a list that lies in this folder."""
    return os.path.normpath(os.path.join(folder, os.path.expanduser(name)))


def text(value) -> str:
    """The value of a cell as text; nothing is "", and 3.0, as tables make it of 3, is "3"."""
    if value is None or value != value:
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip()


def _csv(path: str) -> list[dict]:
    content = read_text(path)
    delimiter = max(",;\t", key=content.partition("\n")[0].count)  # half the world's spreadsheets write ;
    table = csv.DictReader(io.StringIO(content, newline=""), delimiter=delimiter)
    try:
        return list(table)
    except csv.Error as error:
        raise ValueError(f"{path} is not CSV after line {table.line_num} ({error})") from error


def _json_lines(path: str) -> list[dict]:
    return list(_objects(path))


def _objects(path: str) -> Iterator[dict]:
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}, line {number} is not JSON ({error.msg})") from error
        if not isinstance(row, dict):
            raise ValueError(f'{path}, line {number} is no object such as {{"file_name": ..., "label": ...}}')
        yield row


def _parquet(path: str) -> list[dict]:
    try:
        from pyarrow import parquet
    except ImportError as error:
        install = pasted(["python", "-m", "pip", "install", "pyarrow"])
        raise RuntimeError(
            f"{path}: reading parquet needs pyarrow: {install}; or save the list as CSV"
        ) from error
    return parquet.read_table(path).to_pylist()
