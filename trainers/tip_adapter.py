"""Tip-Adapter and Tip-Adapter-F: ask the training images which class a test image is in.

Zhang et al., "Tip-Adapter: Training-free Adaption of CLIP for Few-shot Classification", ECCV 2022,
https://arxiv.org/abs/2207.09519. alpha and beta are named as in the authors' code (the paper swaps them).
Departures from it: alpha and beta are searched on validation images only and the last epoch counts, unless
SEARCH is `test`; classes with too few images are not filled up by repetition.
"""

import math
import time

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import LambdaLR

from dassl.data import build_data_loader
from dassl.data.datasets import build_dataset
from dassl.data.transforms import build_transform
from dassl.engine import TRAINER_REGISTRY
from dassl.optim import build_optimizer
from models.clip import normalize
from models.prompts import ENSEMBLE

from .base import CLIPTrainer, cross_entropy, validates_on_test

SEARCHED = ("no search", "val search", "test search")  # by the number in the checkpoint
ADAMW_EPS = 1e-4  # large enough for half precision
IMAGES_AT_A_TIME = 1024  # of a search


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
    also_saved = ("cache_values", "classes", "alpha", "beta", "searched")
    rate_per_step = True

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
        new_classes = cfg.RUN.EVAL_ONLY and cfg.DATASET.SUBSAMPLE_CLASSES == "new"
        if new_classes or cfg.RUN.PROTOCOL == "cross_dataset":
            raise ValueError(
                "TipAdapter's cache knows only the classes of its training images: there is no test on new "
                "classes and no cross_dataset protocol; choose few_shot, domain_shift or the base classes "
                "of base2new"
            )

    # The cache --------------------------------------------------------------------------------------

    def build_data_loader(self):
        """As the engine's, but a pass over the training images leaves none out."""
        super().build_data_loader()
        cfg, settings = self.cfg, self.cfg.DATALOADER.TRAIN_X
        self.train_loader_x = build_data_loader(
            cfg,
            settings.SAMPLER,
            self.dm.dataset.train_x,
            settings.BATCH_SIZE,
            n_ins=settings.N_INS,
            tfm=build_transform(cfg, is_train=True),
            drop_last=False,
        )

    def setup(self):
        hp = self.hp
        self.templates = self.class_templates()
        self.template = " | ".join(self.templates)
        self.w = self.ensemble_features(self.templates)  # (K, D)
        labels = torch.tensor([item.label for item in self.dm.dataset.train_x], device=self.device)
        values = F.one_hot(labels, len(self.w)).to(self.w.dtype)
        # Zeros until the cache is built or loaded: all images equally near, which is zero-shot CLIP.
        keys = self.w.new_zeros(len(labels), self.w.shape[1])
        for name, value in (("cache_values", values), ("alpha", hp.INIT_ALPHA), ("beta", hp.INIT_BETA)):
            self.model.register_buffer(name, torch.as_tensor(value, device=self.device))
        self.model.register_buffer("searched", torch.tensor(0))
        self.model.register_buffer("classes", as_bytes(self.classnames))
        self.best_correct, self.best_keys = -1, None
        self._test_images = None
        if hp.FINETUNE:
            self.model.cache_keys = nn.Parameter(keys)
        else:
            self.model.register_buffer("cache_keys", keys)
            self.also_saved = ("cache_keys", *self.also_saved)
            self.max_epoch = 0
            self.register_model(self.registered_name, self.model)

    def class_templates(self) -> list[str]:
        """The seven templates for ImageNet and its variants, else the data set's own."""
        of_imagenet = self.cfg.DATASET.NAME.startswith("ImageNet")
        return list(ENSEMBLE) if of_imagenet and not self.cfg.DATASET.PROMPT_TEMPLATE else [self.template]

    def before_train(self):
        super().before_train()
        self.model.alpha.fill_(self.hp.INIT_ALPHA)  # a finished run that goes on may have brought others
        self.model.beta.fill_(self.hp.INIT_BETA)
        self.model.searched.zero_()
        if self.start_epoch == 0:
            self.build_cache()
        if not self.hp.FINETUNE:
            self.seconds_train = time.time() - self.time_start

    @torch.no_grad()
    def build_cache(self):
        """Set the keys, in the order of the training list.

        Raises: ValueError if the sampler leaves out an image
        """
        keys, views = self.model.cache_keys, self.hp.AUGMENT_EPOCH
        print(f"Building the cache: {views} views of {len(keys):,} images")
        self.set_model_mode("eval")
        total, seen = torch.zeros_like(keys, dtype=torch.float32), keys.new_zeros(len(keys))
        self.train_loader_x.sampler.set_epoch(-1)  # views of their own: those of the epochs come later
        for _ in range(views):
            for batch in self.train_loader_x:
                rows = batch["index"].to(self.device)
                total[rows] += self.features(batch["img"].to(self.device)).float()
                seen[rows] = 1
        if not seen.all():
            raise ValueError(
                f"TipAdapter: {self.cfg.DATALOADER.TRAIN_X.SAMPLER} leaves {int((seen == 0).sum()):,} of "
                f"{len(keys):,} training images out of the cache; "
                "set DATALOADER.TRAIN_X.SAMPLER to RandomSampler"
            )
        keys.copy_(normalize(total))

    # Scores -----------------------------------------------------------------------------------------

    def features(self, images: Tensor) -> Tensor:
        """Image features (B, D), not normalized, without gradient: nothing in the encoder trains."""
        with torch.no_grad(), self.autocast():
            return self.clip.encode_image(images)

    def unit_features(self, images: Tensor) -> Tensor:
        """x (B, D) in the precision of the keys."""
        return normalize(self.features(images).to(self.w.dtype))

    def scores(self, x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
        """Logits (..., B, K) for x (B, D), alpha (...); never in the precision of autocast."""
        with torch.autocast(self.device.type, enabled=False):
            affinity = x @ self.model.cache_keys.t()  # (B, N)
            cache = (beta * (affinity - 1)).exp() @ self.model.cache_values
            return (100 * x) @ self.w.t() + alpha * cache

    def text_features(self) -> Tensor:
        return self.w

    def loss(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.scores(self.unit_features(images), self.model.alpha, self.model.beta)
        return cross_entropy(logits, labels), logits

    def model_inference(self, images: Tensor) -> Tensor:
        return self.scores(self.unit_features(images), self.model.alpha, self.model.beta)

    # Training ---------------------------------------------------------------------------------------

    def optimizer_and_schedule(self, parameters):
        """The rate falls from step to step along half a cosine, to zero after the last."""
        optim = build_optimizer(parameters, self.cfg.OPTIM)
        optim.param_groups[0]["eps"] = ADAMW_EPS
        steps = self.max_epoch * len(self.train_loader_x)
        return optim, LambdaLR(optim, lambda step: (1 + math.cos(math.pi * step / steps)) / 2)

    def after_epoch(self):
        if self.hp.SEARCH == "test":
            self.keep_the_best_keys()
        super().after_epoch()

    @torch.no_grad()
    def keep_the_best_keys(self):
        """Of all epochs, by their accuracy on the test images."""
        alpha, beta = self.model.alpha[None], self.model.beta[None]
        correct = self.correct(*self.test_images(), alpha, beta).item()
        if correct > self.best_correct:
            self.best_correct, self.best_keys = correct, self.model.cache_keys.detach().clone()

    def after_train(self):
        """Choose alpha and beta, which belong to the model that is kept and tested."""
        if self.best_keys is not None:
            self.model.cache_keys.data.copy_(self.best_keys)
        self.search()
        self.save_model(self.max_epoch - 1, self.output_dir)
        super().after_train()

    # The search -------------------------------------------------------------------------------------

    @torch.no_grad()
    def search(self):
        """Set alpha and beta to the first pair of the grid, beta slower, with the highest accuracy."""
        found = self.test_images() if self.hp.SEARCH == "test" else self.validation_images()
        if found is None:
            print(
                "No validation images that are not test images: alpha and beta stay at their initial values"
            )
            return
        betas, alphas = (
            torch.tensor([0.1 + i * (scale - 0.1) / steps for i in range(steps)], device=self.device)
            for scale, steps in zip(self.hp.SEARCH_SCALE, self.hp.SEARCH_STEP, strict=True)
        )
        correct = self.correct(*found, alphas, betas)
        best = int((correct == correct.max()).flatten().nonzero()[0])
        self.model.beta.copy_(betas[best // len(alphas)])
        self.model.alpha.copy_(alphas[best % len(alphas)])
        self.model.searched.fill_(SEARCHED.index(f"{self.hp.SEARCH} search"))
        share = 100 * correct.max().item() / len(found[1])
        print(
            f"alpha {self.model.alpha.item():.2f}, beta {self.model.beta.item():.2f}: {share:.2f}% of "
            f"{len(found[1]):,} {self.hp.SEARCH} images"
        )

    def correct(self, x: Tensor, labels: Tensor, alphas: Tensor, betas: Tensor) -> Tensor:
        """How many of the images x (B, D) each pair gets right: (betas, alphas)."""
        count = torch.zeros(len(betas), len(alphas), dtype=torch.long, device=self.device)
        alphas = alphas[:, None, None]
        for some, their_labels in zip(x.split(IMAGES_AT_A_TIME), labels.split(IMAGES_AT_A_TIME), strict=True):
            for row, beta in enumerate(betas):
                predicted = self.scores(some, alphas, beta).argmax(dim=-1)  # (alphas, B)
                count[row] += (predicted == their_labels).sum(dim=-1)
        return count

    def validation_images(self) -> tuple[Tensor, Tensor] | None:
        """x and labels of the whole validation split, not of its few shots; None where there is none."""
        cfg = self.cfg.clone()
        cfg.defrost()
        cfg.DATASET.NUM_SHOTS, cfg.DATASET.FEWSHOT_LIST = -1, ""
        dataset = build_dataset(cfg)
        if validates_on_test(dataset):
            return None
        tfm, size = build_transform(self.cfg, is_train=False), self.cfg.DATALOADER.TEST.BATCH_SIZE
        loader = build_data_loader(
            self.cfg, "SequentialSampler", dataset.val, size, tfm=tfm, is_train=False, stream="search"
        )
        return self.encode(loader)

    def test_images(self) -> tuple[Tensor, Tensor]:
        """x and labels of the test images, encoded once."""
        if self._test_images is None:
            self._test_images = self.encode(self.test_loader)
        return self._test_images

    def encode(self, loader) -> tuple[Tensor, Tensor]:
        """x (B, D) and labels (B,) of all images of a loader."""
        batches = [self.parse_batch_test(batch) for batch in loader]
        return torch.cat([self.unit_features(images) for images, _ in batches]), torch.cat(
            [labels for _, labels in batches]
        )

    # Files ------------------------------------------------------------------------------------------

    def load_model_state(self, name, state):
        """Load a cache of any number of images; the tested classes find their columns of it by name.

        Raises: ValueError naming a tested class that the cache does not know
        """
        if {"cache_keys", "cache_values", "classes"} <= state.keys():
            columns = self.columns_of(bytes(state["classes"].tolist()).decode().split("\n"))
            values = state["cache_values"][:, columns]
            state = {**state, "cache_values": values, "classes": self.model.classes}
            for key in ("cache_keys", "cache_values"):
                tensor = getattr(self.model, key)
                tensor.data = tensor.new_empty(len(state[key]), tensor.shape[1])
        super().load_model_state(name, state)

    def columns_of(self, known: list[str]) -> list[int]:
        """Where the tested classes stand among the classes of a cache."""
        if known == self.classnames:  # also if two classes share a name
            return list(range(len(known)))
        new = [name for name in self.classnames if name not in known]
        if new:
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
        searched = SEARCHED[self.model.searched.item()]
        help_used = [searched] if searched != "no search" else []
        if searched == "test search" and self.hp.FINETUNE:
            help_used.append("test epoch")
        return [*super().extras(), *help_used, *(["prompt ensemble"] if len(self.templates) > 1 else [])]


def as_bytes(names: list[str]) -> Tensor:
    """Names as a tensor, for a checkpoint: UTF-8, one a line."""
    return torch.tensor(list("\n".join(names).encode()), dtype=torch.uint8)
