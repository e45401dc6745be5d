"""Image features before and after training, laid out in the plane by t-SNE."""

import random
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO

from .definition import RunFigure
from .panels import Cloud

MOST_IMAGES = 1000
MOST_CLASSES = 10  # more cannot be told apart
SEED = 0  # of the choice of images and of t-SNE


@dataclass(frozen=True, kw_only=True)
class FeatureFigure(RunFigure):
    def panels_of(self, family, runs):
        (row, run), *_ = runs.items()
        before, after, labels, classes = image_features(run.command, run.folder)
        return [
            Cloud(title, plane(features), labels, classes)
            for title, features in (("Zero-shot CLIP", before), (row, after))
        ]


def image_features(command: list[str], folder):
    """Unit features of test images by the original and by the trained model of a run.

    Nothing is written. At most MOST_IMAGES images, drawn by chance among the first MOST_CLASSES classes.

    Args:    command of the finished training run, as it is planned, and its folder
    Returns: two arrays (N, D); their N labels; names of the classes
    """
    import torch

    from clipfit.clip import normalize

    with redirect_stdout(StringIO()):
        trainer = build(command)
        items = chosen([item for item in trainer.dm.dataset.test if item.label < MOST_CLASSES])
        loader = test_loader(trainer, items)

        @torch.no_grad()
        def features():
            with trainer.autocast():
                batches = [trainer.image_features(batch["img"].to(trainer.device)) for batch in loader]
            return normalize(torch.cat(batches).float()).cpu().numpy()

        trainer.set_model_mode("eval")
        before = features()
        trainer.load_model(folder, epoch=trainer.epoch_to_load(folder))
        after = features()
    classes = trainer.dm.dataset.classnames[:MOST_CLASSES]
    return before, after, [item.label for item in items], tuple(name.replace("_", " ") for name in classes)


def build(command: list[str]):
    """The trainer of a training run as it was before the first step."""
    import datasets  # noqa: F401 - every file in these two folders registers itself
    import trainers  # noqa: F401
    from dassl.engine import build_trainer
    from launch.arguments import parse_args
    from launch.resolve import resolve, settle_input
    from launch.runtime import settle_precision

    cfg = resolve(parse_args(command[2:])).cfg  # behind "python train.py"
    settle_input(cfg)
    settle_precision(cfg)
    cfg.RUN.EVAL_ONLY = True  # nothing that only training needs
    cfg.freeze()
    return build_trainer(cfg)


def test_loader(trainer, items):
    from dassl.data.data_manager import build_data_loader
    from dassl.data.transforms import build_transform

    cfg = trainer.cfg
    return build_data_loader(
        cfg,
        data_source=items,
        batch_size=cfg.DATALOADER.TEST.BATCH_SIZE,
        tfm=build_transform(cfg, is_train=False),
        is_train=False,
        stream="figure",
    )


def chosen(items: list) -> list:
    """At most MOST_IMAGES of the items, in their order."""
    if len(items) <= MOST_IMAGES:
        return items
    return [items[index] for index in sorted(random.Random(SEED).sample(range(len(items)), MOST_IMAGES))]


def plane(features) -> list[list[float]]:
    """(N, D) -> (N, 2) by t-SNE with fixed seed."""
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(features) - 1) / 3)
    tsne = TSNE(n_components=2, perplexity=perplexity, init="pca", random_state=SEED)
    return tsne.fit_transform(features).tolist()
