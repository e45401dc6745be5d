"""What the doctor says about a folder: image folders, other files, the split file, what is not used."""

from collections.abc import Iterator
from pathlib import Path

from clipfit.io.digests import file_digest
from datasets.splits import is_made_here
from datasets.tools import known
from datasets.tools.findings import NOTE, OK, WRONG, Finding, how_to_get
from datasets.tools.known import Entry


def no_folder(entry: Entry, root: Path) -> Finding:
    missing = f"{root / entry.folder} does not exist"
    if entry.drawn:
        return Finding(NOTE, "folder", f"{missing}: it is drawn on first use")
    if other := called_otherwise(entry, root):
        advice = f"{other} looks like it: mv {other} {root / entry.folder}"
    elif root.name == entry.folder and any((root / name).exists() for name in entry.images):
        advice = f"--root is one level too deep; pass --root {root.parent}"
    else:
        advice = how_to_get(entry, root / entry.folder)
    return Finding(WRONG, "folder", missing, advice)


def called_otherwise(entry: Entry, root: Path) -> Path | None:
    """A folder below `root` that has another repository's name for the data set."""
    wanted = {_letters(name) for name in (entry.folder, *entry.other_names) if name}
    taken = {other.folder for other in known.entries()}
    present = sorted(path for path in root.glob("*") if path.is_dir() and path.name not in taken)
    return next((path for path in present if _letters(path.name) in wanted), None)


def _letters(name: str) -> str:
    return "".join(character for character in name.casefold() if character.isalnum())


def image_folders(entry: Entry, folder: Path) -> Iterator[Finding]:
    for name in entry.images:
        if (folder / name).is_dir():
            yield Finding(OK, "images", f"{name}/ is there")
        else:
            yield Finding(WRONG, "images", f"{name}/ does not exist", _where_instead(entry, folder, name))


def other_files(entry: Entry, folder: Path) -> Iterator[Finding]:
    for name in entry.files:
        if (folder / name).is_file():
            yield Finding(OK, "file", name)
        else:
            yield Finding(WRONG, "file", f"{name} does not exist", _where_instead(entry, folder, name))


def _where_instead(entry: Entry, folder: Path, name: str) -> str:
    """Advice for a missing folder or file: where it lies instead, or how to get it."""
    deeper = [path for path in sorted(folder.glob("*")) if (path / name).exists()]
    if deeper:
        return f"it lies one level too deep, in {deeper[0] / name}: move what is in {deeper[0].name}/ up"
    last = Path(name).name
    if last != name and (folder / last).exists():
        return f"it lies one level too high, in {folder / last}: move it to {folder / name}"
    for source in entry.sources:
        if name in source.gives and (folder / source.file).is_file():
            return f"{source.file} is not unpacked: {how_to_get(entry, folder)}"
    return how_to_get(entry, folder)


def split_file(entry: Entry, folder: Path) -> Iterator[Finding]:
    path = folder / entry.split
    wanted = entry.published.get("split_sha256")
    if not entry.split:
        return
    published_instead = f"for CoOp's numbers, move it away, then {how_to_get(entry, folder)}"
    if not path.is_file():
        absent = [name for name in entry.instead_of_split if not (folder / name).is_file()]
        if absent:
            text = f"{entry.split} does not exist, nor does {absent[0]}, from which it could be made"
            yield Finding(WRONG, "split", text, _where_instead(entry, folder, entry.split))
        else:
            text = f"{entry.split} does not exist; the first use makes one of its own, which is not CoOp's"
            yield Finding(NOTE, "split", text, _where_instead(entry, folder, entry.split))
    elif is_made_here(str(path)):
        text = f"{entry.split} was made here from the images that were there; it is not CoOp's"
        yield Finding(WRONG if wanted else NOTE, "split", text, published_instead)
    elif not wanted:
        yield Finding(OK, "split", f"{entry.split} is there")
    elif file_digest(path) == wanted:
        yield Finding(OK, "split", f"{entry.split} is CoOp's, bit for bit")
    else:
        text = f"{entry.split} is not the one that CoOp published"
        yield Finding(WRONG, "split", text, published_instead)


def leftovers(entry: Entry, folder: Path) -> Iterator[Finding]:
    """Files that are not used, and what they are."""
    pickles = [path for path in sorted(folder.glob("split_fewshot/*.pkl"))]
    if pickles:
        yield Finding(
            NOTE, "not used", f"split_fewshot/ holds {len(pickles):,} of CoOp's caches; never opened here"
        )
    if (folder / "preprocessed.pkl").is_file():
        yield Finding(NOTE, "not used", "preprocessed.pkl is CoOp's list of images; never opened here")
    for part in sorted(folder.glob("*.part")):
        yield Finding(
            NOTE,
            "unfinished",
            f"{part.name} is a broken download",
            f"{how_to_get(entry, folder)} goes on with it",
        )
    for source in entry.sources:
        unpacked = source.gives and all((folder / result).exists() for result in source.gives)
        if unpacked and (folder / source.file).is_file():
            yield Finding(NOTE, "not used", f"{source.file} is unpacked and may be removed")
