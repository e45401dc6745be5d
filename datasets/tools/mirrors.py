"""Copies by third parties: fetched after a notice of origin and terms, and a yes."""

import sys
from collections.abc import Callable
from functools import cached_property

from clipfit.io.places import FilePlace
from datasets.tools.known import Entry
from datasets.tools.sources import Candidate


class Consent:
    """Whether the user wants copies by third parties of one data set; asked once.

    Args: given, by the flag --mirror; ask, how to ask on a terminal: None: nobody is there
    """

    def __init__(self, entry: Entry, given: bool = False, ask: Callable[[str], str] | None = None):
        self.entry, self.given, self.ask = entry, given, ask
        self._shown: set[FilePlace] = set()

    def to(self, candidate: Candidate) -> bool:
        """Print where a copy comes from; returns whether it may be fetched."""
        if candidate.place not in self._shown:
            self._shown.add(candidate.place)
            print(f"{candidate.file} is no file of the publisher's: {candidate.mirror}")
            print(f"  {candidate.place.address}")
            print(f"  terms: {self.entry.terms or 'not known'}")
        return self._yes

    @cached_property
    def _yes(self) -> bool:
        return self.given or (
            self.ask is not None and self.ask("Fetch it? [y/N] ").strip().lower() in ("y", "yes")
        )


def terminal() -> Callable[[str], str] | None:
    """How to ask the user, if there is one."""
    return input if sys.stdin and sys.stdin.isatty() and sys.stdout.isatty() else None
