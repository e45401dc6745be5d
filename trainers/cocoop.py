"""CoCoOp: CoOp whose context is shifted by what each image shows.

Zhou et al., "Conditional Prompt Learning for Vision-Language Models", CVPR 2022,
https://arxiv.org/abs/2203.05557.
Departures from the authors' code: none. All images of a batch go through the text encoder together.
"""

from collections import OrderedDict

from torch import Tensor, nn

from clipfit.clip import normalize
from dassl.engine import TRAINER_REGISTRY

from .base import cross_entropy
from .coop import CoOp


@TRAINER_REGISTRY.register()
class CoCoOp(CoOp):
    """loss = CE(logits, y),  w_ik = text features of "[v_1 + p_i] ... [v_M + p_i] name_k." for image i,

    p_i = meta_net(f_i) = A2 relu(A1 f_i + a1) + a2 of the unit image features f_i, bottleneck D // 16.
    Each image has class features of its own, so nothing is computed ahead for a test.
    """

    node = "COCOOP"
    shapes_the_model = ("N_CTX", "CTX_INIT")
    contract = {"OPTIM.MAX_EPOCH": 3, "DATASET.NUM_SHOTS": 4}
    csc, position = False, "end"  # all classes share the context, which stands before the name

    def check_shape(self, cfg, node, hp):
        """There is nothing to choose."""

    def setup(self):
        super().setup()
        width, features = self.clip.text_encoder.text_projection.shape  # W, D
        layers = OrderedDict(
            linear1=nn.Linear(features, features // 16),
            relu=nn.ReLU(),
            linear2=nn.Linear(features // 16, width),
        )
        self.model.meta_net = nn.Sequential(layers).to(self.device, self.clip.dtype)

    def loss(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.conditional_logits(images)
        return cross_entropy(logits, labels), logits

    def conditional_logits(self, images: Tensor) -> Tensor:
        """Logits (B, K) of images (B, 3, H, W), each against the text features it brings about itself."""
        ctx = self.model.ctx  # (M, W)
        f = normalize(self.image_features(images).to(ctx.dtype))  # (B, D)
        p = self.model.meta_net(f).to(ctx.dtype)  # (B, W)
        w = self.encode_text(self.context_prompts.fill(ctx + p[:, None]))  # (B, K, D)
        return self.clip.logits(f[:, None], w).squeeze(1)

    def before_test(self):
        """No class features serve more than one image."""

    def model_inference(self, images: Tensor) -> Tensor:
        with self.autocast():
            return self.conditional_logits(images)
