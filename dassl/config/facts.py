"""Facts of a data set: `<stem>.yaml` beside the file that registers its class.

Every key but `name` may be left out.

name               DATASET.NAME
folder             folder below the data root
images             folders that hold images, relative to it
classes            number of classes
train, val, test   number of images; train: 0 is a mere test set; left out: unknown, or another list's copy
split              split file
files              other files without which nothing loads
instead_of_split   files from which the split is made where its file is missing
other_names        what other repositories call the folder
templates          prompt templates by column: `default`, and what some methods use instead of it
family             data sets of one family share tables
role               in transfer between them: source, shifted (its classes in other images), other
terms              on which the publisher gives the images: licence, or what is known of it
sources            where the files come from (datasets/tools/sources.py)
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path

from dassl.config.yaml_files import load_yaml
from dassl.utils.registry import unknown_name

OWN = "own"  # family of a data set whose facts name none
ROLES = ("source", "shifted", "other")
TEMPLATE_COLUMNS = ("default", "kgcoop", "prograd")


@dataclass(frozen=True)
class Facts:
    """The keys of a facts file; empty or None: not stated."""

    name: str
    folder: str = ""
    images: tuple[str, ...] = ()
    classes: int | None = None
    train: int | None = None
    val: int | None = None
    test: int | None = None
    split: str = ""
    files: tuple[str, ...] = ()
    instead_of_split: tuple[str, ...] = ()
    other_names: tuple[str, ...] = ()
    templates: dict[str, str] = field(default_factory=dict)
    family: str = OWN
    role: str = ""
    terms: str = ""
    sources: tuple[dict, ...] = ()
    path: Path | None = None  # of the file; None: the data set has none


KEYS = tuple(key.name for key in fields(Facts) if key.name != "path")
COUNTS = ("classes", "train", "val", "test")
LISTS = ("images", "files", "instead_of_split", "other_names")
TEXTS = ("name", "folder", "split", "family", "role", "terms")


def read_facts(path: str | os.PathLike) -> Facts:
    """Read a facts file.

    Raises: KeyError, ValueError naming the file and the key that is unknown, missing or of a wrong type
    """
    path = Path(path)
    content = load_yaml(path)
    if unknown := [key for key in content if key not in KEYS]:
        raise KeyError(f"{path}: {unknown_name('key', str(unknown[0]), KEYS)}")
    if not content.get("name"):
        raise ValueError(f"{path} lacks name: the DATASET.NAME that a file beside it registers")
    for problem in _problems(content):
        raise ValueError(f"{path}, {problem}")
    lists = {key: tuple(content[key]) for key in (*LISTS, "sources") if key in content}
    return Facts(**{**content, **lists}, path=path)


def read_folder(folder: str | os.PathLike) -> dict[str, Facts]:
    """Stem -> facts of every facts file of a folder.

    Raises: as `read_facts`; ValueError for two files with one name
    """
    found: dict[str, Facts] = {}
    for path in sorted(Path(folder).glob("*.yaml")):
        facts = read_facts(path)
        if same := [other for other in found.values() if other.name == facts.name]:
            raise ValueError(f"{same[0].path} and {path} are both about {facts.name}; keep one of them")
        found[path.stem] = facts
    return found


def _problems(content: dict) -> Iterator[str]:
    """What is wrong with the values of known keys."""
    for key in TEXTS:
        if not isinstance(content.get(key, ""), str):
            yield f"{key}: {content[key]!r} is no text"
    for key in COUNTS:
        if key in content and (type(content[key]) is not int or content[key] < 0):
            yield f"{key}: {content[key]!r} is no number of {'classes' if key == 'classes' else 'images'}"
    for key in LISTS:
        if not _is_list_of(str, content.get(key, [])):
            yield f"{key}: {content[key]!r} is no list of names; write [a, b]"
    if not _is_list_of(dict, content.get("sources", [])):
        yield f"sources: {content['sources']!r} is no list of files, each with its keys (file, from, ...)"
    if "role" in content and content["role"] not in ROLES:
        yield f"role: {unknown_name('role', str(content['role']), ROLES)}"
    templates = content.get("templates", {})
    if not isinstance(templates, dict):
        yield f"templates: {templates!r}; give them by column: {{default: 'a photo of a {{}}.'}}"
        return
    for column, template in templates.items():
        if column not in TEMPLATE_COLUMNS:
            yield f"templates: {unknown_name('column', str(column), TEMPLATE_COLUMNS)}"
        elif not isinstance(template, str) or template.count("{}") != 1:
            yield f"templates, {column}: {template!r} needs exactly one place {{}} for the class name"


def _is_list_of(kind: type, value) -> bool:
    return isinstance(value, list) and all(isinstance(item, kind) for item in value)
