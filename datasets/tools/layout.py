"""What the doctor says about a folder: image folders, files, the split, origins, leftovers."""

from collections.abc import Iterator
from pathlib import Path

from clipfit.io.origins import read_origins
from clipfit.io.places import digest_of
from datasets.imagenet_like import CLASSNAMES, SHIPPED_CLASSNAMES
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
    wanted = {letters(name) for name in (entry.folder, *entry.other_names) if name}
    taken = {other.folder for other in known.entries()}
    present = sorted(path for path in root.glob("*") if path.is_dir() and path.name not in taken)
    return next((path for path in present if letters(path.name) in wanted), None)


def letters(name: str) -> str:
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
        for one in source.known_files:
            if name in source.gives and (folder / one.file).is_file():
                return f"{one.file} is not unpacked: {how_to_get(entry, folder)}"
    return how_to_get(entry, folder)


def classnames(folder: Path) -> Iterator[Finding]:
    """The class names of ImageNet that a folder brings, beside those that ship with the code."""
    own = folder / CLASSNAMES
    if own.is_file():
        lines = Path(own).read_text(encoding="utf-8-sig").splitlines()
        shipped = Path(SHIPPED_CLASSNAMES).read_text(encoding="utf-8").splitlines()
        others = len({" ".join(line.split()) for line in lines} - set(shipped) - {""})
        text = f"the folder's own are used; {others:,} of them are not those that ship with the code"
        yield Finding(NOTE if others else OK, CLASSNAMES, text if others else "as they ship with the code")


def origins(folder: Path) -> Iterator[Finding]:
    """Where the files came from, as `prepare` noted it."""
    for file, origin in (read_origins(folder) or {}).items():
        details = [origin.get("digest"), origin.get("date")]
        text = f"{file}: {', '.join(map(str, filter(None, [origin.get('from'), *details])))}"
        yield Finding(NOTE, "origin", text)


def split_file(entry: Entry, folder: Path) -> Iterator[Finding]:
    path = folder / entry.split
    wanted = entry.checksums.get(entry.split)
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
    elif digest_of(path, like=wanted) == wanted:
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
    archives = {
        one.file: None
        for source in entry.sources
        if source.gives and all((folder / result).exists() for result in source.gives)
        for one in source.known_files
    }
    for file in archives:
        if (folder / file).is_file():
            text = f"{file} is unpacked and may be removed"
            yield Finding(NOTE, "not used", text, f"{how_to_get(entry, folder)} --remove-archives")
