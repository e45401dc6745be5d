"""The text encoder of CLIP, without the work that no result depends on.

The plain computation runs K prompts of 77 tokens through causal transformer blocks and reads one row of each,
that of the end-of-text token (EOT). Under the causal mask a row sees only itself and what is before it, so
  - nothing behind a prompt's EOT is ever read: those rows are dropped, prompt by prompt;
  - tokens that all prompts share at their start ("a photo of a") have the same hidden states in every prompt:
    they are computed once and each prompt attends to their keys and values.
What remains are the rows that differ, packed one after the other: 100 prompts "a photo of a <name>." are
5 + 400 rows instead of 7,700. Attention takes them in buckets of like length, so that one long name costs
only itself, or on a GPU few rows all at once, under a mask that hides other prompts. Features and gradients
equal the plain computation's up to rounding.

Shapes: K classes, L tokens, W transformer width, D embedding width; P shared rows, S longest rest, N packed
rows of all the rests, G groups (different shared prefixes, such as one per image; else 1).
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipfit.modules.casts import for_matmul
from clipfit.modules.low_rank import project
from clipfit.modules.transformer import KEPT, join_heads, split_heads
from clipfit.tokens import Tokens, replace_rows

BUCKET = 256  # cells of padding that cost as much as another bucket
# Up to so many rows attend all at once, by the kind of device. Scores of other prompts are computed for
# nothing: at 1,024 rows a third of a block's work (4 N W of 24 W^2 for each row, W = 512), for which a GPU is
# spared the launches of the buckets. On a CPU a launch costs nothing, those scores 0.1 to 0.4 of the time.
AT_ONCE = {"cpu": 0, "cuda": 1024}
ALIGNED = 16  # numbers: CUDA's attention copies a mask in every call unless its rows begin at multiples


class Mask:
    """Which rows attend to which, as attention adds it to its scores.

    Args: visible (L, M), True where a row may look
    """

    def __init__(self, visible: Tensor):
        self.visible = visible
        self._added: dict[torch.dtype, Tensor] = {}

    def added(self, dtype: torch.dtype) -> Tensor:
        """(L, M) of zeros, minus infinity where a row may not look; made once for a precision."""
        if dtype not in self._added:
            rows, columns = self.visible.shape
            room = math.ceil(columns / ALIGNED) * ALIGNED
            with torch.inference_mode(False):  # else no training could use it
                scores = torch.zeros(rows, room, dtype=dtype, device=self.visible.device)[:, :columns]
                self._added[dtype] = scores.masked_fill_(~self.visible, -math.inf)
        return self._added[dtype]

    def to(self, device: torch.device | str) -> Mask:
        """The same mask on `device`."""
        return Mask(self.visible.to(device))


@dataclass(frozen=True)
class Bucket:
    """Prompts of like length, whose rests are padded to the longest of them while they attend.

    Their rows follow each other among the N packed rows, from row `first`.
    """

    first: int
    count: int  # rows
    grid: tuple[int, int]  # (K, S): classes, longest rest
    cells: Tensor | None  # (count,) cells of the flattened grid that hold a row; None: all do
    mask: Mask  # (S, P + S)

    def pad(self, packed: Tensor) -> Tensor:
        """Rows (G, count, C) -> (G, K, S, C): zeros behind each EOT, where no row looks."""
        if self.cells is not None:
            cells = packed.new_zeros(packed.shape[0], self.grid[0] * self.grid[1], packed.shape[2])
            packed = cells.index_copy(1, self.cells, packed)
        return packed.unflatten(1, self.grid)

    def pack(self, padded: Tensor) -> Tensor:
        """(G, K, S, C) -> (G, count, C): leave out the cells behind each EOT."""
        cells = padded.flatten(1, 2)
        return cells if self.cells is None else cells.index_select(1, self.cells)

    def with_more_shared(self, count: int) -> Bucket:
        """The same bucket behind `count` more shared rows, which every row sees."""
        return dataclasses.replace(self, mask=Mask(F.pad(self.mask.visible, (count, 0), value=True)))

    def to(self, device: torch.device | str) -> Bucket:
        """The same bucket with its tensors on `device`."""
        cells = None if self.cells is None else self.cells.to(device)
        return dataclasses.replace(self, cells=cells, mask=self.mask.to(device))


@dataclass(frozen=True)
class Layout:
    """Where the packed rows belong. It depends on the prompts' lengths only: made once per class set.

    The rests are packed by length, whatever the order of the classes.
    """

    eot: Tensor  # (K,) position of each EOT
    longest: int  # S
    rows: Tensor  # (N,) where the rows come from, in a flattened grid (K, S) of all classes' rests
    ends: Tensor  # row of each EOT among the P + N rows: of all classes, or of those of a part, in its order
    positions: Tensor  # (P + N,) position of each row in its prompt
    buckets: tuple[Bucket, ...]
    _parts: dict = dataclasses.field(default_factory=dict, init=False, repr=False, compare=False)
    _grown: dict = dataclasses.field(default_factory=dict, init=False, repr=False, compare=False)

    @staticmethod
    def of(prefix_length: int, eot: Tensor) -> Layout:
        """Lay out prompts with `prefix_length` shared rows and their EOT at positions `eot` (K,)."""
        order = eot.argsort(stable=True)
        layout = Layout._of(prefix_length, eot, order)
        ends = torch.empty_like(layout.ends).scatter(0, order, layout.ends)
        return dataclasses.replace(layout, ends=ends)

    @staticmethod
    def _of(prefix_length: int, eot: Tensor, classes: Tensor) -> Layout:
        """Lay out the prompts of some classes, given by length."""
        rest = eot[classes] - prefix_length + 1  # rows behind the prefix, EOT included
        longest = int(eot.max()) - prefix_length + 1
        column = torch.arange(longest, device=eot.device)
        real = column < rest[:, None]
        prefix = torch.arange(prefix_length, device=eot.device)
        return Layout(
            eot=eot,
            longest=longest,
            rows=(classes[:, None] * longest + column)[real],
            ends=prefix_length - 1 + rest.cumsum(0),
            positions=torch.cat([prefix, prefix_length + column.expand_as(real)[real]]),
            buckets=tuple(_buckets(prefix_length, rest)),
        )

    def parts(self, rows: int) -> tuple[list[Layout], Tensor]:
        """Layouts of some of the classes each, of about as many and at most `rows` rows (or one class).

        Returns: them, and where each class is in their order
        """
        if rows not in self._parts:
            order = self.eot.argsort(stable=True)
            room = max(1, rows - self.shared)
            even = math.ceil(len(self.rows) / math.ceil(len(self.rows) / room))
            sizes, filled = [0], 0
            for length in (self.eot[order] - self.shared + 1).tolist():
                if filled + length > even and sizes[-1]:
                    sizes, filled = [*sizes, 0], 0
                sizes[-1], filled = sizes[-1] + 1, filled + length
            layouts = [Layout._of(self.shared, self.eot, classes) for classes in order.split(sizes)]
            self._parts[rows] = layouts, order.argsort()
        return self._parts[rows]

    def with_more_shared(self, count: int) -> Layout:
        """The same rows, among which `count` more shared ones have joined."""
        if count not in self._grown:
            new = torch.arange(count, device=self.positions.device)
            self._grown[count] = dataclasses.replace(
                self,
                eot=self.eot + count,
                ends=self.ends + count,
                positions=torch.cat([new, self.positions + count]),
                buckets=tuple(bucket.with_more_shared(count) for bucket in self.buckets),
            )
        return self._grown[count]

    def of_classes(self, start: int, stop: int) -> Layout:
        """The layout of the prompts of the classes start..stop - 1 by themselves."""
        if (start, stop) not in self._parts:
            self._parts[start, stop] = Layout.of(self.shared, self.eot[start:stop])
        return self._parts[start, stop]

    def to(self, device: torch.device | str) -> Layout:
        """The same layout with its index tensors on `device`."""
        moved = {name: getattr(self, name).to(device) for name in ("eot", "rows", "ends", "positions")}
        buckets = tuple(bucket.to(device) for bucket in self.buckets)
        return dataclasses.replace(self, **moved, buckets=buckets)

    @property
    def shared(self) -> int:
        """P, the number of shared rows."""
        return len(self.positions) - len(self.rows)

    @cached_property
    def mask(self) -> Mask | None:
        """(P + N, P + N) of all rows at once; None where buckets are better."""
        if len(self.positions) > AT_ONCE.get(self.positions.device.type, 0):
            return None
        prompt = (self.positions == self.shared).cumsum(0)  # from 1; 0 in the shared rows
        return Mask(((prompt[:, None] == prompt) | (prompt == 0)).tril())


def _buckets(prefix_length: int, rest: Tensor) -> Iterator[Bucket]:
    """Buckets for rests of these lengths, (K,) ascending, with the least to compute.

    A bucket costs its cells, and a few launches that take as long as BUCKET cells.
    """
    lengths, counts = (values.tolist() for values in rest.unique_consecutive(return_counts=True))
    # best[j]: cost of the first j lengths, and the first length of their last bucket
    best = [(0, 0)]
    for j, longest in enumerate(lengths, start=1):
        costs = [(best[i][0] + BUCKET + sum(counts[i:j]) * longest, i) for i in range(j)]
        best.append(min(costs))
    bounds = [len(lengths)]
    while bounds[-1]:
        bounds.append(best[bounds[-1]][1])
    first_class = first_row = 0
    for i, j in itertools.pairwise(reversed(bounds)):
        classes, longest = sum(counts[i:j]), lengths[j - 1]
        own = rest[first_class : first_class + classes]
        real = torch.arange(longest, device=rest.device) < own[:, None]
        cells = real.flatten().nonzero().squeeze(1) if j - i > 1 else None
        rows = classes * longest if cells is None else len(cells)
        everything = torch.ones(longest, prefix_length + longest, dtype=torch.bool, device=rest.device)
        yield Bucket(first_row, rows, (classes, longest), cells, Mask(everything.tril(prefix_length)))
        first_class, first_row = first_class + classes, first_row + rows


@dataclass(frozen=True)
class Prompts:
    """Embedded prompts of K classes, split into the rows they share and the rest.

    `prefix` (P, W): the embeddings all prompts begin with, or (G, P, W) for G beginnings of every prompt.
    `suffix` (K, S, W): what follows, padded to the longest; rows behind a prompt's EOT are never read.
    `eot` (K,): position of each EOT in the whole prompt, so P <= eot < P + S.
    `tokens`: learned ones inside the encoder, at positions 1..M behind the start token.
    No positional embedding is in them; the encoder adds it. Prefix and suffix may carry gradients.
    """

    prefix: Tensor
    suffix: Tensor
    eot: Tensor
    layout: Layout | None = dataclasses.field(default=None, repr=False)
    tokens: Tokens | None = None

    def __post_init__(self):
        shared, longest = self.prefix.shape[-2], self.suffix.shape[1]
        if not (len(self.eot) == len(self.suffix) > 0):
            raise ValueError(
                f"prompts need one EOT position per class and at least one class; got {len(self.eot)} "
                f"positions for a suffix of shape {tuple(self.suffix.shape)}"
            )
        if self.layout is None or self.layout.eot is not self.eot or self.layout.shared != shared:
            first, last = int(self.eot.min()), int(self.eot.max())
            if first < shared or last >= shared + longest:
                raise ValueError(
                    f"EOT positions {first}..{last} do not lie in the suffix, which is at positions "
                    f"{shared}..{shared + longest - 1}"
                )
            object.__setattr__(self, "layout", Layout.of(shared, self.eot))

    @classmethod
    def from_tokens(cls, tokens: Tensor, embed: Callable[[Tensor], Tensor]) -> Prompts:
        """Embed token ids (K, L), cut behind the longest prompt and split off what all prompts share.

        `embed` maps ids (..., L) to embeddings (..., L, W), such as `CLIP.embed`. The EOT has the highest id.
        A single class shares all its tokens with itself: its EOT stays in the suffix.
        """
        eot = tokens.argmax(dim=-1)
        agree = (tokens == tokens[0]).all(dim=0).long()
        shared = min(int(agree.cumprod(0).sum()), int(eot.min()))
        end = int(eot.max()) + 1
        return cls(prefix=embed(tokens[0, :shared]), suffix=embed(tokens[:, shared:end]), eot=eot)

    def with_context(self, context: Tensor, start: int = 1) -> Prompts:
        """The same prompts with shared rows start, start + 1, ... replaced by learned vectors.

        `context` is (M, W), or (G, M, W) for one context per group. Gradients flow into it.
        Raises: ValueError if the prompts do not share that many rows
        """
        self._check_fit(start, context)
        return dataclasses.replace(self, prefix=replace_rows(self.prefix, context, start))

    def with_deep_context(self, deep: Tensor) -> Prompts:
        """The same prompts, in which learned hidden states follow the context inside the encoder.

        Before block j = 1..J the shared rows 1..M are replaced by `deep[j - 1]`, of `deep` (J, M, W) with J
        less than the encoder's blocks. Gradients flow into it.
        Raises: ValueError if the prompts do not share that many rows
        """
        self._check_fit(1, deep)
        return dataclasses.replace(self, tokens=Tokens(deep, first=1, joins=False))

    def with_tokens(self, vectors: Tensor, first: int) -> Prompts:
        """The same prompts, behind whose start token M learned tokens join the sequence inside the encoder.

        Before block `first`, counted from 0, they are `vectors[0]`, of `vectors` (J, M, W), before the next
        ones `vectors[1]` and so on. What follows them moves by M; they have no positions. Gradients flow into
        the vectors.
        """
        return dataclasses.replace(self, tokens=Tokens(vectors, first))

    def _check_fit(self, start: int, context: Tensor) -> None:
        end, shared = start + context.shape[-2], self.prefix.shape[-2]
        if end > shared:
            raise ValueError(
                f"a context on rows {start}..{end - 1} does not fit: the prompts share {shared} rows"
            )

    def of_classes(self, start: int, stop: int) -> Prompts:
        """The prompts of the classes start..stop - 1."""
        layout = self.layout.of_classes(start, stop)
        return dataclasses.replace(self, suffix=self.suffix[start:stop], eot=layout.eot, layout=layout)

    def to(self, device: torch.device | str) -> Prompts:
        """The same prompts on `device`."""
        layout = self.layout.to(device)
        tokens = None if self.tokens is None else self.tokens.to(device)
        return Prompts(self.prefix.to(device), self.suffix.to(device), layout.eot, layout, tokens)


class TextEncoder(nn.Module):
    """Embedded prompts -> text features, with the modules and parameter names of OpenAI's text tower."""

    def __init__(
        self,
        transformer: nn.Module,
        positional_embedding: nn.Parameter,
        ln_final: nn.Module,
        text_projection: nn.Parameter,
    ):
        super().__init__()
        self.transformer = transformer
        self.positional_embedding = positional_embedding  # (77, W)
        self.ln_final = ln_final
        self.text_projection = text_projection  # (W, D)

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the activations: that of the projections (float16 in OpenAI's mixed layout)."""
        return self.text_projection.dtype

    @property
    def kept_per_row(self) -> int:
        """Numbers that the backward pass needs of one row, at most."""
        return KEPT * self.positional_embedding.shape[1] * len(self.transformer.resblocks)

    def forward(self, prompts: Prompts, part: Layout | None = None) -> Tensor:
        """Encode the prompts of K classes, or of those of a part (`prompts.layout.parts`), in its order.

        Returns: (K, D) features, not normalized, or (G, K, D) for a prefix of shape (G, P, W)
        Raises:  ValueError if the longest prompt exceeds the encoder's context length
        """
        layout = part or prompts.layout
        rows = self._embedded_rows(prompts, layout)
        for number, block in enumerate(self.transformer.resblocks):
            if prompts.tokens is not None:
                rows = prompts.tokens.enter(rows, number)
                if joined := prompts.tokens.joining(number):
                    layout = layout.with_more_shared(joined)
            rows = rows + causal_attention(block.attn, block.ln_1(rows), layout)
            rows = rows + block.mlp(block.ln_2(rows))
        ends = self.ln_final(rows.index_select(1, layout.ends)).type(self.dtype)  # (G, K, W)
        features = ends @ for_matmul(self.text_projection)
        return features if prompts.prefix.dim() == 3 else features[0]

    def _embedded_rows(self, prompts: Prompts, layout: Layout) -> Tensor:
        """(G, P + N, W): shared rows, then the packed rests of the classes, positions added."""
        length = layout.shared + layout.longest
        if length > len(self.positional_embedding):
            raise ValueError(
                f"the longest prompt has {length} tokens; this text encoder reads at most "
                f"{len(self.positional_embedding)}: shorten the class names, the template or the context"
            )
        prefix = prompts.prefix if prompts.prefix.dim() == 3 else prompts.prefix[None]
        rest = prompts.suffix[:, : layout.longest].flatten(0, 1).index_select(0, layout.rows)
        rows = torch.cat([prefix, rest.expand(len(prefix), -1, -1)], dim=1).type(self.dtype)
        return rows + self.positional_embedding.type(self.dtype)[layout.positions]


def causal_attention(attn: nn.MultiheadAttention, rows: Tensor, layout: Layout) -> Tensor:
    """Self-attention in which every prompt sees the shared rows and its own, up to itself.

    Args:    attn, whose packed weights are used; rows (G, P + N, W)
    Returns: (G, P + N, W), output projection applied
    """
    width = rows.shape[-1]
    packed = project(attn, rows)  # (G, P + N, 3W): query, key, value
    if layout.mask is not None:
        mask = layout.mask.added(packed.dtype)
        attended = F.scaled_dot_product_attention(*split_heads(attn, packed, 3), attn_mask=mask)
        return attn.out_proj(join_heads(attended))
    shared, rests = packed.split([layout.shared, len(layout.rows)], dim=1)
    outputs = [join_heads(F.scaled_dot_product_attention(*split_heads(attn, shared, 3), is_causal=True))]
    for bucket in layout.buckets:
        own = bucket.pad(rests[:, bucket.first : bucket.first + bucket.count])  # (G, K, S, 3W)
        (query,) = split_heads(attn, own[..., :width].flatten(0, 1), 1)
        # Each class sees the same P rows.
        shared_seen = shared[:, None, :, width:].expand(-1, bucket.grid[0], -1, -1)
        seen = torch.cat([shared_seen, own[..., width:]], dim=2)  # (G, K, P + S, 2W)
        key, value = split_heads(attn, seen.flatten(0, 1), 2)
        mask = bucket.mask.added(query.dtype)
        output = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        outputs.append(bucket.pack(join_heads(output).unflatten(0, own.shape[:2])))
    return attn.out_proj(torch.cat(outputs, dim=1))
