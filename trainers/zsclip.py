"""Zero-shot CLIP: hand-written prompts, nothing is trained. Radford et al. 2021, section 3.1.

Source of the prompt ensemble: CoOp's ZeroshotCLIP2, https://arxiv.org/abs/2109.01134.
"""

from torch import Tensor

from clipfit.prompts import ENSEMBLE
from dassl.engine import TRAINER_REGISTRY

from .base import CLIPTrainer


@TRAINER_REGISTRY.register()
class ZeroshotCLIP(CLIPTrainer):
    """logits = s * cos(image features, text features of the filled template)"""

    node = "ZEROSHOT"

    def check_cfg(self, cfg):
        super().check_cfg(cfg)
        if cfg.TRAINER.UPDATE_LAYERNORM:
            raise ValueError(
                "TRAINER.UPDATE_LAYERNORM: zero-shot CLIP trains nothing; choose another --trainer"
            )

    def setup(self):
        """Nothing trains, so nothing is registered: training is skipped and tests run as they are."""


@TRAINER_REGISTRY.register()
class ZeroshotCLIP2(ZeroshotCLIP):
    """The same with w = n(mean_t n(w_t)), over seven templates t and the data set's own.

    ImageNet has the seven only; a DATASET.PROMPT_TEMPLATE is always one of them.
    """

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
