"""ProLIP: train nothing but the last matrix of the image tower, on cached features of augmented views.

Fahes et al., "CLIP's Visual Embedding Projector is a Few-shot Cornucopia", https://arxiv.org/abs/2410.05270.
This is its form without validation images, whose weight LAM follows from the number of shots; the authors'
other form searches rate and weight on few-shot validation images.
Departures from their code: W and the features are in single precision under PREC fp32 and amp, with the
same epsilon of Adam, which half precision asked for; the factor s of the logits is the backbone's, 100 for
OpenAI's; views are used from the first, where the authors begin with the second; the picks of images are
CoOp's.
"""

from functools import cached_property

from torch import Tensor

from clipfit.projection import Projection
from dassl.engine import TRAINER_REGISTRY

from .base import cross_entropy
from .stages import StagedTrainer
from .tip_adapter import templates_of
from .views import ViewTrainer

FORMULAS = {"1/shots": lambda shots: 1 / shots, "1/shots^2": lambda shots: 1 / shots**2}


@TRAINER_REGISTRY.register()
class ProLIP(ViewTrainer, StagedTrainer):
    """loss = CE(s * cos(x W, t), y) + LAM * ||W - W0||^2,  a sum over all entries of W (d, D)

    x    (N, d) features of all training images before W, in each step of another view
    W0   the W of the untouched CLIP;  t  (K, D) text features, which stay as they are
    LAM  a number, 1/shots or 1/shots^2
    """

    registered_name = "prolip"
    contract = {"OPTIM.MAX_EPOCH": 30, "OPTIM.LR": 0.001, "TRAINER.PROLIP.VIEWS": 2}

    def check_cfg(self, cfg):
        super().check_cfg(cfg)
        lam = cfg.TRAINER.PROLIP.LAM
        if isinstance(lam, str) and lam not in FORMULAS:
            raise ValueError(
                f"TRAINER.PROLIP.LAM is {lam!r}; choose a number from 0, {' or '.join(FORMULAS)}"
            )
        if not isinstance(lam, str) and lam < 0:
            raise ValueError(f"TRAINER.PROLIP.LAM is {lam}; choose a number from 0")

    def setup(self):
        self.projection = Projection(self.clip)
        self.frozen_features = self.frozen_features.before(self.projection)
        self.projection.weight.requires_grad_(True)
        self.w0 = self.projection.weight.detach().float().clone()
        self.templates = templates_of(self)
        self.template = " | ".join(self.templates)
        self.t = self.ensemble_features(self.templates)  # (K, D)

    @cached_property
    def lam(self) -> float:
        """Weight of the distance to W0; shots are images per class, the mean where all are trained on."""
        lam, shots = self.hp.LAM, self.cfg.DATASET.NUM_SHOTS
        if shots < 1:
            shots = len(self.dm.dataset.train_x) / self.num_classes
        return FORMULAS[lam](shots) if isinstance(lam, str) else lam

    def stage(self, parameters, steps, **optim):
        stage = super().stage(parameters, steps, **optim)
        stage.optimizer.param_groups[0]["eps"] = self.hp.EPS
        return stage

    def encode_view(self, images: Tensor) -> Tensor:
        return self.frozen_features.unprojected(images)

    def text_features(self) -> Tensor:
        return self.t

    def loss(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and logits (N, K) of a view, whose features (N, d) stand in the place of images."""
        logits = self.clip.logits(self.projection(images), self.t)
        distance = (self.projection.weight.float() - self.w0).square().sum()
        return cross_entropy(logits, labels) + self.lam * distance, logits

    def extras(self) -> list[str]:
        return [*super().extras(), *(["prompt ensemble"] if len(self.templates) > 1 else [])]
