"""Every registered data set as the doctor and `prepare` see it: its facts, and what its class adds."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from dassl.data.datasets import DATASET_REGISTRY
from dassl.utils import unknown_name
from datasets import demo
from datasets.splits import SplitDataset
from datasets.tools.sources import Source, read_sources
from launch.registered import DataSet, data_sets

PUBLISHED = Path(__file__).with_name("published.json")


@dataclass(frozen=True)
class Entry:
    """One data set. Paths are relative to its folder, which is relative to the data root."""

    name: str  # stem
    registry: str  # DATASET.NAME
    folder: str
    file: Path  # that registers it
    images: tuple[str, ...] = ()  # folders that hold images; "": the folder itself
    classes: int | None = None  # this and the counts, None: not known, or a copy of another list
    train: int | None = None
    val: int | None = None
    test: int | None = None
    split: str = ""  # file name of CoOp's split
    files: tuple[str, ...] = ()  # other files without which nothing loads
    instead_of_split: tuple[str, ...] = ()  # from which the split is made where its file is missing
    other_names: tuple[str, ...] = ()  # how other repositories call the folder
    sources: tuple[Source, ...] = ()
    terms: str = ""  # on which the publisher gives the images
    drawn: bool = False  # on first use: there is nothing to fetch
    has_facts: bool = True

    @property
    def published(self) -> dict:
        """What `published()` holds for it; any key may be absent."""
        return published().get(self.registry, {})

    @property
    def checked_sources(self) -> tuple[Source, ...]:
        """The sources, the split file's with the checksum that is published of it."""
        checksum = self.published.get("split_sha256")
        return tuple(
            source.with_checksum(checksum) if checksum and source.file == self.split else source
            for source in self.sources
        )

    @property
    def checksums(self) -> dict[str, str]:
        """Checksum of each file that is used as it is, by its name."""
        plain = [source for source in self.checked_sources if not source.gives]
        return {source.file: source.checksum for source in plain if source.checksum}


def entries() -> tuple[Entry, ...]:
    return tuple(map(_entry, data_sets()))


def find(name: str, words: Iterable[str] = ()) -> Entry:
    """The entry of a stem (`dtd`) or registered name (`DescribableTextures`), in any case.

    Raises: ValueError naming the nearest of the stems and of other words that would have been understood
    """
    known = entries()
    for entry in known:
        if name.casefold() in (entry.name.casefold(), entry.registry.casefold()):
            return entry
    raise ValueError(unknown_name("data set", name, [*words, *(entry.name for entry in known)]))


@cache
def published() -> dict[str, dict]:
    """Registry name -> `split_sha256`, `classnames_sha256` and `fewshot`, CoOp's picks.

    `fewshot` maps "<shots>-<seed>" to the digests of the train and val lists; digests as `list_digest` makes
    them, of class names in label order and of paths relative to the image folder.
    """
    return json.loads(PUBLISHED.read_text(encoding="utf-8"))


def _entry(one: DataSet) -> Entry:
    facts, loader = one.facts, DATASET_REGISTRY.get(one.name)
    drawn = issubclass(loader, demo.DrawnDataset)
    in_our_layout = issubclass(loader, SplitDataset)
    counts = {part: getattr(facts, part) for part in ("classes", "train", "val", "test")}
    if drawn:
        counts = {part: len(loader.classes) * count for part, count in demo.PER_CLASS.items()}
        counts["classes"] = len(loader.classes)
    return Entry(
        name=one.stem,
        registry=one.name,
        folder=facts.folder or str(loader.dataset_dir),
        file=one.file,
        images=facts.images or ((loader.image_folder,) if in_our_layout else ()),
        **counts,
        split=facts.split or (loader.split_file if in_our_layout else ""),
        files=facts.files,
        instead_of_split=facts.instead_of_split,
        other_names=facts.other_names,
        sources=read_sources(facts),
        terms=facts.terms,
        drawn=drawn,
        has_facts=facts.path is not None,
    )
