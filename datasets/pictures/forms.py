"""Which form a folder or a file of pictures has; see `read_pictures`."""

import os

from dassl.utils import nearest
from datasets.pictures import fiftyone, label_studio, tables
from datasets.pictures.folders import part_folders, read_classes, read_parts
from datasets.pictures.found import FoundPictures


def read_pictures(path: str | os.PathLike) -> FoundPictures:
    """The labelled pictures of a folder or a list; `form` says in words what it was taken for.

    A folder: with metadata.csv, .jsonl or .parquet in it (or in each of its parts), as Hugging Face has it;
    with data/ and labels.json, as FiftyOne has it; of the parts train/, val/, test/ with a folder per class;
    else a folder per class. A file: a list (tables.py), an export of Label Studio, a labels.json of FiftyOne.

    Raises: FileNotFoundError naming the nearest, or the first pictures that a list names in vain; ValueError
            for what is in none of the forms, has no pictures, one class, or a picture with two labels;
            RuntimeError for parquet without pyarrow
    """
    path = os.path.abspath(os.path.expanduser(path))
    if os.path.isdir(path):
        return _folder(path)
    if os.path.isfile(path):
        return _file(path)
    parent, name = os.path.split(path)
    guess = nearest(name, os.listdir(parent)) if os.path.isdir(parent) else ""
    hint = f"did you mean {os.path.join(parent, guess)}?" if guess else f"{parent} is where it should lie"
    raise FileNotFoundError(f"--images: {path} does not exist; {hint}")


def _folder(folder: str) -> FoundPictures:
    if tables.metadata_file(folder):
        return tables.read_metadata(folder, {"": ""})
    if fiftyone.is_fiftyone(folder):
        return fiftyone.read_fiftyone(os.path.join(folder, fiftyone.LABELS))
    if parts := part_folders(folder):
        if all(tables.metadata_file(os.path.join(folder, name)) for name in parts):
            return tables.read_metadata(folder, parts)
        return read_parts(folder, parts)
    return read_classes(folder)


def _file(path: str) -> FoundPictures:
    suffix = os.path.splitext(path)[1].lower()
    if suffix not in tables.SUFFIXES:
        raise ValueError(
            f"--images: {path} is no list of pictures; give a folder, or a file called "
            f"{' '.join(tables.SUFFIXES)}"
        )
    if suffix == ".json":
        content = tables.read_json_file(path)
        if fiftyone.looks_like(content):
            return fiftyone.read_fiftyone(path)
        if label_studio.looks_like_tasks(content):
            return label_studio.read_tasks(path, tables.read_json_list(path))
    rows = tables.read_rows(path)
    if label_studio.looks_like_rows(rows):
        return label_studio.read_rows(path, rows)
    return tables.read_list(path, rows)
