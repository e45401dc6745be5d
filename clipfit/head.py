"""Trained features of classes that a model knows by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from clipfit.cache import as_bytes, as_names
from clipfit.clip import normalize


class ClassHead(nn.Module):
    """Features for classes by name: a row of `weight` for those it knows, the text tower's for all others.

    weight (C, D)   a row per known class, in single precision; its length is free
    classes         their names, so that a file knows which row is whose
    in_use          whether the rows have their first values; until then nobody asks them
    """

    def __init__(self, features: Tensor, classnames: Sequence[str]):
        super().__init__()
        self.weight = nn.Parameter(features.detach().float().clone(), requires_grad=False)
        self.register_buffer("classes", as_bytes(classnames).to(features.device))
        self.register_buffer("in_use", torch.tensor(False, device=features.device))
        self._on_host: dict[str, tuple] = {}

    @torch.no_grad()
    def start(self, features: Tensor) -> None:
        """Take features (C, D) as the first values of the rows."""
        self.weight.copy_(features)
        self.in_use.fill_(True)

    def forward(self, names: Sequence[str], text: Callable[[], Tensor]) -> Tensor:
        """Unit features (K, D) of classes.

        Args: text, gives the text tower's unit features (K, D); not asked where every class is known
        """
        rows, known = self.rows_of(names)
        if not known:
            return text()
        every = rows == list(range(len(self.weight)))  # then no index has to go to the device
        own = normalize(self.weight if every else self.weight[rows])
        if len(known) == len(names):
            return own
        features = text()
        return features.index_copy(0, torch.tensor(known, device=features.device), own.to(features.dtype))

    @property
    def is_in_use(self) -> bool:
        """`in_use`, as the host knows it."""
        return self._read("in_use", bool)

    @property
    def known_classes(self) -> list[str]:
        """`classes`, as the host knows them."""
        return self._read("classes", as_names)

    def _read(self, name: str, read: Callable[[Tensor], object]) -> object:
        """What a buffer holds, read once after each change: the host waits for the device."""
        buffer = getattr(self, name)
        now = buffer._version, buffer.data_ptr()
        if self._on_host.get(name, (None,))[0] != now:
            self._on_host[name] = now, read(buffer)
        return self._on_host[name][1]

    def rows_of(self, names: Sequence[str]) -> tuple[list[int], list[int]]:
        """Rows of the known ones among these classes, and where these stand in the list."""
        have = self.known_classes
        if have == list(names):  # also if two classes share a name
            return list(range(len(have))), list(range(len(have)))
        place = {name: row for row, name in enumerate(have)}
        known = [number for number, name in enumerate(names) if name in place]
        return [place[names[number]] for number in known], known

    def resize(self, weight: Sequence[int], classes: Sequence[int]) -> None:
        """Make room for the tensors of another head, which are undefined until they are loaded."""
        self.weight.data = self.weight.new_empty(weight)
        self.classes = self.classes.new_empty(classes)
