"""`Datum`, one labelled image, and `DatasetBase`, the lists of them that a data set consists of."""

import bisect
import itertools
import os
import random
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

from clipfit.io.files import printable
from dassl.data.datasets import for_plugins
from dassl.data.datasets.same_images import warnings_of_lists, warnings_of_names

_list_read = ContextVar("the list whose images are read", default="")


@contextmanager
def reading_only(split: str) -> Iterator[None]:
    """Construct data sets for a run that reads the images of one list: "test" or "val"; "": of all lists.

    A context, because data sets of plugins are constructed with a config and nothing else.
    """
    token = _list_read.set(split)
    try:
        yield
    finally:
        _list_read.reset(token)


def only_list_read() -> str:
    """The list whose images a run reads; "": it reads all."""
    return _list_read.get()


class Datum:
    """One labelled image.

    Args:
        impath: path of the image file. Whether it exists is checked when the lists reach `DatasetBase`.
        label: class, an integer from 0.
        domain: domain, an integer from 0.
        classname: name of the class.

    A pickle holds the four values under Dassl's names: lists that data set plugins pickled under Dassl load
    here, and the reverse.

    Raises: TypeError if `impath` is not a string.
    """

    # A data set may have a million of them: no dict each, unless a plugin sets attributes of its own.
    __slots__ = ("_impath", "_label", "_domain", "_classname", "__dict__")

    def __init__(self, impath: str = "", label: int = 0, domain: int = 0, classname: str = ""):
        if not isinstance(impath, str):
            raise TypeError(f"Datum: impath is {impath!r} ({type(impath).__name__}); pass the path as a str")
        self._impath = impath
        self._label = label
        self._domain = domain
        self._classname = classname

    @property
    def impath(self) -> str:
        return self._impath

    @property
    def label(self) -> int:
        return self._label

    @property
    def domain(self) -> int:
        return self._domain

    @property
    def classname(self) -> str:
        return self._classname

    def __getstate__(self) -> dict:
        return {
            "_impath": self._impath,
            "_label": self._label,
            "_domain": self._domain,
            "_classname": self._classname,
            **vars(self),
        }

    def __setstate__(self, state: dict | tuple[None, dict]) -> None:
        if isinstance(
            state, tuple
        ):  # (None, the four values): as this class was pickled before it had a dict
            state = state[1]
        for name, value in state.items():
            setattr(self, name, value)

    def __repr__(self) -> str:
        return (
            f"Datum({self.impath!r}, label={self.label}, domain={self.domain}, classname={self.classname!r})"
        )


class ClassFolder(NamedTuple):
    """The images of one class: files of one folder."""

    folder: str  # path
    files: str  # names joined by "/", which no file name contains
    label: int
    classname: str

    @property
    def count(self) -> int:
        return self.files.count("/") + 1

    def items(self) -> list[Datum]:
        """Its images in order."""
        prefix = os.path.join(self.folder, "")
        return [Datum(prefix + name, self.label, 0, self.classname) for name in self.files.split("/")]


class FolderImages(Sequence):
    """Images of class folders as a read-only list of `Datum` that are made when they are read.

    For data sets of ImageNet's size: the names of 1.28 million files are a thousand strings, and few-shot
    sampling makes a `Datum` only for what it picks.

    Args: folders, of which each has its own label and at least one file.
    """

    def __init__(self, folders: list[ClassFolder]):
        self.folders = folders
        self._ends = list(itertools.accumulate(folder.count for folder in folders))
        self._split = None, []  # position of the folder that was read last, and its files

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self)))]
        if index < 0:
            index += len(self)
        if not 0 <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        position = bisect.bisect_right(self._ends, index)
        folder = self.folders[position]
        split = self._split  # once, because threads may read at the same time
        if split[0] != position:
            split = self._split = position, folder.files.split("/")
        name = split[1][index - self._ends[position]]  # counted from the end: negative
        return Datum(os.path.join(folder.folder, name), folder.label, 0, folder.classname)

    def __iter__(self) -> Iterator[Datum]:
        return itertools.chain.from_iterable(map(ClassFolder.items, self.folders))

    def by_label(self) -> dict[int, "FolderImages"]:
        """Label -> its images."""
        return {folder.label: FolderImages([folder]) for folder in self.folders}

    def in_folders(self, names: Collection[str]) -> "FolderImages":
        """Only the images of folders with these names."""
        return FolderImages([f for f in self.folders if os.path.basename(f.folder) in names])

    def relabelled(self, labels: dict[int, int]) -> "FolderImages":
        """Only the images whose labels are keys of `labels`, with the new labels that these map to."""
        return FolderImages([f._replace(label=labels[f.label]) for f in self.folders if f.label in labels])

    def one_per_class(self) -> list[Datum]:
        """The first image of every class."""
        return [FolderImages([folder])[0] for folder in self.folders]


class DatasetBase:
    """A data set: lists of `Datum` for training (labelled, unlabelled), validation and test.

    A subclass makes the lists in its constructor and hands them to this one. `val` and `train_u` may be None.

    Raises: ValueError if `train_x` is empty or gives one label two names;
        FileNotFoundError if a listed image does not exist; in a test (`reading_only`) one that is tested on.
    """

    dataset_dir = ""  # folder of the data set below DATASET.ROOT
    domains: list = []  # names of all domains
    upright = False  # True: pictures are turned as their EXIF tag says, and laid on white where transparent
    lists_folders = False  # True: the lists are what folders hold; that all images exist is not checked again

    def __init__(self, train_x=None, train_u=None, val=None, test=None):
        if not train_x:
            raise ValueError(f"{type(self).__name__}: train_x is empty; a data set needs labelled images")
        self._train_x = train_x
        self._train_u = train_u
        self._val = val
        self._test = test
        self._num_classes = self.get_num_classes(train_x)
        self._lab2cname, self._classnames = self.get_lab2cname(train_x)
        name = type(self).__name__
        if not self.lists_folders:
            read = {"": (train_x, train_u, val, test), "val": (val or test,), "test": (test,)}
            check_files(name, *read[only_list_read()], advice=self.advice_on_missing())
        lists = {"train": train_x, "val": val, "test": test}
        listed = {part: None if isinstance(items, FolderImages) else items for part, items in lists.items()}
        for line in (*warnings_of_names(self._lab2cname), *warnings_of_lists(listed)):
            print(f"Warning: {name}: {line}")

    def advice_on_missing(self) -> str:
        """What to do where listed images do not exist."""
        return "DATASETS.md shows how the data must lie; --root says where"

    @property
    def train_x(self):
        return self._train_x

    @property
    def train_u(self):
        return self._train_u

    @property
    def val(self):
        return self._val

    @property
    def test(self):
        return self._test

    @property
    def num_classes(self) -> int:
        return self._num_classes

    @property
    def lab2cname(self) -> dict:
        return self._lab2cname

    @property
    def classnames(self) -> list:
        return self._classnames

    @staticmethod
    def get_num_classes(data_source) -> int:
        """Highest label + 1."""
        return max(item.label for item in _for_classes(data_source)) + 1

    @staticmethod
    def get_lab2cname(data_source) -> tuple[dict, list]:
        """Class names by label, and the names in label order (only of labels that occur).

        Raises: ValueError if one label has two names.
        """
        names = {}
        for item in _for_classes(data_source):
            known = names.setdefault(item.label, item.classname)
            if known != item.classname:
                raise ValueError(
                    f"label {item.label} has two names, {known!r} and {item.classname!r} ({item.impath}); "
                    "give every class one label and one name"
                )
        return names, [names[label] for label in sorted(names)]

    def check_input_domains(self, source_domains, target_domains) -> None:
        """Check that all given domains are among `self.domains`."""
        self.is_input_domain_valid(source_domains)
        self.is_input_domain_valid(target_domains)

    def is_input_domain_valid(self, input_domains) -> None:
        for domain in input_domains:
            if domain not in self.domains:
                raise ValueError(f"unknown domain {domain!r}; choose from {list(self.domains)}")

    def download_data(self, url: str, dst: str, from_gdrive: bool = True) -> None:
        """Download `url` to the file `dst` and unpack it beside it (.zip, .tar, .tar.gz, .tgz).

        Raises: ImportError if gdown is needed and missing; ValueError for another kind of archive.
        """
        for_plugins.download_data(url, dst, from_gdrive)

    def generate_fewshot_dataset(self, *data_sources, num_shots: int = -1, repeat: bool = False):
        """Pick `num_shots` images per class from each list, drawing from the global `random` module.

        The global module, because data set plugins shuffle with it before and after.

        Args:
            data_sources: lists of `Datum`; each is reduced by itself, in the order given.
            num_shots: images per class; below 1 the lists come back as they are.
            repeat: see `sample_per_label`.
        Returns: one list for one source; several lists for several (a tuple when nothing was picked).
        """
        if num_shots < 1:
            return data_sources[0] if len(data_sources) == 1 else data_sources
        print(f"Creating a {num_shots}-shot dataset")
        picked = [sample_per_label(items, num_shots, random, repeat) for items in data_sources]
        return picked[0] if len(picked) == 1 else picked

    def split_dataset_by_label(self, data_source) -> dict:
        """Label -> its items, labels in order of first appearance."""
        return group_by_label(data_source)

    def split_dataset_by_domain(self, data_source) -> dict:
        """Domain -> its items, domains in order of first appearance."""
        groups = defaultdict(list)
        for item in data_source:
            groups[item.domain].append(item)
        return groups


def group_by_label(items) -> dict:
    """Label -> its items, labels in order of first appearance, the items' order kept."""
    if isinstance(items, FolderImages):
        return items.by_label()
    groups = defaultdict(list)
    for item in items:
        groups[item.label].append(item)
    return groups


def sample_per_label(items, num_shots: int, rng, repeat: bool = False) -> list:
    """The few-shot picks of the CoOp family: `num_shots` items per label, drawn with `rng`.

    Labels are visited in order of first appearance. A label with fewer items gives all of them in list order
    and draws nothing, unless `repeat`: then it gives `num_shots` draws with replacement.

    Args:
        items: list of `Datum`.
        rng: a `random.Random`, or the module `random`.
    Returns: list of `Datum`, label by label.
    """
    picked = []
    for group in group_by_label(items).values():
        if len(group) >= num_shots:
            picked += rng.sample(group, num_shots)
        elif repeat:
            picked += rng.choices(group, k=num_shots)
        else:
            picked += group
    return picked


def validates_on_test(dataset: DatasetBase) -> bool:
    """Whether what is chosen on the validation images is chosen on test images: there are no others."""
    validation, test = ({item.impath for item in items or []} for items in (dataset.val, dataset.test))
    return not validation or not validation.isdisjoint(test)


def _for_classes(items):
    """Items that show every label with its name: all of them, or fewer where one per class is enough."""
    return items.one_per_class() if isinstance(items, FolderImages) else items


def check_files(name: str, *lists, advice: str) -> None:
    """Raise FileNotFoundError with this advice unless every listed image exists.

    One listing per folder instead of one question per file.
    """
    files = defaultdict(set)  # folder -> names of the files expected in it
    for items in lists:
        for item in items or ():
            folder, file = os.path.split(item.impath)
            files[folder].add(file)

    missing = []
    for folder, expected in files.items():
        present = set(os.listdir(folder or ".")) if os.path.isdir(folder or ".") else set()
        # A file system that ignores case finds files whose listed name differs: ask about those one by one.
        paths = (os.path.join(folder, file) for file in sorted(expected - present))
        missing += [path for path in paths if not (present and os.path.isfile(path))]
    if missing:
        shown = "\n  ".join(printable(path, most=1000) for path in missing[:3])
        more = f"\n  and {len(missing) - 3:,} more" if len(missing) > 3 else ""
        total = sum(map(len, files.values()))
        raise FileNotFoundError(
            f"{name}: {len(missing):,} of {total:,} images do not exist:\n  {shown}{more}\n{advice}"
        )
