"""Zero-shot CLIP: a hand-written prompt per class, nothing is trained. Radford et al. 2021, section 3.1."""

from dassl.engine import TRAINER_REGISTRY

from .base import CLIPTrainer


@TRAINER_REGISTRY.register()
class ZeroshotCLIP(CLIPTrainer):
    """logits = s * cos(image features, text features of the filled template)"""

    node = "ZEROSHOT"
    spellings = ("zsclip",)
    trains = False

    def check_cfg(self, cfg):
        super().check_cfg(cfg)
        if cfg.TRAINER.UPDATE_LAYERNORM:
            raise ValueError(
                "TRAINER.UPDATE_LAYERNORM: zero-shot CLIP trains nothing; choose another --trainer"
            )

    def setup(self):
        """Nothing trains, so nothing is registered: training is skipped and tests run as they are."""
