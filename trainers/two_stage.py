"""2SFS: first train LayerNorms (or another small part) of both towers, then a classifier on what they became.

Farina et al., "Rethinking Few-Shot Adaptation of Vision-Language Models in Two Stages", CVPR 2025,
https://arxiv.org/abs/2503.11609.
UNFREEZE holds what the first stage trains in the authors' code, which leaves out the LayerNorms before and
behind the blocks (61,440 values on ViT-B/16). The paper counts them in (65,536): text.layernorm and
image.layernorm are the better choice. SHARE 1 gives its one-stage cases: LayerNorm-only, or with
text.module_bias and image.module_bias BitFit (124,928 values), whose code leaves out the bias of attention's
packed projection; text.bias and image.bias hold it.
Departure from their code: a step that the gradient scaler skips counts, and the picks of images are CoOp's.
"""

import torch
from torch import nn

from dassl.engine import TRAINER_REGISTRY
from dassl.engine.stages import TrainingStage

from .heads import HeadTrainer
from .low_rank import LowRankTrainer
from .stages import StagedTrainer


@TRAINER_REGISTRY.register()
class TwoStage(LowRankTrainer, HeadTrainer, StagedTrainer):
    """loss = CE(s * cos(v, t), y) for SHARE of the steps, then CE(s * cos(v, w), y)

    stage 1   trains UNFREEZE, and low-rank changes of the maps in LOW_RANK; t are text features
    stage 2   trains w alone, a row per class, which starts from t as stage 1 has left them
    test      a class that was trained on has its row of w, any other its text feature t
    Optimizer and schedule begin anew with stage 2.
    """

    registered_name = "two_stage"
    shapes_the_model = ("UNFREEZE", "SHARE", "LOW_RANK", "RANK", "ALPHA")
    names_groups = ("UNFREEZE",)
    names_maps = ("LOW_RANK",)
    contract = {"OPTIM.MAX_EPOCH": 10, "OPTIM.LR": 0.002}

    def check_cfg(self, cfg):
        super().check_cfg(cfg)
        hp = cfg.TRAINER.TWOSTAGE
        if not hp.UNFREEZE and not hp.LOW_RANK:
            raise ValueError("TRAINER.TWOSTAGE: UNFREEZE and LOW_RANK are empty; name what stage 1 trains")
        if not 0 <= hp.SHARE <= 1:
            raise ValueError(f"TRAINER.TWOSTAGE.SHARE is {hp.SHARE}; choose a share of the steps from 0 to 1")
        if hp.RANK < 1:
            raise ValueError(f"TRAINER.TWOSTAGE.RANK is {hp.RANK}; choose at least 1")
        if not 0 <= hp.DROPOUT < 1:
            raise ValueError(f"TRAINER.TWOSTAGE.DROPOUT is {hp.DROPOUT}; choose a share from 0 to below 1")

    def setup(self):
        self.unfreeze(self.hp.UNFREEZE)
        self.add_low_rank(self.hp.LOW_RANK, self.hp.RANK, self.hp.ALPHA / self.hp.RANK**0.5, self.hp.DROPOUT)
        if any(parameter.dtype == torch.float16 for parameter in self.trained_parameters().values()):
            raise ValueError(
                "TRAINER.TWOSTAGE.PREC fp16 keeps a part of UNFREEZE in half precision, in which AdamW's "
                "epsilon is zero; choose amp or fp32"
            )
        if self.hp.SHARE < 1:
            self.add_head()

    def plan(self, first: dict[str, nn.Parameter]) -> list[TrainingStage]:
        if self.hp.SHARE == 1:
            return super().plan(first)
        steps = int(self.hp.SHARE * self.total_steps)
        head = {"head.weight": self.model.head.weight}
        return [self.stage(first, steps), self.stage(head, self.total_steps - steps)]

    def begin_stage(self, number: int) -> None:
        self.start_head()
