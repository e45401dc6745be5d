"""FiftyOne's FiftyOneImageClassificationDataset: `data/` with the pictures, `labels.json` beside it.

    {"classes": ["cat", "dog"], "labels": {"picture-1": 0, "picture-2": 1}}

Keys are file names without suffix, below data/. A label is an index of classes, or a name where classes is
null; either may stand in an object, {"label": 0, "confidence": ...}. null is no label.
"""

import os

from clipfit.io.pictures import is_picture
from datasets.pictures.found import FoundPictures, checked, some
from datasets.pictures.tables import read_json_file

DATA, LABELS = "data", "labels.json"


def is_fiftyone(folder: str) -> bool:
    return os.path.isfile(os.path.join(folder, LABELS)) and os.path.isdir(os.path.join(folder, DATA))


def looks_like(content) -> bool:
    """Whether the content of a JSON file is that of a labels.json."""
    return isinstance(content, dict) and isinstance(content.get("labels"), dict)


def read_fiftyone(path: str) -> FoundPictures:
    """Args: path of labels.json. Raises: ValueError for another content; as `checked`"""
    content = read_json_file(path)
    if not looks_like(content):
        raise ValueError(f'{path} is no labels.json of FiftyOne: {{"classes": [...], "labels": {{...}}}}')
    folder = os.path.dirname(path)
    found = FoundPictures("an export of FiftyOne", folder)
    data = os.path.join(folder, DATA)
    files = _by_stem(data)
    if missing := [stem for stem in content["labels"] if stem not in files]:
        raise FileNotFoundError(
            f"{path} names {len(missing):,} of {len(content['labels']):,} pictures that are not in {data}: "
            f"{some(missing)}"
        )
    for stem, target in content["labels"].items():
        found.add(files.pop(stem), _label(path, stem, target, content.get("classes")))
    for other in files.values():
        found.add(other, None)
    return checked(found, listed_in=path)


def _label(path: str, stem: str, target, classes) -> str | None:
    if isinstance(target, dict):
        target = target.get("label")
    if isinstance(target, int) and not isinstance(target, bool) and isinstance(classes, list):
        if not 0 <= target < len(classes):
            raise ValueError(
                f"{path}: the label of {stem!r} is {target}, and there are {len(classes)} classes"
            )
        return str(classes[target])
    return None if target is None else str(target)


def _by_stem(folder: str) -> dict[str, str]:
    """Path below the folder without suffix -> path, of all pictures."""
    found = {}
    for parent, _, names in os.walk(folder):
        for name in sorted(filter(is_picture, names)):
            path = os.path.join(parent, name)
            found[os.path.splitext(os.path.relpath(path, folder))[0].replace(os.sep, "/")] = path
    return found
