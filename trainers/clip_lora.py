"""CLIP-LoRA: low-rank changes of query, key and value in every block of both towers.

Zanella and Ben Ayed, "Low-Rank Few-Shot Adaptation of Vision-Language Models", CVPR Workshops 2024,
https://arxiv.org/abs/2405.18541.
Two habits of the authors' code are settings, since the printed numbers depend on them: SCALING root divides
ALPHA by the square root of RANK (`rank` divides by RANK, as LoRA is defined), and LOGIT_SCALE 100 takes the
place of the backbone's (0 leaves it its own, which is the better choice for backbones not by OpenAI).
Departures from their code: tokens that all prompts share are one row of the text tower, so one dropout mask;
a step that the gradient scaler skips counts; the picks of images are CoOp's.
"""

import math

from dassl.engine import TRAINER_REGISTRY

from .low_rank import LowRankTrainer
from .stages import StagedTrainer

SCALINGS = {"root": math.sqrt, "rank": float}


@TRAINER_REGISTRY.register()
class CLIPLoRA(LowRankTrainer, StagedTrainer):
    """loss = CE(LOGIT_SCALE * cos(v, t), y),  W x becomes W x + ALPHA / sqrt(RANK) * B (A dropout(x))

    for each W among q, k and v (MAPS); A (RANK, d) starts uniform within 1 / sqrt(d), B (d, RANK) at 0.
    Everything else is frozen. Dropout acts in training only, with a mask of its own for each W.
    """

    registered_name = "clip_lora"
    shapes_the_model = ("MAPS", "RANK", "ALPHA", "SCALING", "LOGIT_SCALE")
    names_maps = ("MAPS",)
    contract = {"OPTIM.MAX_EPOCH": 10, "OPTIM.LR": 0.002, "TRAINER.CLIPLORA.LOGIT_SCALE": 0.0}

    def check_cfg(self, cfg):
        super().check_cfg(cfg)
        hp = cfg.TRAINER.CLIPLORA
        if not hp.MAPS:
            raise ValueError("TRAINER.CLIPLORA.MAPS is empty; name maps that train, such as image.q")
        if hp.RANK < 1:
            raise ValueError(f"TRAINER.CLIPLORA.RANK is {hp.RANK}; choose at least 1")
        if not 0 <= hp.DROPOUT < 1:
            raise ValueError(f"TRAINER.CLIPLORA.DROPOUT is {hp.DROPOUT}; choose a share from 0 to below 1")
        if hp.SCALING not in SCALINGS:
            raise ValueError(f"TRAINER.CLIPLORA.SCALING is {hp.SCALING!r}; choose {' or '.join(SCALINGS)}")
        self.check_logit_scale(cfg)

    def setup(self):
        scale = self.hp.ALPHA / SCALINGS[self.hp.SCALING](self.hp.RANK)
        self.add_low_rank(self.hp.MAPS, self.hp.RANK, scale, self.hp.DROPOUT)
        self.set_logit_scale(self.hp.LOGIT_SCALE)
