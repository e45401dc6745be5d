"""Pre-train the embedded CLIP, clipfit/demo.pt, on drawn pictures and captions.

    python scripts/demo/pretrain.py --output clipfit/demo.pt

The model has OpenAI's architecture and tokenizer: 12 text and 12 image blocks of width 64, pictures of 48 x
48 pixels in patches of 12 x 12. It sees "clean" pictures of every composition in datasets/drawing/picture.py,
except the classes of the embedded data sets: to recognize those, it has to put together what it knows of the
words.
Captions use every prompt template of the data sets' facts and of clipfit/prompts.py. The loss is CLIP's; all
pictures of a class are positives of its caption.

clipfit/demo.pt was made with `--threads 1` and the other defaults (seed 1): 18 minutes on one core of a
2-core AMD EPYC machine, of which 2 are for drawing. Another number of threads, torch version or processor
rounds differently and gives another, equally good file.
"""

import argparse
import itertools
import sys
import time
import zipfile
from collections.abc import Iterator
from multiprocessing import Pool
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from clipfit.io.commands import PATH  # noqa: E402
from clipfit.modules import OpenAIModel  # noqa: E402
from clipfit.prompts import ENSEMBLE, PLAIN, tokenize  # noqa: E402
from clipfit.tokenizer import CONTEXT_LENGTH, VOCABULARY_SIZE  # noqa: E402
from datasets.demo import HELD_OUT  # noqa: E402
from datasets.drawing.picture import COLORS, PATTERNS, PLATES, SHAPES, SIZE, draw  # noqa: E402
from launch.registered import data_sets  # noqa: E402

WIDTH, LAYERS, PATCH = 64, 12, 12
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
SPECIFIC = sorted({*(t for one in data_sets() for t in one.facts.templates.values()), *ENSEMBLE})
WORDS = sorted({word.strip(",.") for t in (PLAIN, *SPECIFIC) for word in t.replace("{}", "").split()} - {""})
CROP = (0.5, 1.0)  # share of a picture's area that a random crop keeps
SCALE = (14.3, 100.0)  # logit scale at the start, and from the middle on


def class_names() -> list[str]:
    """Every composition that can be drawn, without the classes that the data sets hold out."""
    figures = {" ".join(words) for words in itertools.product(PATTERNS, COLORS, SHAPES)}
    cloths = {
        f"{one} and {two} {pattern} cloth"
        for one, two in itertools.combinations(COLORS, 2)
        for pattern in PATTERNS
        if pattern != "plain"
    }
    signs = {
        f"{color} {plate} sign with a {shape}"
        for color, plate, shape in itertools.product(COLORS, PLATES, SHAPES)
        if plate != shape
    }
    return sorted((figures | cloths | signs) - set(HELD_OUT))


def render(task: tuple[str, int, int]) -> np.ndarray:
    """Pictures of one class, uint8 (count, SIZE, SIZE, 3), for a task (name, count, seed)."""
    name, count, seed = task
    rng = np.random.default_rng(seed)
    return np.stack([np.asarray(draw(name, rng)) for _ in range(count)])


def render_all(names: list[str], count: int, seed: int, processes: int) -> np.ndarray:
    """`count` pictures of every class, uint8 (classes, count, SIZE, SIZE, 3)."""
    tasks = [(name, count, seed * 1_000_000 + label) for label, name in enumerate(names)]
    with Pool(processes) as pool:
        return np.stack(pool.map(render, tasks, chunksize=8))


def known_tokens(names: list[str]) -> Tensor:
    """Ids of all tokens of captions, ascending; the first is padding, the last the end token."""
    captions = [*(PLAIN.format(name) for name in names), *(t.format(names[0]) for t in SPECIFIC)]
    return tokenize(captions, captions).unique()


def write_captions(names: list[str], rng: np.random.Generator, context: int) -> list[str]:
    """A caption per class in a random template, the plain one being the most frequent.

    Args: context, a number of words that stand before every caption and mean nothing: this also trains the
        positions that a learned context moves class names to.
    """
    prefix = "".join(f"{word} " for word in rng.choice(WORDS, context))
    return [prefix + (PLAIN if rng.random() < 0.4 else rng.choice(SPECIFIC)).format(name) for name in names]


def augment(pictures: np.ndarray, rng: np.random.Generator) -> Tensor:
    """Random crops, half of them mirrored, normalized: uint8 (B, H, W, 3) -> float (B, 3, H, W)."""
    x = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255
    side = torch.from_numpy(np.sqrt(rng.uniform(*CROP, len(x)))).float()
    mirror = torch.from_numpy(rng.choice([-1.0, 1.0], len(x))).float()
    theta = torch.zeros(len(x), 2, 3)
    theta[:, 0, 0], theta[:, 1, 1] = side * mirror, side
    theta[:, :, 2] = torch.from_numpy(rng.uniform(-1, 1, (len(x), 2))).float() * (1 - side[:, None])
    x = F.grid_sample(x, F.affine_grid(theta, x.shape, align_corners=False), align_corners=False)
    return (x - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


def batches(names, pictures, known, args) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """What each step trains on.

    Yields: token ids (K, L) as positions in `known`, images (B, 3, H, W), the text (B,) in K of every image
    """
    rng = np.random.default_rng(args.seed)
    rows = np.repeat(np.arange(args.classes), args.per_class)
    for step in range(args.steps):
        chosen = rng.choice(len(names), args.classes, replace=False)
        context = rng.integers(1, 17) if step % 8 == 7 else 0
        captions = write_captions([names[k] for k in chosen], rng, context)
        tokens = tokenize(captions, captions)
        tokens = tokens[:, : tokens.argmax(dim=1).max() + 1]  # nothing behind the last end token is ever read
        images = augment(pictures[chosen[rows], rng.integers(pictures.shape[1], size=len(rows))], rng)
        yield torch.searchsorted(known, tokens.contiguous()), images, torch.from_numpy(rows)


def new_model(tokens: int) -> OpenAIModel:
    """Untrained CLIP with an embedding of that many tokens."""
    return OpenAIModel(
        embed_dim=WIDTH,
        image_resolution=SIZE,
        vision_layers=LAYERS,
        vision_width=WIDTH,
        vision_patch_size=PATCH,
        context_length=CONTEXT_LENGTH,
        vocab_size=tokens,
        transformer_width=WIDTH,
        transformer_heads=1,
        transformer_layers=LAYERS,
    )


def text_features(model: OpenAIModel, tokens: Tensor) -> Tensor:
    """Unit features (K, D) of token ids (K, L), L <= 77."""
    return F.normalize(model.encode_text(tokens), dim=-1)


def contrastive_loss(logits: Tensor, rows: Tensor) -> Tensor:
    """CLIP's loss where several images share a text.

    Args:    logits (B, K) of images and texts; rows (B,), the text of every image
    Returns: mean of: cross entropy of an image's text, and of a text's images, averaged over these
    """
    positive = F.one_hot(rows, logits.shape[1])
    per_text = -(logits.log_softmax(dim=0) * positive).sum(dim=0) / positive.sum(dim=0)
    return (F.cross_entropy(logits, rows) + per_text.mean()) / 2


def train(model: OpenAIModel, steps: Iterator, args) -> None:
    """AdamW, 5 % of linear warm-up, then cosine. The logit scale is not learned, it rises as SCALE says."""
    matrices = [p for n, p in model.named_parameters() if p.ndim >= 2]
    vectors = [p for n, p in model.named_parameters() if p.ndim == 1]
    groups = [{"params": matrices, "weight_decay": 0.05}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=args.lr, betas=(0.9, 0.98))
    start = time.time()
    for step, (tokens, images, rows) in enumerate(steps):
        done = step / args.steps
        for group in optimizer.param_groups:
            group["lr"] = args.lr * min(20 * (step + 1) / args.steps, (1 + np.cos(np.pi * done)) / 2)
        scale = np.exp(np.interp(done, [0, 0.5], np.log(SCALE)))
        features = F.normalize(model.encode_image(images), dim=-1)
        logits = scale * features @ text_features(model, tokens).t()
        loss = contrastive_loss(logits, rows)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_([*matrices, *vectors], 1.0)
        optimizer.step()
        if (step + 1) % 50 == 0 or step + 1 == args.steps:
            accuracy = 100 * (logits.argmax(dim=1) == rows).float().mean().item()
            report = f"step {step + 1}/{args.steps} loss {loss.item():.3f} accuracy {accuracy:.1f}"
            print(f"{report} {time.time() - start:.0f} s", flush=True)
    nn.init.constant_(model.logit_scale, np.log(SCALE[1]))


def openai_state(model: OpenAIModel, known: Tensor) -> dict[str, Tensor]:
    """The weights under OpenAI's names and shapes, in half precision.

    Rows of tokens that were never trained are zero: those in no caption, and padding, which nothing reads.
    Raises: FloatingPointError naming the first tensor that half precision cannot hold
    """
    state = {name: tensor.half() for name, tensor in model.state_dict().items()}
    rows = torch.zeros(VOCABULARY_SIZE, WIDTH, dtype=torch.half)
    rows[known[1:]] = state["token_embedding.weight"][1:]
    state["token_embedding.weight"] = rows
    for name, tensor in state.items():
        if not tensor.isfinite().all():
            raise FloatingPointError(f"{name} holds values beyond half precision; lower --lr and train again")
    return state


def save_deflated(state: dict[str, Tensor], path: Path) -> None:
    """torch.save, with the entries of the zip archive compressed; torch.load reads it like any other."""
    stored = path.with_name(f".{path.name}.tmp")
    torch.save(state, stored)
    with zipfile.ZipFile(stored) as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            target.writestr(zipfile.ZipInfo(name), source.read(name), zipfile.ZIP_DEFLATED, compresslevel=9)
    stored.unlink()


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=PATH, required=True, help="file to write")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--classes", type=int, default=128, help="captions per step")
    parser.add_argument("--per-class", type=int, default=2, help="pictures per caption and step")
    parser.add_argument(
        "--pictures", type=int, default=20, help="pictures per class that are drawn beforehand"
    )
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args(argv)
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)

    names = class_names()
    pictures = render_all(names, args.pictures, args.seed, args.threads)
    known = known_tokens(names)
    print(f"{len(names):,} classes, {pictures.shape[1]} pictures each, {len(known)} tokens", flush=True)
    model = new_model(len(known))
    train(model, batches(names, pictures, known, args), args)
    output = Path(args.output)
    save_deflated(openai_state(model, known), output)
    print(f"{output}: {output.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
