"""Pictures in folders: one per class, or train/, val/ and test/ with one per class in each.

FiftyOne's ImageClassificationDirectoryTree is the first of them; its folder `_unlabeled` is left out.
"""

import os

from clipfit.io.commands import pasted
from clipfit.io.pictures import is_picture
from datasets.listing import NOT_A_CLASS, no_pictures
from datasets.pictures.found import NO_LABEL, NOT_PICTURES, PART_NAMES, FoundPictures, checked, some

UNLABELED = "_unlabeled"
CLASSES = "classes.csv"  # names of the classes; no picture, and nothing to tell about


def part_folders(folder: str) -> dict[str, str]:
    """Name -> part, where all sub-folders of a folder are called like parts and one is for training."""
    names = _folders(folder)
    parts = {name: PART_NAMES.get(name.casefold(), "") for name in names}
    return parts if parts and all(parts.values()) and "train" in parts.values() else {}


def read_parts(folder: str, parts: dict[str, str]) -> FoundPictures:
    """`<part>/<class>/<picture>`. Where there is only one part, nobody has said what is tested on."""
    found = FoundPictures(f"{', '.join(f'{name}/' for name in parts)} with a folder per class", folder)
    found.labels_are_folders = True
    for name, part in parts.items():
        _read_classes(found, os.path.join(folder, name), part if len(parts) > 1 else "")
    _note_others(found, folder)
    return checked(found)


def read_classes(folder: str) -> FoundPictures:
    """`<class>/<picture>`. Raises: ValueError where pictures lie elsewhere"""
    found = FoundPictures("a folder per class", folder, labels_are_folders=True)
    _read_classes(found, folder, "")
    _note_others(found, folder)
    if not found.pictures:
        _tell_where_they_lie(folder)
    return checked(found)


def _read_classes(found: FoundPictures, folder: str, part: str) -> None:
    for name in _folders(folder):
        path = os.path.join(folder, name)
        files = sorted(os.listdir(path))
        pictures = [file for file in files if is_picture(file) and os.path.isfile(os.path.join(path, file))]
        if name == UNLABELED:
            found.left_out[NO_LABEL] += [os.path.join(path, file) for file in pictures]
            continue
        deeper = [file for file in files if _holds_pictures(os.path.join(path, file))]
        if deeper and not pictures:
            raise ValueError(f"{no_pictures(path)}; or name the folder that holds the classes: {_hint(path)}")
        for file in files:
            if file not in pictures and not file.startswith("."):
                found.left_out[NOT_PICTURES].append(os.path.join(path, file))
        for file in pictures:
            found.add(os.path.join(path, file), name, part)


def _note_others(found: FoundPictures, folder: str) -> None:
    """Files beside the folders: pictures there have no class."""
    for file in sorted(os.listdir(folder)):
        path = os.path.join(folder, file)
        if os.path.isfile(path) and not file.startswith(".") and file != CLASSES:
            found.left_out[NO_LABEL if is_picture(file) else NOT_PICTURES].append(path)


def _tell_where_they_lie(folder: str) -> None:
    """Raise ValueError for a folder whose pictures have no folders, with the lists that lie beside them."""
    loose = [file for file in sorted(os.listdir(folder)) if is_picture(file)]
    lists = [file for file in sorted(os.listdir(folder)) if file.endswith((".csv", ".jsonl", ".json"))]
    lists = [file for file in lists if file != CLASSES]
    hint = f"; if {lists[0]} lists them: {_hint(os.path.join(folder, lists[0]))}" if lists else ""
    if loose or lists:
        raise ValueError(
            f"{folder} holds pictures ({len(loose):,}: {some(loose) or 'none'}) and no folders with "
            f"pictures; put the pictures of every class into a folder that is called like the class{hint}"
        )


def _hint(path: str) -> str:
    return pasted(["--images", path])


def _folders(folder: str) -> list[str]:
    """Sub-folders in the order of their names; hidden ones, and what archives of a Mac add, are none."""
    names = sorted(os.listdir(folder))
    return [
        name
        for name in names
        if not name.startswith(".") and name != NOT_A_CLASS and os.path.isdir(os.path.join(folder, name))
    ]


def _holds_pictures(folder: str) -> bool:
    return os.path.isdir(folder) and any(map(is_picture, os.listdir(folder)))
