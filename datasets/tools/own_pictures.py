"""What the doctor says about own pictures (`python -m datasets.doctor --images PATH`)."""

import os
from collections import Counter
from collections.abc import Iterator

from clipfit.io.pictures import image_size
from dassl.data.datasets.same_images import warnings_of_names
from datasets.pictures.found import PARTS, some
from datasets.pictures.taken import Taken, take
from datasets.tools.findings import NOTE, OK, WRONG, Finding

FEW = 5  # pictures of a class; with fewer its accuracy says little
UNBALANCED = 10  # times as many pictures in the largest class as in the smallest
SMALL = 64  # pixels; CLIP looks at 224 and more


def examine_pictures(path: str, test_share: float) -> Iterator[Finding]:
    """Raises: as datasets.pictures.taken.take"""
    taken = take(path, test_share)
    yield Finding(OK, "form", taken.found.form)
    yield from _left_out(taken)
    yield from _parts(taken)
    yield from _copies(taken)
    yield from _classes(taken)
    yield from _names(taken)
    yield _sizes(taken)


def _left_out(taken: Taken) -> Iterator[Finding]:
    shown = taken.found.shown
    for why, paths in taken.found.left_out.items():
        if paths:
            yield Finding(NOTE, "left out", f"{why} ({len(paths):,}): {some(map(shown, paths))}")
    faults = [row.note.partition(": ")[2] for row in taken.rows if row.note.startswith("unreadable")]
    if faults:
        text = f"pictures that cannot be read ({len(faults):,}): {some(faults)}"
        yield Finding(WRONG, "unreadable", text, "save them anew or remove them; runs leave them out")
    else:
        yield Finding(OK, "readable", f"all {len(taken.rows):,} pictures")


def _parts(taken: Taken) -> Iterator[Finding]:
    sizes = {part: len(taken.part(part)) for part in PARTS}
    yield Finding(OK, "parts", ", ".join(f"{part} {count:,}" for part, count in sizes.items()))
    if not sizes["test"]:
        advice = "give a --test-share (as train.py takes it), or a folder test/"
        yield Finding(NOTE, "parts", "nothing to test on: a run would report no accuracy", advice)


def _copies(taken: Taken) -> Iterator[Finding]:
    shown = taken.found.shown
    between = [row for row in taken.rows if row.note.startswith("copies")]
    if between:
        names = (f"{shown(row.picture.path)} of {row.note.partition(': ')[2]}" for row in between)
        text = f"copies of pictures in another part ({len(between):,}): {some(names)}"
        yield Finding(NOTE, "copies", text, "runs leave them out; in your own evaluation they would help")
    if taken.unequal:
        text = f"equal pictures in different classes: {some(taken.unequal)}"
        yield Finding(WRONG, "copies", text, "keep each in the class where it belongs")
    within = [names for names in taken.copies if len(names) > 1]
    if within:
        extra = sum(map(len, within)) - len(within)
        text = f"copies of other pictures ({extra:,}): {some(' = '.join(names) for names in within)}"
        yield Finding(NOTE, "copies", text, "they count as often as they are there; remove what is too much")
    if not taken.copies:
        yield Finding(OK, "copies", "none")


def _classes(taken: Taken) -> Iterator[Finding]:
    names = taken.classes()
    counts = Counter(names[row.picture.label] for row in taken.rows if row.part)
    yield Finding(
        OK, "classes", f"{len(names):,} with {min(counts.values()):,} to {max(counts.values()):,} pictures"
    )
    tiny = [f"{name} ({count})" for name, count in counts.items() if count < FEW]
    if tiny:
        text = f"classes with fewer than {FEW} pictures ({len(tiny):,}): {some(tiny)}"
        yield Finding(NOTE, "classes", text, "they train; their accuracy in a test says little or nothing")
    (most, largest), (least, smallest) = counts.most_common()[0], counts.most_common()[-1]
    if largest >= UNBALANCED * smallest:
        text = f"{most} has {largest:,} pictures, {least} {smallest:,}"
        yield Finding(
            NOTE, "unbalanced", text, "--shots N takes at most N of each; macro_f1 counts classes alike"
        )
    if taken.part("test") and (untested := taken.not_tested()):
        yield Finding(NOTE, "classes", f"not tested: {some(untested)}")


def _names(taken: Taken) -> Iterator[Finding]:
    problems = list(warnings_of_names(dict(enumerate(taken.classes().values()))))
    for text in problems:
        advice = "give them other names: rename the folders, or write a classes.csv (folder,name)"
        yield Finding(WRONG, "names", text, advice)
    if not problems:
        yield Finding(OK, "names", f"one prompt each, such as {some(taken.classes().values())}")


def _sizes(taken: Taken) -> Finding:
    sizes = {row.picture.path: image_size(row.picture.path, upright=True) for row in taken.rows if row.part}
    edges = {path: min(size) for path, size in sizes.items()}
    small, large = (pick(edges, key=edges.get) for pick in (min, max))
    text = " to ".join("x".join(map(str, sizes[path])) for path in (small, large))
    tiny = [path for path, edge in edges.items() if edge < SMALL]
    if not tiny:
        return Finding(OK, "sizes", text)
    names = some(os.path.basename(path) for path in tiny)
    return Finding(NOTE, "sizes", f"{text}; with an edge below {SMALL} pixels ({len(tiny):,}): {names}")
