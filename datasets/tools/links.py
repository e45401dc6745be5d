"""Whether the addresses of the data sets and of OpenAI's weights still answer."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

from tabulate import tabulate

from clipfit.io.heads import HeadAnswer, ask
from clipfit.io.places import FilePlace
from clipfit.published import OPENAI_URLS, places_of
from datasets.tools.known import Entry

AT_ONCE = 8
HEADER = ("data set", "file", "status", "bytes", "address")


def report(entries: Iterable[Entry], weights: dict[str, list[FilePlace]]) -> int:
    """Print what every address answers.

    Args:    weights, file -> places
    Returns: 1 if a data set or a file of weights has a part that no address gives any more, else 0
    """
    asked = [*_of_data_sets(entries), *_of_weights(weights)]
    places = list(dict.fromkeys(place for *_, place in asked))
    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers: dict[FilePlace, HeadAnswer] = dict(zip(places, pool.map(ask, places), strict=True))
    rows = [(name, file, *_shown(answers[place]), place.address) for name, _, file, place in asked]
    rows = list(dict.fromkeys(rows))  # a bundle is a candidate of several parts
    print(tabulate(rows, HEADER, disable_numparse=True, colalign=("left", "left", "left", "right", "left")))
    parts = {(name, part) for name, part, *_ in asked if part}
    alive = {(name, part) for name, part, _, place in asked if answers[place].alive}
    for name, part in sorted(parts - alive):
        print(f"{name}: no address gives {part}")
    return 1 if parts - alive else 0


def places_of_weights() -> dict[str, list[FilePlace]]:
    """Name of a file of OpenAI's -> its places."""
    return {url.rsplit("/", 1)[1]: places_of(url) for url in OPENAI_URLS.values()}


def _of_data_sets(entries: Iterable[Entry]) -> Iterator[tuple[str, str, str, FilePlace]]:
    """(data set, part of it, file, place) of each candidate; what is optional is no part."""
    for entry in entries:
        for source in entry.sources:
            part = "" if source.optional else ", ".join(source.results)
            for candidate in source.candidates:
                yield entry.name, part, candidate.file, candidate.place


def _shown(answer: HeadAnswer) -> tuple[str, str]:
    return answer.text, f"{answer.size:,}" if answer.size else ""


def _of_weights(weights: dict[str, list[FilePlace]]) -> Iterator[tuple[str, str, str, FilePlace]]:
    for file, places in weights.items():
        for place in places:
            yield "weights", file, file, place
