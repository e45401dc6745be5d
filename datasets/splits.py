"""What the data sets of the CoOp family share: split files, few-shot picks, base and new classes.

A split file is JSON, `{"train": [[path, label, class name], ...], "val": [...], "test": [...]}`, paths
relative to the image folder with forward slashes. The order of its entries decides which images few-shot
sampling picks.
"""

import os
import posixpath
import random
import uuid
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

from tqdm import tqdm

from clipfit.io.commands import pasted
from clipfit.io.digests import file_digest
from clipfit.io.files import no_regular_file, printable
from clipfit.io.pictures import image_size
from dassl.data.datasets import DatasetBase, Datum
from dassl.data.datasets.base_dataset import (
    FolderImages,
    check_files,
    group_by_label,
    only_list_read,
    sample_per_label,
)
from dassl.utils import list_digest, read_json, write_json
from datasets.listing import list_class_folders, no_pictures

LISTS = ("train", "val", "test")
MAX_VAL_SHOTS = 4  # validation images per class under few shots
SHOWN = 3  # names in a line
MANY = 2_000  # images: opening so many takes long enough for a progress bar


class SplitDataset(DatasetBase):
    """Base of a data set whose lists stand in a split file.

    A subclass names its folders and its split file, and may say in `make_split` how the split is made where
    the file is missing. Which images are picked depends on the split file, `DATASET.NUM_SHOTS` and `SEED`
    alone: sampling always starts from a fresh generator, whether or not the split was made in the same run.

    After construction `dataset_dir` and `image_dir` are absolute paths.

    Raises: FileNotFoundError if the folder, the split file or images are missing; ValueError for a faulty
        split file, `DATASET.FEWSHOT_LIST` or `DATASET.SUBSAMPLE_CLASSES`.
    """

    dataset_dir = ""  # folder below DATASET.ROOT
    image_folder = "images"  # folder below it that the split file's paths start from; "": the data set's own
    split_file = ""  # split_zhou_<Name>.json
    read_only = False  # whether lists are made without writing any file, for `datasets.doctor`

    def __init__(self, cfg):
        self.locate(cfg.DATASET.ROOT)
        self.prepare(cfg)
        train, val, test = self.select(cfg, *self.read_or_make_split(cfg.SEED))
        super().__init__(train_x=train, val=val, test=test)

    def locate(self, root: str) -> None:
        """Make `dataset_dir` and `image_dir` absolute paths below `root`."""
        root = os.path.abspath(os.path.expanduser(root))
        self.dataset_dir = os.path.join(root, type(self).dataset_dir)
        self.image_dir = os.path.normpath(os.path.join(self.dataset_dir, self.image_folder))

    def prepare(self, cfg) -> None:
        """Hook before the lists are read: check that the data are there, or put them there.

        May set `self.dataset_dir` and `self.image_dir` to other absolute paths.
        """
        self.require_folder(self.dataset_dir)
        self.require_folder(self.image_dir)

    def require_folder(self, folder: str) -> None:
        """Raise FileNotFoundError unless there is this folder."""
        if not os.path.isdir(folder):
            what = "is no folder" if os.path.exists(folder) else "does not exist"
            raise FileNotFoundError(f"{folder} {what}{_near_miss(folder)}; {self.advice()}")

    def advice(self) -> str:
        """Where a user reads on when something is missing."""
        package, _, module = type(self).__module__.rpartition(".")
        name = type(self).__name__
        shipped = Path(__file__).with_name(f"{module}.yaml").is_file()
        layout = f"DATASETS.md, section {name}, shows" if shipped else f"{name} itself ({module}.py) says"
        doctor = f"; {pasted(['python', '-m', 'datasets.doctor', name])} looks for what is wrong"
        doctor = doctor if package == "datasets" else ""
        return f"{layout} the layout; --root says where the data lie{doctor}"

    def annotation(self, *names: str) -> str:
        """Path of a file of the publisher, below the data set's folder.

        Raises: FileNotFoundError if there is none
        """
        path = os.path.join(self.dataset_dir, *names)
        if not os.path.isfile(path):
            instead = f", nor is there {self.split_file}, which would do instead" if self.split_file else ""
            raise FileNotFoundError(f"{path} {no_regular_file(path)}{instead}; {self.advice()}")
        return path

    def make_split(self, rng: random.Random) -> tuple[list, list, list]:
        """Hook for a missing split file: lists of `Datum` for train, val, test, drawn with `rng`."""
        raise FileNotFoundError(
            f"{os.path.join(self.dataset_dir, self.split_file)} does not exist, and {type(self).__name__} "
            "does not say how to make the split; DATASETS.md tells where to get the file"
        )

    def read_or_make_split(self, seed: int) -> tuple[list, list, list]:
        """The lists of the split file, which is written first if it is missing."""
        path, name = os.path.join(self.dataset_dir, self.split_file), type(self).__name__
        if os.path.isfile(path):
            lists = read_split(path, self.image_dir)
            if is_made_here(path) and not only_list_read():  # a test needs no folder but its images
                self._compare_with_what_is_there(path, lists)
            return lists
        lists = self.make_split(generator(seed))
        if self.read_only:
            return lists
        check_files(name, *lists, advice=self.advice_on_missing())
        _check_pictures(name, lists)
        try:
            if save_split(*lists, path, self.image_dir, replace=False):
                note_made_split(path, seed)
        except OSError as error:
            print(f"The split of {name} was made, but cannot be kept: {error}")
            return lists
        print(f"Made the split of {name}: {path}")
        # Read even if just written: of several processes the first one's split counts for all.
        return read_split(path, self.image_dir)

    def advice_on_missing(self) -> str:
        """As elsewhere; a split that was made for other images can be made anew."""
        path = os.path.join(self.dataset_dir, self.split_file)
        advice = super().advice_on_missing()
        if os.path.isfile(path) and type(self).make_split is not SplitDataset.make_split:
            advice += (
                f". If {path} is not the published split, but was made from what the folder held before, "
                "delete that file, and the split is made anew"
            )
        return advice

    def _compare_with_what_is_there(self, path: str, lists: tuple[list, list, list]) -> None:
        """Say how images and classes differ from those that the split at `path` was made of."""
        try:
            now = _classes_by_image(self.make_split(generator(0)))
        except (OSError, ValueError) as error:
            print(f"Warning: {path} was made here, and could not be made any more: {error}")
            return
        then = _classes_by_image(lists)
        classes = set(then.values()), set(now.values())
        differing = {
            "new images": [relative_path(image, self.image_dir) for image in now if image not in then],
            "missing images": [relative_path(image, self.image_dir) for image in then if image not in now],
            "new classes": sorted(classes[1] - classes[0]),
            "missing classes": sorted(classes[0] - classes[1]),
        }
        found = [f"{what}: {len(names):,} ({_shown(names)})" for what, names in differing.items() if names]
        if found:
            print(
                f"Warning: {self.image_dir} is not what {path} was made from ({'; '.join(found)}). "
                "The split stays as it is; delete that file to have it made anew, with other picks"
            )

    def select(self, cfg, full_train: list, full_val: list, test: list) -> tuple[list, list, list]:
        """Of the whole lists, what the config asks for: few shots of all classes, then some classes."""
        train, val = self.pick_images(cfg, full_train, full_val)
        # Halves are halves of all classes, so the full training list leads.
        subsample = cfg.DATASET.SUBSAMPLE_CLASSES
        full_train, train, val, test = subsample_classes(full_train, train, val, test, subsample=subsample)
        if cfg.DATASET.FEWSHOT_LIST:
            _check_every_class(full_train, train, cfg.DATASET.FEWSHOT_LIST)
        return train, val, test

    def pick_images(self, cfg, train: list, val: list) -> tuple[list, list]:
        """The images to train on and to validate on: all, few shots, or those of `DATASET.FEWSHOT_LIST`.

        With a list, val is what it would be without.
        """
        shots = cfg.DATASET.NUM_SHOTS
        full_train = train
        if shots >= 1:
            _report_small_classes(train, shots, "training")
            _report_small_classes(val, min(shots, MAX_VAL_SHOTS), "validation")
            train, val = sample_shots(train, val, shots, cfg.SEED)
        if cfg.DATASET.FEWSHOT_LIST:
            train = self.listed_images(cfg.DATASET.FEWSHOT_LIST, full_train)
        return train, val

    def listed_images(self, path: str, train: list) -> list:
        """The items of `train` that the file `path` names, in the file's order; see `read_image_list`.

        Paths may be relative to the image folder, as in `fewshot.json`, or to the data set's folder.
        """
        known = {relative_path(item.impath, self.dataset_dir): item for item in train}
        known |= {self.relative_path(item): item for item in train}
        listed = read_image_list(path)
        unknown = [image for image in listed if image not in known]
        if unknown:
            raise ValueError(
                f"DATASET.FEWSHOT_LIST {path}: {unknown[0]!r} is not in the training split of "
                f"{type(self).__name__} ({len(unknown):,} of {len(listed):,} are not); "
                f"paths look like {self.relative_path(train[0])!r}"
            )
        return [known[image] for image in listed]

    def relative_path(self, datum: Datum) -> str:
        """Path of an image relative to the image folder, with forward slashes: as in the split file."""
        return relative_path(datum.impath, self.image_dir)


def sample_shots(train, val, shots: int, seed: int) -> tuple[list, list]:
    """The few-shot picks of CoOp: train before val from one fresh generator; for val at most 4 per class."""
    rng = generator(seed)
    return sample_per_label(train, shots, rng), sample_per_label(val, min(shots, MAX_VAL_SHOTS), rng)


def generator(seed: int) -> random.Random:
    """A fresh generator; a negative seed gives one that chance has seeded."""
    return random.Random(seed if seed >= 0 else None)


def relative_path(path: str, folder: str) -> str:
    """`path` relative to `folder`, with forward slashes."""
    prefix = folder + os.sep
    if path.startswith(prefix) and ".." not in path:  # nearly always; a million calls take a second less
        return path[len(prefix) :].replace(os.sep, "/")
    return os.path.relpath(path, folder).replace(os.sep, "/")


def read_lines(path: str) -> list[str]:
    """The lines of a text file, without space around them; blank lines and comments (#) are left out.

    Raises: ValueError naming file and line if it is not UTF-8 text
    """
    lines = []
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
            except UnicodeDecodeError as error:
                raise ValueError(
                    f"{path}, line {number} is not UTF-8 text ({error}); save it as UTF-8"
                ) from error
            if text and not text.startswith("#"):
                lines.append(text)
    return lines


def fields(path: str, line: str, names: str) -> list[str]:
    """The fields of a line of the file `path`, separated by spaces or tabs.

    Args:   names, what the fields are, separated by spaces
    Raises: ValueError naming file and line if there are more or fewer
    """
    found = line.split()
    if len(found) != len(names.split()):
        raise ValueError(f"{path}: {line!r} is no line of {names!r}")
    return found


def read_mat(path: str, variable: str):
    """A vector of a MATLAB file, as an array of one dimension (structures have their fields as keys).

    Raises: FileNotFoundError; ValueError naming the file if it is damaged or holds no such variable
    """
    from scipy.io import loadmat  # only two data sets need it, and only to make their split

    with open(path, "rb") as file:
        try:
            return loadmat(file, squeeze_me=True)[variable].reshape(-1)
        except Exception as error:  # damaged bytes can make its reader fail in any way
            raise ValueError(
                f"{path} is no MATLAB file with the variable {variable} ({type(error).__name__}: "
                f"{printable(str(error))}); it is damaged or another kind of file: get it again"
            ) from error


# Split files


def read_split(filepath: str, path_prefix: str) -> tuple[list, list, list]:
    """Lists of `Datum` for train, val, test from a split file; `path_prefix` is the image folder.

    Raises: ValueError naming file and entry if the file is not a split file, if a path leaves the image
        folder, or if labels and names do not fit together.
    """
    content = read_json(filepath)
    if not isinstance(content, dict) or any(not isinstance(content.get(key), list) for key in LISTS):
        raise ValueError(f"{filepath} is no split file: it must hold the lists {', '.join(LISTS)}")
    names = {}  # label -> name
    for key in LISTS:
        for position, entry in enumerate(content[key]):
            _check_entry(f"{filepath}, {key}[{position}]", entry, names)
    _check_labels(filepath, content)
    return tuple(
        [
            Datum(impath=os.path.join(path_prefix, path.replace("\\", "/")), label=label, classname=name)
            for path, label, name in items
        ]
        for items in (content[key] for key in LISTS)
    )


def save_split(train, val, test, filepath: str, path_prefix: str, replace: bool = True) -> bool:
    """Write a split file, in one step; `path_prefix` is the image folder.

    Without `replace`, a file that another process has written meanwhile stays.

    Returns: whether the file is the one written here
    Raises: ValueError if an image lies outside the image folder; OSError if the folder cannot be written.
    """
    content = {}
    for key, items in zip(LISTS, (train, val, test), strict=True):
        entries = [[relative_path(item.impath, path_prefix), item.label, item.classname] for item in items]
        outside = [path for path, _, _ in entries if path.startswith("../")]
        if outside:
            raise ValueError(
                f"cannot write {filepath}: {outside[0]!r} lies outside the image folder {path_prefix}"
            )
        content[key] = entries
    if not replace:
        return _write_json_once(content, filepath)
    write_json(content, filepath)
    return True


def _write_json_once(obj, path: str) -> bool:
    """Write a JSON file unless it exists; of several processes one wins, and nobody sees half a file."""
    draft = f"{path}.{uuid.uuid4().hex}"
    write_json(obj, draft)
    try:
        os.link(draft, path)  # unlike a rename, refuses an existing target
    except FileExistsError:
        return False
    except OSError:  # a file system without links: the last writer wins
        os.replace(draft, path)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(draft)
    return True


# Splits that were made here. The note stands beside the split, whose bytes stay those that CoOp would write.


def note_path(path: str) -> str:
    """The file that says that the split at `path` was made here."""
    return f"{os.path.splitext(path)[0]}.made.json"


def note_made_split(path: str, seed: int) -> None:
    """Write down that the split at `path` was made here."""
    note = {
        "what": f"{os.path.basename(path)} was made by clipfit from the images that were there; "
        "delete it, and it is made anew",
        "seed": seed,
        "sha256": file_digest(path),
    }
    write_json(note, note_path(path))


def is_made_here(path: str) -> bool:
    """Whether the split at `path` is one that was made here, unchanged since."""
    with suppress(OSError, ValueError):
        note = read_json(note_path(path))
        return isinstance(note, dict) and note.get("sha256") == file_digest(path)
    return False


def _check_pictures(name: str, lists) -> None:
    """Open every image of a split before it is written. Raises: ValueError naming those that cannot be"""
    paths = [item.impath for items in lists for item in items]
    faults = []
    for path in tqdm(paths, f"opening the images of {name}", disable=None if len(paths) > MANY else True):
        try:
            if "\\" in os.path.basename(path):
                raise OSError(f"{path} has a backslash in its name; rename the file")
            image_size(path)
        except OSError as error:
            faults.append(str(error))
    if faults:
        more = f"; and {len(faults) - SHOWN:,} more" if len(faults) > SHOWN else ""
        raise ValueError(
            f"{name}: the split is not made, because {len(faults):,} of {len(paths):,} images cannot be "
            f"read: {'; '.join(faults[:SHOWN])}{more}"
        )


def _classes_by_image(lists) -> dict[str, str]:
    return {item.impath: item.classname for items in lists for item in items}


def _shown(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


def _check_entry(where: str, entry, names: dict) -> None:
    """Check one [path, label, class name]; `names` collects the name of every label."""
    kinds = [type(value) for value in entry] if isinstance(entry, list) else None
    if kinds != [str, int, str]:
        raise ValueError(f"{where} is {entry!r}; it must be [path, label, class name]")
    path, label, name = entry
    if os.path.isabs(path) or path.startswith(("/", "\\")) or path[1:2] == ":":
        raise ValueError(f"{where}: {path!r} is absolute; paths are relative to the image folder")
    if ".." in path.replace("\\", "/").split("/"):
        raise ValueError(f"{where}: {path!r} contains '..'; paths stay inside the image folder")
    known = names.setdefault(label, name)
    if known != name:
        raise ValueError(f"{where}: label {label} is called {name!r}, but {known!r} before")


def _check_labels(filepath: str, content: dict) -> None:
    """Check that training labels are 0, 1, ... without a gap and that other lists have no further one."""
    labels = {label for _, label, _ in content["train"]}
    for key in ("val", "test"):
        for position, (_, label, name) in enumerate(content[key]):
            if label not in labels:
                raise ValueError(
                    f"{filepath}, {key}[{position}]: class {name!r} (label {label}) has no training image"
                )
    for expected, label in enumerate(sorted(labels)):
        if label != expected:
            raise ValueError(
                f"{filepath}, train: labels must be 0, 1, 2, ... without a gap; "
                f"there is {label}, but no {expected}"
            )


# Making a split


def split_trainval(trainval: list, p_val: float = 0.2, rng=random) -> tuple[list, list]:
    """Split off a share `p_val` of every class for validation.

    Args:
        rng: a `random.Random`; by default the global module, with which plugins shuffle.
    Returns: lists of `Datum` for train and val, class by class in order of first appearance, each shuffled.
    Raises: ValueError if a class is too small to give a validation image.
    """
    train, val = [], []
    for items in group_by_label(trainval).values():
        n_val = round(len(items) * p_val)
        if n_val < 1:
            raise ValueError(
                f"class {items[0].classname!r} has {len(items)} images, too few to split off {p_val:.0%}"
            )
        rng.shuffle(items)
        val += items[:n_val]
        train += items[n_val:]
    return train, val


def read_and_split_data(
    image_dir: str, p_trn: float = 0.5, p_val: float = 0.2, ignored=(), new_cnames=None, rng=random
) -> tuple[list, list, list]:
    """Split a folder of class folders into train, val and test.

    Class folders and files are taken in byte order of their names, so the same seed gives the same split
    everywhere.

    Args:
        p_trn, p_val: shares of every class; the rest is for test.
        ignored: names of class folders to leave out.
        new_cnames: folder name -> class name, where they differ.
        rng: a `random.Random`; by default the global module, with which plugins shuffle.
    Raises: ValueError if there is no class folder, or one is too small to give each list an image.
    """
    folders = list_class_folders(image_dir, ignored=ignored)
    if not folders:
        raise ValueError(f"{image_dir} holds no class folders; DATASETS.md shows the layout")
    groups = []
    for label, (folder, files) in enumerate(folders.items()):
        path = os.path.join(image_dir, folder)
        if not files:
            raise ValueError(no_pictures(path))
        name = (new_cnames or {}).get(folder, folder)
        groups.append([Datum(os.path.join(path, file), label, 0, name) for file in files.split("/")])
    return split_classes(groups, p_trn, p_val, rng)


def split_classes(groups, p_trn: float = 0.5, p_val: float = 0.2, rng=random) -> tuple[list, list, list]:
    """Shuffle every group, the images of a class, and split it into train, val and test.

    Raises: ValueError if a group is too small to give each list an image.
    """
    train, val, test = [], [], []
    for items in groups:
        rng.shuffle(items)
        n_train, n_val = round(len(items) * p_trn), round(len(items) * p_val)
        if min(n_train, n_val, len(items) - n_train - n_val) < 1:
            raise ValueError(
                f"class {items[0].classname!r} has {len(items)} images, too few for train, val and test"
            )
        train += items[:n_train]
        val += items[n_train : n_train + n_val]
        test += items[n_train + n_val :]
    return train, val, test


# Base and new classes


def subsample_classes(*lists, subsample: str = "all"):
    """Keep the first half of the classes (`base`, rounded up), the rest (`new`), or `all`.

    Halves are those of the labels in the first list, in label order, so they depend on no seed. Kept items
    get labels from 0 and domain 0.

    Returns: the lists, reduced (`all`: as they are).
    Raises: ValueError for another value.
    """
    if subsample not in ("all", "base", "new"):
        raise ValueError(f"DATASET.SUBSAMPLE_CLASSES is {subsample!r}; choose 'all', 'base' or 'new'")
    if subsample == "all":
        return lists
    labels = sorted(group_by_label(lists[0]))
    half = (len(labels) + 1) // 2
    kept = labels[:half] if subsample == "base" else labels[half:]
    relabel = {label: position for position, label in enumerate(kept)}
    return [_relabelled(items, relabel) for items in lists]


def _relabelled(items, relabel: dict[int, int]):
    if isinstance(items, FolderImages):
        return items.relabelled(relabel)
    return [
        Datum(impath=item.impath, label=relabel[item.label], classname=item.classname)
        for item in items
        if item.label in relabel
    ]


# Few shots


def read_image_list(path: str) -> list[str]:
    """Paths from a list of images: `fewshot.json` of a run, a JSON list, or text with one path a line.

    Backslashes become slashes, and `./` goes.

    Raises: FileNotFoundError; ValueError if the file holds something else, or its digest does not fit its
        paths.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"DATASET.FEWSHOT_LIST: {path} {no_regular_file(path)}")
    if not path.endswith(".json"):
        return list(map(_plain, read_lines(path)))
    content = read_json(path)
    images = content.get("images") if isinstance(content, dict) else content
    if not isinstance(images, list) or not all(map(_is_text, images)):
        raise ValueError(f'DATASET.FEWSHOT_LIST: {path} is neither {{"images": [paths]}} nor a list of paths')
    if isinstance(content, dict) and content.get("digest", list_digest(images)) != list_digest(images):
        raise ValueError(
            f"DATASET.FEWSHOT_LIST: the digest in {path} is not that of its images; "
            "remove the digest if you changed them"
        )
    return list(map(_plain, images))


def _is_text(image) -> bool:
    """Whether it is text, and no half of a character, which JSON can name and no file can."""
    return isinstance(image, str) and not any("\ud800" <= one <= "\udfff" for one in image)


def _plain(path: str) -> str:
    return posixpath.normpath(path.replace("\\", "/"))


def _report_small_classes(items: list, num_shots: int, purpose: str) -> None:
    """Say in one line which classes have fewer images than shots."""
    small = [group for group in group_by_label(items).values() if len(group) < num_shots]
    if small:
        shown = ", ".join(f"{group[0].classname} ({len(group)})" for group in small[:5])
        more = ", ..." if len(small) > 5 else ""
        print(
            f"{len(small)} classes have fewer than {num_shots} {purpose} images "
            f"and give all they have: {shown}{more}"
        )


def _check_every_class(full_train: list, train: list, fewshot_list: str) -> None:
    """Raise ValueError if the images of a few-shot list leave a class without any."""
    present = {item.label for item in train}
    groups = group_by_label(full_train)
    absent = {label: group[0].classname for label, group in groups.items() if label not in present}
    if absent:
        raise ValueError(
            f"DATASET.FEWSHOT_LIST {fewshot_list} names no image of {len(absent)} classes: "
            f"{', '.join(list(absent.values())[:5])}; every class needs one"
        )


def _near_miss(folder: str) -> str:
    """A hint at a folder beside the missing one whose name differs only in case and punctuation."""
    parent, wanted = os.path.split(folder)
    similar = defaultdict(list)
    if os.path.isdir(parent):
        for name in os.listdir(parent):
            similar[_letters(name)].append(name)
    found = similar[_letters(wanted)]
    return f" (but {os.path.join(parent, found[0])} does: rename it)" if found else ""


def _letters(name: str) -> str:
    return "".join(character for character in name.casefold() if character.isalnum())
