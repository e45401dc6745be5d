"""Data sets and trainers written only against the plugin interface, as users of the family write them."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from dassl.config import get_cfg_default
from dassl.data.datasets import DATASET_REGISTRY, DatasetBase, Datum
from dassl.engine import TRAINER_REGISTRY, TrainerX
from dassl.metrics import compute_accuracy
from dassl.optim import build_lr_scheduler, build_optimizer

SIZE = 8


def draw_images(root) -> None:
    """Two classes of small images under ``root``: mostly red, mostly blue."""
    random = np.random.RandomState(0)
    for number in range(20):
        pixels = random.randint(0, 256, (SIZE, SIZE, 3))
        pixels[..., 0 if number % 2 == 0 else 2] = 255
        path = Path(root) / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(path)


class _RedBlue(DatasetBase):
    def items(self, cfg, numbers):
        return [
            Datum(f"{cfg.DATASET.ROOT}/{n:02}.png", label=n % 2, classname=("red", "blue")[n % 2])
            for n in numbers
        ]


@DATASET_REGISTRY.register()
class RedBlue(_RedBlue):
    """Its own split: 10 training, 4 validation, 6 test images; few shots by the family's sampler."""

    def __init__(self, cfg):
        train, val, test = (self.items(cfg, r) for r in (range(10), range(10, 14), range(14, 20)))
        if cfg.DATASET.NUM_SHOTS >= 1:
            train = self.generate_fewshot_dataset(train, num_shots=cfg.DATASET.NUM_SHOTS)
        super().__init__(train_x=train, val=val, test=test)


@DATASET_REGISTRY.register()
class RedBlueWithoutVal(_RedBlue):
    def __init__(self, cfg):
        super().__init__(train_x=self.items(cfg, range(10)), test=self.items(cfg, range(10, 20)))


@TRAINER_REGISTRY.register()
class Linear(TrainerX):
    """One linear layer over the pixels."""

    def build_model(self):
        self.model = nn.Linear(3 * SIZE * SIZE, self.num_classes).to(self.device)
        self.optim = build_optimizer(self.model, self.cfg.OPTIM)
        self.sched = build_lr_scheduler(self.optim, self.cfg.OPTIM)
        self.register_model("linear", self.model, self.optim, self.sched)

    def forward_backward(self, batch):
        image, label = self.parse_batch_train(batch)
        output = self.model(image.flatten(1))
        loss = F.cross_entropy(output, label)
        self.model_backward_and_update(loss)
        if self.batch_idx + 1 == self.num_batches:
            self.update_lr()
        return {"loss": loss.item(), "acc": compute_accuracy(output, label)[0].item()}

    def parse_batch_train(self, batch):
        return batch["img"].to(self.device), batch["label"].to(self.device)

    def model_inference(self, input):
        return self.model(input.flatten(1))


@TRAINER_REGISTRY.register()
class TwoLinear(Linear):
    """Two registered models, each with its own optimizer; the second one's schedule is its own too."""

    def build_model(self):
        super().build_model()
        self.second = nn.Linear(3 * SIZE * SIZE, self.num_classes).to(self.device)
        optim = build_optimizer(self.second, self.cfg.OPTIM)
        self.register_model("second", self.second, optim, build_lr_scheduler(optim, self.cfg.OPTIM))

    def forward_backward(self, batch):
        image, label = self.parse_batch_train(batch)
        losses = {}
        for name, model in self._models.items():
            loss = F.cross_entropy(model(image.flatten(1)), label)
            self.model_backward_and_update(loss, names=name)
            losses[f"loss_{name}"] = loss
        if self.batch_idx + 1 == self.num_batches:
            self.update_lr()
        return losses


@TRAINER_REGISTRY.register()
class AmpLinear(Linear):
    """Mixed precision written out in the trainer, as CoOp's is."""

    def build_model(self):
        super().build_model()
        self.scaler = torch.amp.GradScaler(self.device.type, init_scale=1024.0, growth_interval=3)

    def forward_backward(self, batch):
        image, label = self.parse_batch_train(batch)
        with torch.autocast(self.device.type, torch.bfloat16):
            loss = F.cross_entropy(self.model(image.flatten(1)), label)
        self.optim.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optim)
        self.scaler.update()
        if self.batch_idx + 1 == self.num_batches:
            self.update_lr()
        return {"loss": loss.item()}


@TRAINER_REGISTRY.register()
class Overflowing(AmpLinear):
    """Its gradients overflow in the first step of the epochs 1, 2 and 4."""

    def forward_backward(self, batch):
        overflows = self.batch_idx == 0 and self.epoch + 1 in (1, 2, 4)
        hook = self.model.weight.register_hook(lambda grad: grad * (float("inf") if overflows else 1.0))
        summary = super().forward_backward(batch)
        hook.remove()
        return summary


@TRAINER_REGISTRY.register()
class Averaging(Linear):
    """Keeps an average of its weights, which only the plugin knows of, and draws from torch's generator."""

    def build_model(self):
        super().build_model()
        self.average = self.model.weight.detach().clone()

    def forward_backward(self, batch):
        batch["img"] = batch["img"] + 0.1 * torch.randn_like(batch["img"])
        summary = super().forward_backward(batch)
        self.average = 0.9 * self.average + 0.1 * self.model.weight.detach()
        return summary

    def after_train(self):
        self.model.weight.data.copy_(self.average)
        super().after_train()

    def extra_state(self):
        return {"average": self.average}

    def load_extra_state(self, state):
        self.average = state["average"]


def make_cfg(folder, trainer="Linear", **settings):
    """A config for these plugins; settings by dotted key with ``__`` for the dot."""
    cfg = get_cfg_default()
    cfg.DATASET.ROOT = f"{folder}/data"
    cfg.DATASET.NAME = "RedBlue"
    cfg.OUTPUT_DIR = f"{folder}/run"
    cfg.SEED = 1
    cfg.VERBOSE = False
    cfg.TRAINER.NAME = trainer
    cfg.INPUT.SIZE = (SIZE, SIZE)
    cfg.INPUT.TRANSFORMS = ("random_resized_crop", "random_flip", "normalize")
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.DATALOADER.TRAIN_X.BATCH_SIZE = 4
    cfg.OPTIM.NAME = "sgd"
    cfg.OPTIM.LR = 0.002
    cfg.OPTIM.MAX_EPOCH = 3
    cfg.OPTIM.LR_SCHEDULER = "cosine"
    cfg.OPTIM.WARMUP_EPOCH = 1
    cfg.OPTIM.WARMUP_TYPE = "constant"
    cfg.OPTIM.WARMUP_CONS_LR = 1e-5
    cfg.merge_from_list([item for key, value in settings.items() for item in (key.replace("__", "."), value)])
    return cfg
