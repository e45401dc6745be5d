"""Fetch a data set into its folder, as far as it may be fetched, and let the doctor look at the result.

    python -m datasets.prepare dtd --root data

What is there stays untouched, so the command may be repeated: a broken download goes on where it stopped, an
archive that was put into the folder by hand is used, and what is unpacked is not unpacked again. Where a file
needs a login or its source is gone, the command says which file to put where and ends with status 1.
"""

import os
import shutil
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from clipfit.io.commands import PATH, Parser, default_root, pasted
from dassl.config import get_cfg_default
from dassl.data.datasets import DATASET_REGISTRY
from datasets.tools import doctor, known
from datasets.tools.archives import extract
from datasets.tools.downloads import DownloadError, download, download_from_drive, verify
from datasets.tools.findings import location
from datasets.tools.known import Entry
from datasets.tools.sources import Source
from launch.bare_errors import message_of
from launch.registered import data_sets


def main(argv: list[str] | None = None) -> int:
    parser = Parser(prog="python -m datasets.prepare", description=__doc__.splitlines()[0])
    parser.add_argument("name", help=f"data set: {', '.join(one.stem for one in data_sets())}")
    parser.add_argument(
        "--root", type=PATH, default=default_root(), help="data root (default: $DATA, else data)"
    )
    args = parser.parse_args(argv)
    root = Path(args.root).absolute()
    try:
        entry, open_tasks = known.find(args.name), []
        if entry.drawn:
            draw(entry, root)
        elif entry.sources:
            open_tasks = prepare(entry, root)
        else:
            folder = root / entry.folder
            print(f"nothing is known of where {entry.registry} comes from: put its images into {folder}")
            print(f"as {location(entry.file)} reads them")
    except (KeyError, ValueError, OSError) as error:
        sys.exit(f"error: {message_of(error)}")
    except KeyboardInterrupt:
        sys.exit("stopped; the same command goes on from here")
    healthy = doctor.report(args.name, root)
    if open_tasks:
        print(f"\nTo be put there by hand, into {root / entry.folder}:")
        for reason in dict.fromkeys(reason for _, reason in open_tasks):
            files = [source.file for source, same in open_tasks if same == reason]
            print(f"  {', '.join(files)}\n      {reason}")
        again = ["python", "-m", "datasets.prepare", entry.name, "--root", args.root]
        print(f"Then run this command again: {pasted(again)}")
    return 0 if healthy and not open_tasks else 1


def draw(entry: Entry, root: Path) -> None:
    """Draw an embedded data set into `root`, as its first use would."""
    cfg = get_cfg_default()
    cfg.DATASET.ROOT = str(root)
    DATASET_REGISTRY.get(entry.registry)(cfg)


def prepare(entry: Entry, root: Path) -> list[tuple[Source, str]]:
    """Bring every source of a data set into its folder below `root`.

    Sources marked optional are fetched only where CoOp's split file cannot be had.

    Returns: the sources that a person has to bring, each with the place where it is found
    Raises:  ValueError if a file is not what was published, or an archive is damaged or not to be trusted
    """
    folder = root / entry.folder
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".prepare.lock"):  # two commands at once would fill the same .part
        needed = [source for source in entry.sources if not source.optional]
        open_tasks = _bring_all(entry, needed, folder)
        if entry.split and not (folder / entry.split).is_file():
            optional = [source for source in entry.sources if source.optional]
            open_tasks += _bring_all(entry, optional, folder)
    return open_tasks


def _bring_all(entry: Entry, sources: list[Source], folder: Path) -> list[tuple[Source, str]]:
    tasks = [(source, _bring(entry, source, folder)) for source in sources]
    return [(source, reason) for source, reason in tasks if reason]


def _bring(entry: Entry, source: Source, folder: Path) -> str:
    """Bring one source; returns "" or where a person finds it."""
    if all((folder / result).exists() for result in source.results):
        print(f"there already: {', '.join(source.results)}")
        return ""
    file = folder / source.file
    checksum = source.md5
    if source.file == entry.split:
        checksum = entry.published.get("split_sha256", "")
    if source.needs and not (folder / source.needs).is_file():
        return f"{source.by_hand}; {source.needs} is needed with it"
    if file.is_file():
        _verify_given(file, checksum)
    elif reason := _fetch(source, file, checksum):
        return reason
    if source.gives:
        UNPACK[source.unpack](source, file, folder)
    return ""


def _verify_given(file: Path, checksum: str) -> None:
    try:
        verify(file, checksum)
    except ValueError as error:
        raise ValueError(f"{error}; replace it, or unpack it yourself if you trust it") from error


def _fetch(source: Source, file: Path, checksum: str) -> str:
    """Copy, download; returns "" or where a person finds the file."""
    sibling = file.parent.parent / source.shared_with / source.file
    if source.shared_with and sibling.is_file() and sibling != file:
        print(f"{source.file}: copied from {sibling}")
        shutil.copyfile(sibling, file)
        return ""
    try:
        if source.urls:
            download(source.urls, file, checksum)
        elif source.drive:
            download_from_drive(source.drive, file, checksum)
        else:
            return source.by_hand
    except DownloadError as error:
        return f"{error}\n      {source.by_hand or 'try the link in a browser'}"
    print(f"{source.file}: downloaded")
    return ""


# Unpacking. Everything is unpacked into a hidden folder first and moved into place by renaming, so that a
# folder that exists is whole.


def unpack_folder(source: Source, archive: Path, folder: Path) -> None:
    """Move the content of the archive's folder `source.take` to `source.to`."""
    with _workshop(folder, source) as fresh:
        extract(archive, fresh / "outer", f"unpacking {archive.name}")
        content = fresh / "outer"
        if source.inner:
            content = fresh / "inner"
            inner = _find(fresh / "outer", source.inner, archive)
            extract(inner, content, f"unpacking {source.inner}")
        if source.take:
            content = _find(content, source.take, archive)
        if source.to:
            _move(content, folder / source.to)
        else:
            for child in sorted(content.iterdir()):
                _move(child, folder / child.name)


def unpack_imagenet_train(source: Source, archive: Path, folder: Path) -> None:
    """An archive of archives, one per class: n01440764.tar holds the images of images/train/n01440764."""
    with _workshop(folder, source) as fresh, tarfile.open(archive) as classes:
        for member in classes:
            wnid, extension = os.path.splitext(os.path.basename(member.name))
            if member.isreg() and extension == ".tar":
                extract(classes.extractfile(member), fresh / "train" / wnid)
        _move(_find(fresh, "train", archive), folder / "images" / "train")


def unpack_imagenet_val(source: Source, archive: Path, folder: Path) -> None:
    """50,000 images in one folder; the development kit says which class each one shows."""
    devkit = folder / source.needs
    with _workshop(folder, source) as fresh:
        extract(devkit, fresh / "devkit")
        wnids = _validation_wnids(fresh / "devkit" / "ILSVRC2012_devkit_t12" / "data")
        extract(archive, fresh / "flat", f"unpacking {archive.name}")
        images = sorted(path for path in (fresh / "flat").rglob("*") if path.is_file())
        if len(images) != len(wnids):
            raise ValueError(f"{archive} holds {len(images):,} images, {devkit} knows {len(wnids):,}")
        for image, wnid in zip(images, wnids, strict=True):
            (fresh / "val" / wnid).mkdir(parents=True, exist_ok=True)
            image.rename(fresh / "val" / wnid / image.name)
        _move(fresh / "val", folder / "images" / "val")


def _validation_wnids(data: Path) -> list[str]:
    """Class of every validation image, in the order of their names."""
    from scipy.io import loadmat

    synsets = loadmat(data / "meta.mat", squeeze_me=True)["synsets"]
    wnid_of = {int(synset["ILSVRC2012_ID"]): str(synset["WNID"]) for synset in synsets}
    numbers = (data / "ILSVRC2012_validation_ground_truth.txt").read_text().split()
    return [wnid_of[int(number)] for number in numbers]


def keep(source: Source, archive: Path, folder: Path) -> None:
    """Nothing to unpack: another source reads the archive."""


UNPACK = {
    "folder": unpack_folder,
    "imagenet_train": unpack_imagenet_train,
    "imagenet_val": unpack_imagenet_val,
    "keep": keep,
}


@contextmanager
def _workshop(folder: Path, source: Source) -> Iterator[Path]:
    """A hidden folder beside the results, new and empty, removed at the end whatever happens."""
    fresh = folder / f".unpacking-{source.file}"
    shutil.rmtree(fresh, ignore_errors=True)  # of a killed run
    fresh.mkdir()
    try:
        yield fresh
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _find(unpacked: Path, name: str, archive: Path) -> Path:
    """The entry called `name`, wherever it lies in what was unpacked: the one nearest to the top."""
    found = sorted((path for path in unpacked.rglob(name)), key=lambda path: len(path.parts))
    if not found:
        tops = ", ".join(sorted(path.name for path in unpacked.iterdir())[:5]) or "nothing"
        raise ValueError(f"{archive} holds no {name} (but {tops}); is it the right file?")
    return found[0]


def _move(source: Path, target: Path) -> None:
    """Rename, unless the target is there already: what a user has is not overwritten."""
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        source.rename(target)


if __name__ == "__main__":
    sys.exit(main())
