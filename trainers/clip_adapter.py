"""CLIP-Adapter: a small network after the image encoder, mixed with the features it reads.

Gao et al., "CLIP-Adapter: Better Vision-Language Models with Feature Adapters", IJCV 2024,
https://arxiv.org/abs/2110.04544.
Departures from the authors' code: the adapter has the width of the backbone's features (there: that of RN50);
the mixing ratio and the bottleneck are settings; precision is that of PREC, by default mixed on a GPU (there:
all of it in single precision, here PREC fp32). The adapter's weights are in single precision in every case.
"""

from torch import Tensor, nn

from dassl.engine import TRAINER_REGISTRY

from .base import CLIPTrainer


@TRAINER_REGISTRY.register()
class CLIPAdapter(CLIPTrainer):
    """loss = CE(logits, y) with the image features  f' = RATIO * relu(A2 relu(A1 f)) + (1 - RATIO) * f

    f are the image features as the encoder gives them, not normalized; the bottleneck has D // REDUCTION
    units, no layer has a bias. Text features are those of the hand-written prompts and never change.
    """

    registered_name = "clip_adapter"
    shapes_the_model = ("RATIO", "REDUCTION")
    contract = {"OPTIM.MAX_EPOCH": 15, "DATASET.NUM_SHOTS": 16}

    def check_cfg(self, cfg):
        super().check_cfg(cfg)
        hp = cfg.TRAINER.CLIPADAPTER
        if not 0 <= hp.RATIO <= 1:
            raise ValueError(f"TRAINER.CLIPADAPTER.RATIO is {hp.RATIO}; choose a share from 0 to 1")
        if hp.REDUCTION < 1:
            raise ValueError(f"TRAINER.CLIPADAPTER.REDUCTION is {hp.REDUCTION}; choose at least 1")

    def setup(self):
        self.w = self.hand_written_features()  # (K, D)
        features = self.w.shape[1]
        bottleneck = max(1, features // self.hp.REDUCTION)
        self.model.fc = nn.Sequential(
            nn.Linear(features, bottleneck, bias=False),
            nn.ReLU(),
            nn.Linear(bottleneck, features, bias=False),
            nn.ReLU(),
        ).to(self.device)

    def text_features(self) -> Tensor:
        return self.w

    def image_features(self, images: Tensor) -> Tensor:
        f = super().image_features(images)
        adapted = self.model.fc(f.float())  # the adapter is in fp32 whatever CLIP's precision
        return (self.hp.RATIO * adapted + (1 - self.hp.RATIO) * f).to(f.dtype)
