"""Zero-shot CLIP with an ensemble of hand-written prompts per class, nothing is trained.

Source of the ensemble: CoOp's ZeroshotCLIP2, https://arxiv.org/abs/2109.01134.
"""

from torch import Tensor

from clipfit.prompts import ENSEMBLE
from dassl.engine import TRAINER_REGISTRY

from .zsclip import ZeroshotCLIP


@TRAINER_REGISTRY.register()
class ZeroshotCLIP2(ZeroshotCLIP):
    """logits = s * cos(f, w),  w = n(mean_t n(w_t)) over seven templates t and the data set's own.

    ImageNet has the seven only; a DATASET.PROMPT_TEMPLATE is always one of them.
    """

    spellings = ("zsclip2",)

    def setup(self):
        own = [] if self.cfg.DATASET.NAME.partition("@")[0] == "ImageNet" else [self.template]
        own = [self.cfg.DATASET.PROMPT_TEMPLATE] if self.cfg.DATASET.PROMPT_TEMPLATE else own
        self.templates = [*ENSEMBLE, *own]
        self.template = " | ".join(self.templates)
        self.w = self.ensemble_features(self.templates)  # (K, D)

    def text_features(self) -> Tensor:
        return self.w

    def extras(self) -> list[str]:
        return [*super().extras(), "prompt ensemble"]
