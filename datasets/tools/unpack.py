"""From a source's file to what it gives.

Everything is unpacked into a hidden folder first and moved into place by renaming, so that a folder that
exists is whole.
"""

import os
import shutil
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from clipfit.io.places import verify
from datasets.tools.archives import extract
from datasets.tools.sources import Candidate, Source


def unpack(
    source: Source, candidate: Candidate, archive: Path, folder: Path, checksums: Mapping[str, str]
) -> None:
    """Bring what `source` gives out of `archive`, the file of `candidate`, into the data set's folder.

    Args:   checksums, of the data set's files that archives hold beside the images, by their names
    Raises: ValueError if the archive is damaged, not to be trusted, or another one
    """
    if candidate.bundle:
        unpack_bundle(source, candidate, archive, folder, checksums)
    else:
        WAYS[source.unpack](source, candidate, archive, folder)


def unpack_bundle(
    source: Source, candidate: Candidate, archive: Path, folder: Path, checksums: Mapping[str, str]
) -> None:
    """An archive in CoOp's layout: all that it gives and the folder lacks, so that it is unpacked once."""
    with _workshop(folder, archive) as fresh:
        extract(archive, fresh, f"unpacking {archive.name}")
        for result in candidate.bundle:
            wanted = result in source.results
            if (folder / result).exists() or not (wanted or any(fresh.rglob(result))):
                continue
            found = _find(fresh, result, archive)
            try:
                verify(found, checksums.get(result, ""))
            except ValueError as error:
                if wanted:
                    raise
                print(f"{archive.name}: {result} is left out ({error})")
            else:
                _move(found, folder / result)


def unpack_folder(source: Source, candidate: Candidate, archive: Path, folder: Path) -> None:
    """Move the content of the archive's folder `candidate.take` to `candidate.to`."""
    with _workshop(folder, archive) as fresh:
        extract(archive, fresh / "outer", f"unpacking {archive.name}")
        content = fresh / "outer"
        if candidate.inner:
            content = fresh / "inner"
            inner = _find(fresh / "outer", candidate.inner, archive)
            extract(inner, content, f"unpacking {candidate.inner}")
        if candidate.take:
            content = _find(content, candidate.take, archive)
        if candidate.to:
            _move(content, folder / candidate.to)
        else:
            for child in sorted(content.iterdir()):
                _move(child, folder / child.name)


def unpack_imagenet_train(source: Source, candidate: Candidate, archive: Path, folder: Path) -> None:
    """An archive of archives, one per class: n01440764.tar holds the images of images/train/n01440764."""
    with _workshop(folder, archive) as fresh, tarfile.open(archive) as classes:
        for member in classes:
            wnid, extension = os.path.splitext(os.path.basename(member.name))
            if member.isreg() and extension == ".tar":
                extract(classes.extractfile(member), fresh / "train" / wnid)
        _move(_find(fresh, "train", archive), folder / "images" / "train")


def unpack_imagenet_val(source: Source, candidate: Candidate, archive: Path, folder: Path) -> None:
    """50,000 images in one folder; the development kit says which class each one shows."""
    devkit = folder / source.needs
    with _workshop(folder, archive) as fresh:
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


WAYS = {
    "folder": unpack_folder,
    "imagenet_train": unpack_imagenet_train,
    "imagenet_val": unpack_imagenet_val,
}


@contextmanager
def _workshop(folder: Path, archive: Path) -> Iterator[Path]:
    """A hidden folder beside the results, new and empty, removed at the end whatever happens."""
    fresh = folder / f".unpacking-{archive.name}"
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
    nearest = found[0]
    while [nearest / nearest.name] == list(nearest.iterdir() if nearest.is_dir() else ()):
        nearest /= nearest.name  # some copies have cars_train/cars_train
    return nearest


def _move(source: Path, target: Path) -> None:
    """Rename, unless the target is there already: what a user has is not overwritten."""
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        source.rename(target)
