"""Messages for a name that is not there: the nearest one, and those there are."""

import difflib
from collections.abc import Iterable


def nearest(name: str, choices: Iterable[str], cutoff: float = 0.5) -> str | None:
    """The choice most like `name`, whatever the case; None if no difflib ratio exceeds `cutoff`."""
    best, best_ratio = None, cutoff
    for choice in choices:
        ratio = difflib.SequenceMatcher(None, name.casefold(), choice.casefold()).ratio()
        if ratio > best_ratio:
            best, best_ratio = choice, ratio
    return best


def unknown_name(kind: str, name: str, choices: Iterable[str]) -> str:
    """A message such as "unknown trainer 'ClipFitt'; did you mean 'CLIPFit'? (available: CLIPFit, CoOp)"."""
    choices = list(choices)
    guess = nearest(name, choices)
    hint = f"; did you mean {guess!r}?" if guess else ";"
    return f"unknown {kind} {name!r}{hint} (available: {', '.join(choices) or 'none'})"
