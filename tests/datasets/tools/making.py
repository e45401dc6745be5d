"""Archives for tests."""

import hashlib
import io
import tarfile
import zipfile
from dataclasses import replace

from clipfit.io.places import FilePlace


def md5(content):
    return hashlib.md5(content).hexdigest()


def tar_of(members, mode="w:gz"):
    """A tar file; a member is content, or a TarInfo that says what else it is."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:
        for name, content in members.items():
            info = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.name = name
            if isinstance(content, bytes):
                info.size = len(content)
            tar.addfile(info, io.BytesIO(content) if isinstance(content, bytes) else None)
    return buffer.getvalue()


def zip_of(members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in members.items():
            file.writestr(name, content)
    return buffer.getvalue()


def files_below(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


SPLIT = b'{"train": [], "val": [], "test": []}'
PHOTO = b"photo"


def folder_of(name, *inside):
    return {f"{name}/{path}": PHOTO for path in inside or ("a/1.jpg",)}


AIRCRAFT = (
    "images/1.jpg",
    *(f"images_variant_{part}.txt" for part in ("train", "val", "test")),
    "variants.txt",
)
IMAGENETV2 = "imagenetv2-matched-frequency-format-val"
IN_AIRCRAFT = folder_of("fgvc-aircraft-2013b/data", *AIRCRAFT)

# What the publishers give, in small: file -> content, each in its real layout.
PUBLISHED = {
    "caltech101": {
        "caltech-101.zip": zip_of(
            {
                "caltech-101/101_ObjectCategories.tar.gz": tar_of(folder_of("101_ObjectCategories")),
                "caltech-101/Annotations.tar": b"",
                "__MACOSX/x": b"",
            }
        )
    },
    "dtd": {"dtd-r1.0.1.tar.gz": tar_of({**folder_of("dtd/images"), "dtd/labels/x.txt": b"x"})},
    "eurosat": {
        "EuroSAT.zip": zip_of(folder_of("2750")),
        "EuroSAT_RGB.zip": zip_of(folder_of("EuroSAT_RGB", "b/2.jpg")),
    },
    "fgvc_aircraft": {"fgvc-aircraft-2013b.tar.gz": tar_of(IN_AIRCRAFT)},
    "food101": {"food-101.tar.gz": tar_of({**folder_of("food-101/images"), "food-101/meta/x": b""})},
    "imagenet_a": {"imagenet-a.tar": tar_of({**folder_of("imagenet-a"), "imagenet-a/README.txt": b""}, "w")},
    "imagenet_r": {"imagenet-r.tar": tar_of(folder_of("imagenet-r"), "w")},
    "imagenet_sketch": {"ImageNet-Sketch.zip": zip_of(folder_of("sketch"))},
    "imagenetv2": {
        "imagenetv2-matched-frequency.tar.gz": tar_of(
            folder_of("imagenetv2-matched-frequency-format-val"), "w"
        )
    },
    "oxford_flowers": {"102flowers.tgz": tar_of(folder_of("jpg", "1.jpg"))},
    "oxford_pets": {"images.tar.gz": tar_of(folder_of("images", "1.jpg"))},
    "stanford_cars": {f"cars_{part}.tgz": tar_of(folder_of(f"cars_{part}")) for part in ("train", "test")},
    "sun397": {"SUN397.tar.gz": tar_of(folder_of("SUN397", "a/abbey/1.jpg"))},
    "ucf101": {"UCF-101-midframes.zip": zip_of(folder_of("UCF-101-midframes"))},
}


def bundle_of(entry, candidate):
    """An archive in CoOp's layout, with the pickles that such archives hold."""
    members = {f"{entry.folder}/split_fewshot/shot_1-seed_1.pkl": b"never opened"}
    for result in candidate.bundle:
        if result.endswith(".json"):
            members[f"{entry.folder}/{result}"] = SPLIT
        elif result.endswith(".txt"):
            members[f"{entry.folder}/{result}"] = PHOTO
        else:
            members |= folder_of(f"{entry.folder}/{result}")
    return zip_of(members)


def in_small(entry, server, alive):
    """The sources of a data set with small files on `server`, and checksums and sizes of these where some
    are published. Optional ones are left out.

    Args: alive, whether a candidate has its file: called with its number and how many there are
    """
    sources = []
    for source in (source for source in entry.sources if not source.optional):
        own = PUBLISHED[entry.name].get(source.file, SPLIT)
        candidates = []
        for n, one in enumerate(source.candidates):
            content = bundle_of(entry, one) if one.bundle else PUBLISHED[entry.name].get(one.file, own)
            path = f"{'bundle' if one.bundle else n}/{one.file}"
            url = server.url(path)
            if alive(n, len(source.candidates)):
                server.files[path] = content
            candidates.append(replace(one, place=_like(one.place, content, url)))
        small = _like(FilePlace(checksum=source.checksum, size=source.size), own, "")
        sources.append(
            replace(source, candidates=tuple(candidates), checksum=small.checksum, size=small.size)
        )
    return tuple(sources)


def _like(place, content, url):
    digest = {32: hashlib.md5, 40: blob, 64: hashlib.sha256}.get(len(place.checksum))
    checksum = digest(content).hexdigest() if digest else ""
    return FilePlace(url=url, checksum=checksum, size=len(content) if place.size else 0)


def blob(content):
    return hashlib.sha1(b"blob %d\0" % len(content) + content)
