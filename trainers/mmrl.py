"""MMRL: tokens that both towers share, in their upper layers, with image features of their own beside CLIP's.

Guo and Gu, "MMRL: Multi-Modal Representation Learning for Vision-Language Models", CVPR 2025,
https://arxiv.org/abs/2503.08497.
Two habits of the authors' code are settings, since the printed numbers depend on them: PROJ_INIT random
starts the second image projection at random (`clip` from CLIP's own, which is the better choice), and
LOGIT_SCALE 100 takes the place of the backbone's (0 leaves it its own, better for backbones not by OpenAI).
Departures from their code: tests between epochs read the text features of that epoch, not of the first test.
"""

import copy

import torch
from torch import Tensor, nn

from clipfit.modules.casts import for_matmul
from clipfit.tokens import Tokens
from clipfit.vision import last_states
from dassl.engine import TRAINER_REGISTRY

from .base import cross_entropy, mean_distance
from .decoupled import DecoupledTrainer
from .tokens import TokenTrainer

PROJ_INITS = ("random", "clip")


@TRAINER_REGISTRY.register()
class MMRL(DecoupledTrainer, TokenTrainer):
    """loss = ALPHA * CE(s * cos(v, t), y) + (1 - ALPHA) * CE(s * cos(r, t), y)
           + LAMBDA * mean_b [1 - cos(v_b, v0_b)] + LAMBDA * mean_k [1 - cos(t_k, t0_k)]

    R (N_TOKENS, WIDTH)   learned; from layer FIRST_LAYER on, each layer l has affine maps a_l, b_l of it:
                          a_l(R) stand behind the class token of images, b_l(R) behind the start of texts
    t, v                  features of texts and of the class token, with the frozen projections
    r                     mean over the N_TOKENS tokens of an image, through a projection that trains
    t0, v0                features of untouched CLIP
    s                     LOGIT_SCALE
    test                  logits s * [ALPHA * cos(v, t) + (1 - ALPHA) * cos(r, t)] on what was trained on,
                          s * cos(v, t) on new classes and other data sets
    """

    shapes_the_model = ("N_TOKENS", "WIDTH", "FIRST_LAYER", "ALPHA", "LOGIT_SCALE")
    registered_name = "mmrl"
    contract = {
        **{"OPTIM.MAX_EPOCH": 5, "TRAINER.MMRL.FIRST_LAYER": 2},
        "TRAINER.MMRL.LOGIT_SCALE": 0.0,
    }

    def check_cfg(self, cfg):
        super().check_cfg(cfg)
        hp = cfg.TRAINER.MMRL
        self.check_at_least_one(cfg, "N_TOKENS", "WIDTH", "FIRST_LAYER")
        if not 0 <= hp.ALPHA <= 1:
            raise ValueError(f"TRAINER.MMRL.ALPHA is {hp.ALPHA}; choose a share from 0 to 1")
        if hp.PROJ_INIT not in PROJ_INITS:
            raise ValueError(f"TRAINER.MMRL.PROJ_INIT is {hp.PROJ_INIT!r}; choose {' or '.join(PROJ_INITS)}")
        self.check_logit_scale(cfg)

    def setup(self):
        image_tower, text_tower = self.clip.image_encoder, self.clip.text_encoder
        self.check_depth("FIRST_LAYER", image_tower, text_tower)
        self.set_logit_scale(self.hp.LOGIT_SCALE)
        if not self.cfg.RUN.EVAL_ONLY:
            self.t0, self.teacher = self.hand_written_features(), self.image_teacher()
        self.first = self.hp.FIRST_LAYER - 1  # as blocks are counted
        layers = [len(tower.transformer.resblocks) - self.first for tower in (image_tower, text_tower)]
        tokens = RepresentationTokens(
            *(self.hp.N_TOKENS, self.hp.WIDTH, layers, image_tower.proj),
            *(text_tower.text_projection.shape[0], self.hp.PROJ_INIT == "random"),
        )
        self.model.representation = tokens.to(self.device)
        self.remember_training()

    def text_features(self) -> Tensor:
        tokens = self.model.representation
        return self.encode_text(self.prompts.with_tokens(tokens.of(tokens.to_text), self.first))

    def image_features(self, images: Tensor) -> Tensor:
        return self.both_image_features(images)[0]

    def both_image_features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """v and r, (B, D) each and not normalized, of images (B, 3, H, W)."""
        own = self.model.representation
        tokens = Tokens(own.of(own.to_image), self.first)
        tower = self.clip.image_encoder
        states = last_states(tower, images, tokens, 1 + tokens.count)  # (B, 1 + N, W)
        v = states[:, 0] @ for_matmul(tower.proj)
        r = states[:, 1:].mean(dim=1).type(own.proj.dtype) @ own.proj
        return v, r.type(v.dtype)

    def loss(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        t = self.text_features()
        of_images, logits = self.in_micro_batches(self.losses, images, labels, t)
        return of_images + self.hp.LAMBDA * mean_distance(t, self.t0), logits

    def losses(self, images: Tensor, labels: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """All terms that read images (B, 3, H, W), and both kinds of logits (B, K) as one."""
        v, r = self.both_image_features(images)
        with torch.no_grad():
            v0 = self.teacher(images)
        z, z_r = self.clip.logits(v, t), self.clip.logits(r, t)
        entropy = self.fused(cross_entropy(z, labels), cross_entropy(z_r, labels))
        return entropy + self.hp.LAMBDA * mean_distance(v, v0), self.fused(z, z_r)

    def fused(self, of_v: Tensor, of_r: Tensor) -> Tensor:
        return self.hp.ALPHA * of_v + (1 - self.hp.ALPHA) * of_r

    def model_inference(self, images: Tensor) -> Tensor:
        with self.autocast():
            t, (v, r) = self.features_of_classes(), self.both_image_features(images)
            z = self.clip.logits(v, t)
            return self.fused(z, self.clip.logits(r, t)) if self.is_as_trained else z


class RepresentationTokens(nn.Module):
    """What is learned, in float32: R, a map per layer into each tower, and the projection of r.

    The maps into a tower start as copies of one.
    """

    def __init__(
        self, count: int, width: int, layers: list[int], proj: Tensor, text_width: int, random_proj: bool
    ):
        super().__init__()
        image_width = proj.shape[0]
        self.tokens = nn.Parameter(0.02 * torch.randn(count, width))
        to_image, to_text = nn.Linear(width, image_width), nn.Linear(width, text_width)
        self.to_image = nn.ModuleList(copy.deepcopy(to_image) for _ in range(layers[0]))
        self.to_text = nn.ModuleList(copy.deepcopy(to_text) for _ in range(layers[1]))
        start = image_width**-0.5 * torch.randn(proj.shape) if random_proj else proj.detach().float().clone()
        self.proj = nn.Parameter(start)

    def of(self, maps: nn.ModuleList) -> Tensor:
        """R by each of the maps, (layers, N, W)."""
        return torch.stack([one(self.tokens) for one in maps])
