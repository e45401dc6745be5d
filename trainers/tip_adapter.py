"""Tip-Adapter and Tip-Adapter-F: ask the training images which class a test image is in.

Zhang et al., "Tip-Adapter: Training-free Adaption of CLIP for Few-shot Classification", ECCV 2022,
https://arxiv.org/abs/2207.09519. alpha and beta are named as in the authors' code (the paper swaps them).
Departures from it: alpha and beta are searched on validation images only and the last epoch counts, unless
SEARCH is `test`; classes with too few images are not filled up by repetition.
"""

import functools
import math
import time

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from clipfit.cache import KeyValueCache, as_names
from clipfit.clip import normalize
from clipfit.prompts import ENSEMBLE
from dassl.engine import TRAINER_REGISTRY
from dassl.optim import build_optimizer

from .base import CLIPTrainer, cross_entropy
from .tip_adapter_search import best_pair, count_correct, validation_split
from .views import Views

SEARCHED = ("no search", "val search", "test search")  # by the number in the checkpoint
ADAMW_EPS = 1e-4  # large enough for half precision


def templates_of(trainer: CLIPTrainer) -> list[str]:
    """The release's prompts: seven on ImageNet and its variants, else the data set's own."""
    cfg = trainer.cfg.DATASET
    ensemble = cfg.NAME.startswith("ImageNet") and not cfg.PROMPT_TEMPLATE
    return list(ENSEMBLE) if ensemble else [trainer.template]


@TRAINER_REGISTRY.register()
class TipAdapter(CLIPTrainer):
    """logits = 100 x w^T + alpha * exp(-beta (1 - x keys^T)) values,  x = unit image features (B, D)

    keys (N, D)     one per training image: its features, mean of AUGMENT_EPOCH augmented views, normalized
    values (N, K)   its label, one-hot
    FINETUNE        True (Tip-Adapter-F): the keys train by CE(logits, y) with INIT_ALPHA and INIT_BETA
    SEARCH          val: alpha and beta with the highest accuracy on all validation images, if the data set
                    has its own; test: on the test images, from which the best epoch is taken too (an oracle)
    """

    registered_name = "tip_adapter"
    rate_per_step = True
    keeps_last_batch = True
    shapes_the_model = ("FINETUNE",)
    new_classes = False
    contract = {
        "OPTIM.MAX_EPOCH": 8,
        "OPTIM.LR": 0.003,
        "TRAINER.TIPADAPTER.AUGMENT_EPOCH": 2,
        "TRAINER.TIPADAPTER.SEARCH_STEP": [20, 5],
    }

    def check_cfg(self, cfg):
        super().check_cfg(cfg)
        hp = cfg.TRAINER.TIPADAPTER
        if hp.SEARCH not in ("val", "test"):
            raise ValueError(f"TRAINER.TIPADAPTER.SEARCH is {hp.SEARCH!r}; choose val or test")
        if hp.AUGMENT_EPOCH < 1:
            raise ValueError(f"TRAINER.TIPADAPTER.AUGMENT_EPOCH is {hp.AUGMENT_EPOCH}; choose at least 1")
        if cfg.TRAINER.UPDATE_LAYERNORM:
            raise ValueError(
                "TRAINER.UPDATE_LAYERNORM: the cache of TipAdapter holds features of the frozen image "
                "encoder, which would no longer be those of the images; choose another --trainer"
            )
        if cfg.TEST.FINAL_MODEL == "best_val":
            raise ValueError(
                "TEST.FINAL_MODEL best_val: TipAdapter uses the validation images to choose alpha and beta "
                "after the last epoch; choose last_step"
            )

    def setup(self):
        self.templates = templates_of(self)
        self.template = " | ".join(self.templates)
        self.w = self.ensemble_features(self.templates)  # (K, D)
        labels = torch.tensor([item.label for item in self.dm.dataset.train_x])
        # Zeros until the cache is built or loaded: all images equally near, which is zero-shot CLIP.
        keys = self.w.new_zeros(len(labels), self.w.shape[1])
        self.cache = KeyValueCache(keys, labels, self.classnames, trainable=self.hp.FINETUNE)
        for name in ("alpha", "beta", "searched"):
            self.cache.register_buffer(name, torch.tensor(0.0, device=self.device))
        self.choose(self.hp.INIT_ALPHA, self.hp.INIT_BETA, "no search")
        self.model.cache = self.cache
        self.best_correct, self.best_keys = -1, None  # of the epochs so far, on the test images
        if not self.hp.FINETUNE:
            self.max_epoch = 0

    def choose(self, alpha: float | Tensor, beta: float | Tensor, how: str) -> None:
        """Set alpha and beta, and how they were found, which a checkpoint holds too."""
        self.cache.alpha.fill_(alpha)
        self.cache.beta.fill_(beta)
        self.cache.searched.fill_(SEARCHED.index(how))

    # Scores -----------------------------------------------------------------------------------------

    def scores(self, x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
        """Logits (..., B, K) for x (B, D), alpha (...); never in the precision of autocast."""
        with torch.autocast(self.device.type, enabled=False):
            return (100 * x) @ self.w.t() + alpha * self.cache(x, beta)

    def image_features(self, images: Tensor) -> Tensor:
        """Image features (B, D) in the precision of the keys; without gradient, as nothing there trains."""
        with torch.no_grad(), self.autocast():
            return super().image_features(images).to(self.w.dtype)

    def text_features(self) -> Tensor:
        return self.w

    def model_inference(self, images: Tensor) -> Tensor:
        return self.scores(normalize(self.image_features(images)), self.cache.alpha, self.cache.beta)

    def loss(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.model_inference(images)
        return cross_entropy(logits, labels), logits

    # The cache --------------------------------------------------------------------------------------

    def before_train(self):
        super().before_train()
        # Anew: a finished run that goes on for more epochs has been searched already.
        self.choose(self.hp.INIT_ALPHA, self.hp.INIT_BETA, "no search")
        begun = time.monotonic()
        if not self.resumed:
            self.build_cache()
        if not self.hp.FINETUNE:
            self.seconds_train = time.monotonic() - begun

    @torch.no_grad()
    def build_cache(self):
        """Set the keys, in the order of the training list."""
        items, views = self.dm.dataset.train_x, self.hp.AUGMENT_EPOCH  # views that no epoch has
        print(f"Building the cache: {views} views of {len(items):,} images")
        each = (view["img"].float() for view in Views(self, views, self.image_features))
        self.cache.keys.copy_(normalize(sum(each)))

    @torch.no_grad()
    def encode(self, loader) -> tuple[Tensor, Tensor]:
        """Features (N, D), not normalized, and labels (N,) of all images of a loader."""
        batches = (self.parse_batch_test(batch) for batch in loader)
        features, labels = zip(*((self.image_features(x), labels) for x, labels in batches), strict=True)
        return torch.cat(features), torch.cat(labels)

    # Training ---------------------------------------------------------------------------------------

    def optimizer_and_schedule(self, parameters):
        """The rate falls from step to step along half a cosine, to zero after the last."""
        optim = build_optimizer(parameters, self.cfg.OPTIM)
        optim.param_groups[0]["eps"] = ADAMW_EPS
        steps = self.budget_steps or self.max_epoch * len(self.train_loader_x)
        return optim, LambdaLR(optim, lambda step: (1 + math.cos(math.pi * step / steps)) / 2)

    @torch.no_grad()
    def after_epoch(self):
        if self.hp.SEARCH == "test":
            now = self.cache.alpha[None], self.cache.beta[None]
            correct = count_correct(self.scores, *self.test_images, *now).item()
            if correct > self.best_correct:
                self.best_correct, self.best_keys = correct, self.cache.keys.detach().clone()
        super().after_epoch()

    @torch.no_grad()
    def after_train(self):
        """Choose alpha and beta, which belong to the model that is kept and tested."""
        if self.best_keys is not None:
            self.cache.keys.copy_(self.best_keys)
        self.search()
        self.save_model(self.max_epoch - 1, self.output_dir)
        super().after_train()

    # The search -------------------------------------------------------------------------------------

    @torch.no_grad()
    def search(self):
        """Set alpha and beta to the first pair of the grid with the highest accuracy."""
        where = self.hp.SEARCH
        images = self.test_images if where == "test" else self.validation_images()
        if images is None:
            print("No validation images but the test images: alpha and beta stay at their initial values")
            return
        alpha, beta, correct = best_pair(self.scores, *images, self.hp.SEARCH_SCALE, self.hp.SEARCH_STEP)
        self.choose(alpha, beta, f"{where} search")
        count = len(images[1])
        print(f"alpha {alpha:.2f}, beta {beta:.2f}: {100 * correct / count:.2f}% of {count:,} {where} images")

    def validation_images(self) -> tuple[Tensor, Tensor] | None:
        """Features and labels of the whole validation split; None without one."""
        items = validation_split(self.cfg)
        return None if items is None else self.encode(self.loader("search", items))

    @functools.cached_property
    def test_images(self) -> tuple[Tensor, Tensor]:
        """Features and labels of the test images."""
        return self.encode(self.test_loader)

    # Files ------------------------------------------------------------------------------------------

    @property
    def also_saved(self) -> tuple[str, ...]:
        return tuple(f"cache.{name}" for name, _ in self.cache.named_buffers())

    def load_model_state(self, name, state):
        """Load a cache of any number of images; the tested classes find their columns of it by name.

        Raises: ValueError naming a tested class that the cache does not know
        """
        if {"cache.keys", "cache.values", "cache.classes"} <= state.keys():
            columns = self.columns_of(as_names(state["cache.classes"]))
            state = {**state, "cache.values": state["cache.values"][:, columns]}
            state["cache.classes"] = self.cache.classes
            self.cache.resize(len(state["cache.keys"]))
        super().load_model_state(name, state)

    def columns_of(self, known: list[str]) -> list[int]:
        """Where the tested classes stand among the classes of a cache."""
        if known == self.classnames:  # also if two classes share a name
            return list(range(len(known)))
        if new := [name for name in self.classnames if name not in known]:
            raise ValueError(
                f"TipAdapter's cache knows only the classes of its training images, and {len(new)} of the "
                f"{len(self.classnames)} classes of {self.cfg.DATASET.NAME} are not among them, such as "
                f"{new[0]!r}; test it on the classes it was trained on, or choose another --trainer"
            )
        return [known.index(name) for name in self.classnames]

    def extra_state(self):
        return {"best_correct": self.best_correct, "best_keys": self.best_keys}

    def load_extra_state(self, state):
        self.best_correct, self.best_keys = state["best_correct"], state["best_keys"]

    def extras(self) -> list[str]:
        searched = SEARCHED[int(self.cache.searched)]
        helped = {
            searched: searched != "no search",
            "test epoch": searched == "test search" and self.hp.FINETUNE,
            "prompt ensemble": len(self.templates) > 1,
        }
        return [*super().extras(), *(name for name, true in helped.items() if true)]
