"""KgCoOp: CoOp, with its text features held near those of hand-written prompts.

Yao et al., "Visual-Language Prompt Tuning with Knowledge-guided Context Optimization", CVPR 2023,
https://arxiv.org/abs/2303.13283.
Departures from the authors' code: the hand-written prompts are encoded in the run's precision, not always in
half; CTX_INIT and CLASS_TOKEN_POSITION mean what they mean for CoOp (there: always "a photo of a", and end).
"""

from torch import Tensor

from dassl.engine import TRAINER_REGISTRY

from .base import mean_distance
from .coop import CoOp


@TRAINER_REGISTRY.register()
class KgCoOp(CoOp):
    """loss = CE(logits, y) + W * mean_k [1 - cos(w_k, w0_k)],  w0 = text features of hand-written prompts."""

    template_column = "kgcoop"
    reads_template = True  # the hand-written prompts
    contract = {"OPTIM.MAX_EPOCH": 8}
    rebuilt = (
        *CoOp.rebuilt,
        *("bias_vectors", "meta_net.linear1.weight", "meta_net.linear1.bias"),  # the authors never train them
    )

    def setup(self):
        if not self.cfg.RUN.EVAL_ONLY:
            self.w0 = self.hand_written_features()
        super().setup()

    def loss(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        w = self.text_features()  # (K, D): one text pass serves both terms
        entropy, logits = self.cross_entropy(images, labels, w)
        return entropy + self.hp.W * mean_distance(w, self.w0), logits
