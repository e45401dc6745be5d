"""One input: drawn by kind and number, read, judged. Many: counted."""

import contextlib
import io
import random
import signal
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from launch.bare_errors import is_bare, message_of
from tests.fuzz.kinds import KINDS, Kind

REFUSED, ACCEPTED = "refused with words", "rightly accepted"
BARE, HUNG, WRONG = "bare", "hung", "wrongly accepted"
OUTCOMES = (REFUSED, ACCEPTED, BARE, HUNG, WRONG)
FAULTS = (BARE, HUNG, WRONG)
PATIENCE = 20  # seconds: a bound for what never ends
IN_WORDS = (
    ValueError,
    KeyError,
    OSError,
    MemoryError,
)  # other errors are none that a reader raises on purpose


class Hung(BaseException):
    """Reading took longer than PATIENCE; no reader may catch this."""


class Outcome(NamedTuple):
    kind: str
    number: int
    what: str
    detail: str  # the message, or what was read

    def __str__(self) -> str:
        again = f"python -m tests.fuzz --kind '{self.kind}' --number {self.number}"
        return f"{self.what}: {self.detail[:500]!a}\n  {again}"


def content(name: str, number: int) -> tuple[bytes, bytes]:
    """A good file, and what becomes of it: the same for every kind and number, everywhere."""
    kind, rng = KINDS[name], random.Random(f"{name} {number}")
    good = kind.make(rng)
    return good, rng.choice(kind.mutations)(rng, good)


def outcome(name: str, number: int) -> Outcome:
    """Read an input as the program does, and judge."""
    kind = KINDS[name]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()), _quiet():
        good, mutated = content(name, number)
        try:
            found = _read(kind, mutated)
        except Hung:
            return Outcome(name, number, HUNG, f"longer than {PATIENCE} s")
        except Exception as error:
            what = REFUSED if in_words(error, Path(kind.file).name) else BARE
            return Outcome(name, number, what, f"{type(error).__name__}: {message_of(error)}")
        try:
            right = kind.right(mutated, found, _read(kind, good))
        except Exception as error:  # the other reader finds nothing that could be accepted
            right, found = False, f"{found!r:.300}, where another reader finds {error!r:.200}"
    return Outcome(name, number, ACCEPTED if right else WRONG, repr(found))


def in_words(error: Exception, file: str) -> bool:
    """Whether an error says what is wrong with the file of this name, in text that a terminal can show."""
    message = message_of(error)
    shown = all(one.isprintable() or one == "\n" for one in message)
    return isinstance(error, IN_WORDS) and not is_bare(error) and file in message and shown


def counts(names: Iterable[str], tenth: bool | None = None) -> tuple[dict[str, Counter], list[Outcome]]:
    """Kind -> how many inputs had which outcome; the outcomes that must not be.

    Args: tenth, whether only every tenth input, or only the others; None: all
    """
    table, faults = {}, []
    for name in names:
        numbers = [n for n in range(KINDS[name].inputs) if tenth is None or (n % 10 == 0) == tenth]
        outcomes = [outcome(name, number) for number in numbers]
        table[name] = Counter(one.what for one in outcomes)
        faults += [one for one in outcomes if one.what in FAULTS]
    return table, faults


def shown(table: dict[str, Counter]) -> str:
    """The table of counts as text, with their sum."""
    rows = {**table, "all": sum(table.values(), Counter())}
    width = max(map(len, rows))
    lines = [f"{'':{width}}  {'inputs':>6}  " + "  ".join(OUTCOMES)]
    for name, row in rows.items():
        cells = "  ".join(f"{row[what]:>{len(what)}}" for what in OUTCOMES)
        lines.append(f"{name:{width}}  {row.total():>6}  {cells}")
    return "\n".join(lines)


def _read(kind: Kind, content: bytes):
    """What the program's reader makes of a file, in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        path = Path(folder, kind.file)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        with _alarm():
            return kind.read(path)


@contextlib.contextmanager
def _alarm():
    def ring(*_):
        raise Hung

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, PATIENCE)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def _quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
