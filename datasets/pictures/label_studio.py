"""Exports of Label Studio: JSON, JSON-MIN and CSV.

They name pictures as its server does, `/data/upload/<project>/<8 hex>-<name>` or `/data/local-files/?d=...`.
A picture is looked for by its name, with the 8 hex and without, in the folder of the export and in all
folders below it.
"""

import json
import os
import re
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from urllib.parse import parse_qs, unquote, urlparse

from clipfit.io.pictures import is_picture
from datasets.pictures.found import FoundPictures, checked, some
from datasets.pictures.tables import Rows, columns, text

ON_SERVER = re.compile(r"^(/data/|https?://|s3://|gs://|azure-blob://)")
OWN_COLUMNS = {  # what an export has beside the picture and the answer
    *("id", "annotation_id", "annotator", "created_at", "updated_at", "lead_time", "agreement"),
    *("completed_by", "total_annotations", "file_upload", "project", "inner_id"),
}
PREFIX = re.compile(r"^[0-9a-f]{8}-")
CHOICE = "choice"  # the control's name in Label Studio's template


def looks_like_tasks(content) -> bool:
    """Whether the content of a JSON file is a list of tasks with annotations."""
    return isinstance(content, list) and any(isinstance(one, dict) and "data" in one for one in content)


def looks_like_rows(rows: Rows) -> bool:
    """Whether rows are those of JSON-MIN or CSV."""
    names = set(columns(rows))
    return "image" in names and bool({"annotation_id", "annotator", "lead_time"} & names)


def read_tasks(path: str, tasks: list[dict]) -> FoundPictures:
    """JSON: one task per picture, whose annotations each may answer."""
    answers = []
    for task in tasks:
        image = _image(task.get("data") or {})
        given = [_choices(annotation) for annotation in task.get("annotations") or []]
        given = [choices for choices in given if choices]
        answers += [(image, choices) for choices in given or [[]]]
    return _found(path, "an export of Label Studio (JSON)", answers)


def read_rows(path: str, rows: Rows) -> FoundPictures:
    """JSON-MIN or CSV: one row per annotation."""
    answer = _column_of_answers(path, rows)
    answers = [(text(row.get("image")), list(_texts(row.get(answer)))) for row in rows]
    kind = "CSV" if path.lower().endswith("csv") else "JSON-MIN"
    return _found(path, f"an export of Label Studio ({kind})", answers)


def _found(path: str, form: str, answers: list[tuple[str, list[str]]]) -> FoundPictures:
    """Args: answers, a picture as the server names it with the choices of one annotation"""
    found = FoundPictures(form, os.path.dirname(path))
    if several := [f"{image} ({' and '.join(choices)})" for image, choices in answers if len(choices) > 1]:
        raise ValueError(
            f"{path} gives {some(several)} several choices; every picture has one class: let the control "
            'have choice="single", or take these out'
        )
    places = _places(found.folder)
    missing = []
    for image, choices in answers:
        if local := _locate(image, found.folder, places):
            found.add(local, choices[0] if choices else None)
        elif choices:
            missing.append(image)
    if missing:
        names = list(dict.fromkeys(missing))
        raise FileNotFoundError(
            f"{path} names {len(names):,} pictures that are not in {found.folder}: {some(names)}; "
            "put the pictures beside the export, under the names that they had or that Label Studio gave them"
        )
    return checked(found, listed_in=path)


def _image(data: dict) -> str:
    """The picture of a task: `image`, else the one value that names a picture."""
    values = [data["image"]] if "image" in data else list(data.values())
    return next((value for value in map(text, values) if is_picture(_name(value))), "")


def _choices(annotation: dict) -> list[str]:
    if annotation.get("was_cancelled"):
        return []
    results = [one for one in annotation.get("result") or [] if one.get("type") == "choices"]
    return [text(choice) for one in results for choice in (one.get("value") or {}).get("choices") or []]


def _column_of_answers(path: str, rows: Rows) -> str:
    """Raises: ValueError naming the columns if it is not clear which one holds the choice"""
    names = columns(rows)
    left = [name for name in names if name not in {*OWN_COLUMNS, "image"}]
    if CHOICE in left or len(left) == 1:
        return CHOICE if CHOICE in left else left[0]
    raise ValueError(f"{path}: which column holds the class? Call it {CHOICE} (there is: {', '.join(names)})")


def _texts(value) -> Iterator[str]:
    """The choices in a cell: a text, or {"choices": [...]}, in CSV as JSON."""
    if isinstance(value, str) and value.lstrip().startswith("{"):
        with suppress(json.JSONDecodeError):  # a class may be called so
            value = json.loads(value)
    if isinstance(value, dict):
        value = value.get("choices") or []
    for one in value if isinstance(value, list) else [value]:
        if word := text(one):
            yield word


def _places(folder: str) -> dict[str, list[str]]:
    """Name of a picture -> its paths in the folder and below."""
    places = defaultdict(list)
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(filter(is_picture, names)):
            places[name].append(os.path.join(parent, name))
    return places


def _locate(image: str, folder: str, places: dict[str, list[str]]) -> str:
    """The path of a picture; "" if it is not there. Raises: ValueError if several have its name"""
    if not ON_SERVER.match(image):
        path = os.path.normpath(os.path.join(folder, image.replace("\\", "/")))
        if os.path.isfile(path):
            return path
    name = _name(image)
    for wanted in (name, PREFIX.sub("", name)):
        if len(paths := places.get(wanted, [])) > 1:
            ending = "/" + _path(image).lstrip("/")
            paths = [path for path in paths if ending.endswith("/" + os.path.relpath(path, folder))] or paths
            if len(paths) > 1:
                raise ValueError(f"{image} may be {' or '.join(paths)}: give the pictures different names")
        if paths:
            return paths[0]
    return ""


def _path(image: str) -> str:
    """The path in what the server calls a picture: that of `?d=` for local files."""
    parsed = urlparse(image)
    local = parse_qs(parsed.query).get("d")
    return local[0] if local else unquote(parsed.path)


def _name(image: str) -> str:
    return os.path.basename(_path(image).replace("\\", "/"))
