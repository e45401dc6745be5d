"""What the paper's tables cost, by counting over reproduce.py's plan: with the feature store and without.

    python -m benchmarks.paper_cost
    python -m benchmarks.paper_cost table1 table10 --tflops 400

Nothing is run and no picture is read; the numbers of pictures and classes are those of datasets/*.yaml, and a
class always has as many images as shots. ViT-B/16: 35.1 GFLOP an image. A step through frozen weights costs
another pass backward, to what trains. Of a prompt the tokens count that classes do not share (--tokens: those
of the name, the period, the end): the others, a learned context among them, are computed once for all.

An image pass is saved where a run before it has encoded the same piece of 32 images: of a test of the same
list, or of the same views, which depend on data set, classes, shots, seed and epoch. Hours are at --tflops
(10^12 operations a second), as somebody has measured them on the card in question.
"""

import argparse
import math
from dataclasses import dataclass, field

import reproduce
from clipfit.frozen_features import PIECE
from dassl.config.facts import Facts
from grid.plan import Planned
from launch.registered import data_sets

TEXT_WIDTH, IMAGE_WIDTH, LAYERS, ROWS, PATCH = 512, 768, 12, 197, 16


def main() -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(description="Operations behind the paper's tables.")
    parser.add_argument("what", nargs="*", help="tables and figures; default: all tables")
    parser.add_argument("--tokens", type=int, default=6, help="of a class in its prompt (default 6)")
    parser.add_argument("--tflops", type=float, default=0.0, help="measured rate, for hours")
    args = parser.parse_args()
    asked = reproduce.parse_args(["plan", *args.what])
    what, selection = reproduce.select(asked)
    what = what if args.what else [one for one in what if not one.id.startswith("figure")]
    planned = reproduce.runs_of(what, asked, selection)
    facts = {one.stem: one.facts for one in data_sets()}

    print(f"{'':14}{'runs':>7}{'images, million':>24}{'EFLOP':>18}{'hours':>16}{'saved':>8}")
    print(f"{'':21}{'without':>12}{'with':>12}{'without':>10}{'with':>8}{'without':>9}{'with':>7}")
    for one in what:
        runs = [planned[spec] for spec, _ in one.specs(selection)]
        runs = list(dict.fromkeys(one for run in runs for one in (run.needs, run) if one))
        print(line(one.id, cost_of(runs, facts, args.tokens), len(runs), args.tflops))
    runs = reproduce.distinct(planned)
    print(line("all", cost_of(runs, facts, args.tokens), len(runs), args.tflops))


@dataclass
class Cost:
    """Image passes and operations, of which the ones in `seen` are done once with the store."""

    images: float = 0.0
    stored: float = 0.0  # image passes that are left with the store
    flop: float = 0.0  # of everything but passes through frozen image towers
    frozen: float = 0.0  # image passes through frozen towers
    seen: dict[tuple, float] = field(default_factory=dict)  # what is encoded -> image passes

    def add(self, key: tuple | None, images: float, flop_each: float = 0.0) -> None:
        """Passes through the image tower: of a frozen one by what is encoded, else with their cost."""
        self.images += images
        if key is None:
            self.stored += images
            self.flop += images * flop_each
        else:
            self.frozen += images
            known = self.seen.get(key, 0.0)
            self.stored += max(0.0, images - known)
            self.seen[key] = max(known, images)

    @property
    def without(self) -> float:
        return self.flop + self.frozen * image_flop()

    @property
    def with_store(self) -> float:
        return self.flop + (self.frozen - self.images + self.stored) * image_flop()


def cost_of(runs: list[Planned], facts: dict, tokens: int) -> Cost:
    cost = Cost()
    for run in runs:
        add_run(cost, run, facts[run.spec.dataset], tokens)
    return cost


def add_run(cost: Cost, run: Planned, facts: Facts, tokens: int) -> None:
    """Training, if the run trains, and the test behind it."""
    cfg, spec = run.family, run.spec
    part, classes = cfg.DATASET.SUBSAMPLE_CLASSES, facts.classes
    taken = {"all": classes, "base": math.ceil(classes / 2), "new": classes // 2}[part]
    conditional, trained = spec.trainer == "CoCoOp", not trains_nothing(spec.trainer)
    prompt = text_flop(tokens)
    is_frozen = not trains_images(cfg, spec.trainer)
    data = spec.dataset, part, run.backbone

    if trained and not spec.eval_only:
        batch, epochs = cfg.DATALOADER.TRAIN_X.BATCH_SIZE, cfg.OPTIM.MAX_EPOCH
        images = taken * spec.shots
        steps = max(1, images // batch) * epochs
        passes = steps * min(batch, images)
        pieces = 0 if batch % PIECE == 0 else batch  # batches that begin at other images share none
        views = *data, spec.shots, spec.seed, pieces, *sorted(cfg.INPUT.TRANSFORMS), *cfg.INPUT.RRCROP_SCALE
        cost.add(("views", *views) if is_frozen else None, passes, 2 * image_flop())
        if spec.trainer == "TipAdapter":
            cost.add(("cache", *views), images * cfg.TRAINER.TIPADAPTER.AUGMENT_EPOCH)
            cost.add(("val", *data), facts.val or 0)
        if spec.trainer not in ("TipAdapter", "CLIPAdapter"):
            prompts = passes * taken if conditional else steps * taken
            cost.flop += 2 * prompts * prompt * (2 if spec.trainer == "ProGrad" else 1)

    tested = facts.test * taken / classes
    cost.add(("test", *data) if is_frozen else None, tested, image_flop())
    cost.flop += (tested * taken if conditional else taken) * prompt


def trains_nothing(trainer: str) -> bool:
    return trainer.startswith("ZeroshotCLIP")


def trains_images(cfg, trainer: str) -> bool:
    """Whether the image tower is another one than the backbone's."""
    groups = cfg.TRAINER.CLIPFIT.UNFREEZE if trainer == "CLIPFit" else []
    return trainer == "MaPLe" or cfg.TRAINER.UPDATE_LAYERNORM or any("image." in name for name in groups)


def image_flop() -> float:
    """Operations of one image through ViT-B/16."""
    patches = (ROWS - 1) * IMAGE_WIDTH * 3 * PATCH**2
    return 2 * (patches + LAYERS * _block(ROWS, IMAGE_WIDTH))


def text_flop(tokens: int) -> float:
    """Operations of one prompt."""
    return 2 * LAYERS * _block(tokens, TEXT_WIDTH)


def _block(rows: int, width: int) -> int:
    """Multiplications of one transformer block: four projections, the MLP, attention."""
    return 12 * rows * width**2 + 2 * rows**2 * width


def line(name: str, cost: Cost, runs: int, tflops: float) -> str:
    without, with_store = cost.without, cost.with_store
    hours = [f"{flop / tflops / 1e12 / 3600:.1f}" if tflops else "-" for flop in (without, with_store)]
    return (
        f"{name:14}{runs:7,}{cost.images / 1e6:12.1f}{cost.stored / 1e6:12.1f}{without / 1e18:10.2f}"
        f"{with_store / 1e18:8.2f}{hours[0]:>9}{hours[1]:>7}{1 - with_store / without:8.0%}"
    )


if __name__ == "__main__":
    main()
